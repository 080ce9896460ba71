"""The command that resumes a results folder names the plug-ins of its runs."""

import json

import pytest

from support.folders import edit, write_results
from triptych.analysis.comparison import compare_results
from triptych.errors import ResultsError
from triptych.planning.planner import plan
from triptych.results.integrity import remedy
from triptych.results.reading import read_results
from triptych.results.resuming import plugin_options, plugins_in, resuming
from triptych.use.find_run import how_to_use


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("triptych compare --plugin a.py --plugin='b c.py' && triptych compare OUT --plugin a.py", ["a.py", "b c.py"]),
        ("triptych compare --plugin", []),
        ("triptych compare '", []),
        ("", []),
    ],
)
def test_plug_ins_are_found_in_a_command(command, files):
    """Plug-ins are found however they are written, each once; an unparsable command has none."""
    assert plugins_in(command) == files


def test_the_command_that_was_kept_comes_before_those_of_records(tmp_path):
    """`command.json` names plug-ins as the user gave them; without it, the first readable record is used."""
    out = write_results(tmp_path / "out", methods=("lora",), seeds=(0,))
    assert plugin_options(out) == []
    record = out / "runs/lora/0/record.json"
    edit(record, lambda data: data["provenance"].update(command="triptych train lora --plugin mine.py"))
    assert resuming(out) == f"triptych compare {out} --plugin mine.py"
    (out / "command.json").write_text(json.dumps({"command": "triptych compare --plugin src/mine.py"}))
    assert plugin_options(out) == ["--plugin", "src/mine.py"]
    for text in ("[]", "{", '{"command": 3}'):
        (out / "command.json").write_text(text)
        assert plugin_options(out) == ["--plugin", "mine.py"]
    record.write_text("{")
    assert plugin_options(out) == []


def test_every_command_that_is_printed_has_the_plug_ins(tmp_path):
    """The commands printed by a plan, by messages about an unfinished or damaged folder, and by advice run as
    printed."""
    out = write_results(tmp_path / "out", seeds=(0, 1, 2))
    (out / "command.json").write_text(json.dumps({"command": "triptych compare --plugin mine.py"}))
    made = plan(pilots=[out], within="40min")
    assert made.command.startswith(f"triptych compare {out} --plugin mine.py --set")
    results = read_results(out)
    assert compare_results(results).rows
    said = how_to_use(results, "lora", [out / "runs/lora/0"])
    assert f"summarize {out}/runs/lora/0 --file FILE --plugin mine.py" in said
    assert f"export {out}/runs/lora/0 DIR --plugin mine.py" in said
    for file in ("suite.json", "runs/lora/1/record.json"):
        assert "--plugin mine.py" in remedy(out / file)
    (out / "runs/lora/1/record.json").unlink()
    with pytest.raises(ResultsError, match=r"has not finished.*--plugin mine\.py"):
        read_results(out)
