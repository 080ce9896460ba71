"""Files of a results folder are read strictly, and every reader's refusal says where the problem is and what to do."""

import json

import pytest

from triptych.errors import ResultsError
from triptych.results import json_files, reading


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"{", "line 1, is malformed"),
        (b'{\n"a": nope}', "line 2, is malformed"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": ' + b"1" * 31 + b"}", "a whole number has 31 digits, more than 30"),
        (b"[" * 100_000, "is malformed"),
        (b"\xff{}", "cannot be read"),
        (b"[]", "is not a JSON object"),
        (None, "is missing"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_place_and_remedy(content, what, tmp_path):
    """A file that is missing, not UTF-8, not JSON or not an object gives one message with the path and the remedy."""
    file = tmp_path / "file.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        json_files.read_object(file, "copy it again")
    assert what in str(caught.value) and repr(str(file)) in str(caught.value)
    assert str(caught.value).endswith(" Remedy: copy it again.")


def test_what_is_written_is_read_back(tmp_path):
    """Texts with line separators, quotes and characters beyond the basic plane are read back unchanged."""
    value = {"text": 'a\u2028b\u0085 "c" \U0001f600', "number": 10**29, "share": 0.1, "none": None, "list": [1, True]}
    json_files.write_json(tmp_path / "a.json", value)
    assert json_files.read_json(tmp_path / "a.json") == value
    json_files.write_json_lines(tmp_path / "a.jsonl", [value, {}])
    assert list(json_files.read_json_lines(tmp_path / "a.jsonl")) == [(1, value), (2, {})]
    with pytest.raises(ValueError):
        json_files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json_files.read_json(tmp_path / "a.json") == value


def test_a_cut_last_line_is_refused(tmp_path):
    """JSON lines without a final line break were truncated, even if the last line is complete JSON."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}')
    with pytest.raises(ResultsError, match="line 2, does not end its last line: the file is cut"):
        list(json_files.read_json_lines(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("record.json", lambda folder: reading.read_record(folder / "record.json")),
        ("record.json", reading.read_finished),
        ("comparison.json", reading.read_comparison),
        ("metric.json", lambda folder: reading.read_rescored(folder / "metric.json")),
        ("scored.json", reading.read_results),
    ],
)
@pytest.mark.parametrize("version", [2, "1", None])
def test_another_schema_version_is_explained_in_one_way(name, read, version, tmp_path):
    """Every reader of a file with another schema version gives that version and the supported one."""
    content = {} if version is None else {"schema_version": version}
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=f"has schema_version {version!r}, this version of triptych reads 1"):
        read(tmp_path)
