"""Commands can be found: by shell completion, by a hint for a mistyped one, by the help that a bare call prints."""

import json
import shutil
import subprocess

import pytest

from triptych import api, cli
from triptych.cli.commands import make_parser
from triptych.cli.completion import SHELLS, completion_script


def completed(words: list[str]) -> set[str]:
    """What bash offers to complete the last of these words."""
    keys = [key.name for key in api.list_keys()]
    script = completion_script("bash", make_parser(), keys)
    line = " ".join(f"'{word}'" for word in words)
    program = (
        f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _triptych; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    found = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=30)
    assert found.returncode == 0 and not found.stderr
    return set(found.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["triptych", "com"], {"compare"}),
        (["triptych", "compare", "--dry"], {"--dry-run"}),
        (["triptych", "compare", "--device", "c"], {"cpu", "cuda"}),
        (["triptych", "compare", "--preset", "de"], {"demo"}),
        (["triptych", "train", "--methods", "prompt"], {"prompt-tuning"}),
        (["triptych", "compare", "--methods", "le"], {"lead-3"}),
        (["triptych", "compare", "--preset", "ful"], {"full-cnn-dailymail"}),
        (["triptych", "compare", "--set", "limits.train"], {"limits.train_documents="}),
        (["triptych", "compare", "--set", "seeds=1", "method.lora.ra"], {"method.lora.rank="}),
        (["triptych", "compare", "--set", "seeds=1", "--dry"], {"--dry-run"}),
        (["triptych", "list", "da"], {"data"}),
        (["triptych", "--completion", "z"], {"zsh"}),
    ],
)
def test_bash_completes_commands_options_values_and_keys(words, offered, tmp_path, monkeypatch):
    """Only valid continuations are offered: no file where one of a few words is expected."""
    monkeypatch.chdir(tmp_path)
    for name in ("cpu.txt", "demo-data", "lead-3.csv", "fully.txt"):
        (tmp_path / name).write_text("")
    assert completed(words) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_files(tmp_path, monkeypatch):
    """Files are offered where a file is valid."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.toml").write_text("")
    assert completed(["triptych", "compare", "sui"]) == {"suite.toml"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_says_how_it_is_used(shell, capsys):
    """The option prints the script and where its line belongs; the script has every command."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["--completion", shell])
    script = capsys.readouterr().out
    assert not stop.value.code and f"triptych --completion {shell}" in script and "limits.train_documents=" in script
    assert all(f"{command}) words=" in script for command in ("compare", "train", "list", "env"))


def test_a_bare_call_prints_the_help(capsys):
    """`triptych` alone prints help and is not an error."""
    assert cli.main([]) == 0
    assert "usage: triptych" in capsys.readouterr().out


def test_a_mistyped_command_gets_a_hint(capsys):
    """The nearest command is suggested, with status 2."""
    assert cli.main(["compar", "--dry-run"]) == 2
    assert "Unknown command 'compar'. Did you mean 'compare'?" in capsys.readouterr().err


def test_env_says_what_a_bug_report_needs_and_no_path(capsys, monkeypatch, tmp_path):
    """Versions, hardware and device are printed, also as JSON; whether folders are set, but not where they are."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "secret"))
    assert cli.main(["env", "--json"]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert {"triptych", "python", "torch", "transformers", "cores", "memory_bytes", "device", "precision"} <= set(found)
    assert found["environment"]["HF_HOME"] is True and "secret" not in text
    assert cli.main(["env"]) == 0
    said = capsys.readouterr().out
    assert f"torch: {found['torch']}" in said and "HF_HOME is set" in said and "{" not in said
