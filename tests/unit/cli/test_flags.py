"""Options that would have no effect are refused, with what to do instead."""

import pytest

from support.folders import write_results
from triptych import cli
from triptych.config.schema import Suite
from triptych.errors import ConfigError
from triptych.run import entries


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["summarize", "out", "--text", "x", "--column", "body"], "give it without --file, --out and --column"),
        (["summarize", "out", "--text", "x", "--overwrite"], "--overwrite replaces the file of --out"),
        (["summarize", "out", "--file", "x", "--out", "made.csv", "--json"], "--json prints lines of JSON"),
        (["advise", "out", "--model", "gpt2"], "give --export DIR"),
        (["list", "keys", "--set", "columns.id=a"], "--set belongs to `triptych list data DIR`"),
        (["train", "lora", "--lock", "out", "0"], "--lock is for programs, and needs --events"),
        (["train", "lora", "--methods", ","], "at least one method is needed"),
        (["train", "lora", "out/suite.json", "--seeds", "0,0"], "A seed is given twice: 0, 0"),
        (["compare", "--run-gpus", "1"], "are for --executor ray"),
        (["compare", "--dry-run", "--run-gpus", "1"], "are for --executor ray"),
        (["compare", "--executor", "ray", "--run-gpus", "nan"], "numbers of 0 or more are needed"),
        (["compare", "--executor", "ray", "--run-cpus", "-1"], "numbers of 0 or more are needed"),
        (["compare", "--executor", "ray://"], "give local, ray (a cluster on this machine) or ray://HOST:PORT"),
    ],
    ids=" ".join,
)
def test_an_option_without_an_effect_is_refused(arguments, said, tmp_path, monkeypatch, capsys):
    """It is refused before anything is read or written, instead of being ignored."""
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", model="tiny", data="newswire")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_seeds_are_chosen_once():
    """A method's seeds are those requested, each once, or all that the suite plans for it."""
    suite = Suite(methods=("lora", "lead-3"), seeds=(3, 1))
    lora, lead = entries.suite_entries(suite)
    assert list(entries.choose_seeds(suite, lora, None)) == [3, 1]
    assert list(entries.choose_seeds(suite, lead, None)) == [3]
    assert list(entries.choose_seeds(suite, lora, [1])) == [1]
    with pytest.raises(ConfigError, match="A seed is given twice: 1, 1"):
        entries.choose_seeds(suite, lora, [1, 1])
