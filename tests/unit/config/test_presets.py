"""Presets are commented suite files, and settings are merged by one rule."""

import re
import tomllib

import pytest

from support.commands import suite_settings
from triptych.config import reading
from triptych.config.keys import suite_keys
from triptych.config.schema import Section, Suite, make_suite
from triptych.errors import ConfigError

# what each preset changes; everything else is the default
CHANGES = {
    "assignment": {},
    "demo": {
        "name": "demo",
        "model": "tiny",
        "data": "newswire",
        "methods": ["untuned", "lead-3", "prompt-tuning", "lora", "last-layers", "full"],
        "seeds": [0],
        "limits": {
            "train_documents": 256,
            "validation_documents": 32,
            "test_documents": 48,
            "document_tokens": 352,
            "summary_tokens": 104,
        },
        "training": {"max_epochs": 3, "global_batch_size": 4, "micro_batch_size": 4},
        "decoding": {"max_new_tokens": 96, "batch_size": 48},
        "search": {"trials": 0},
        "method": {
            "prompt-tuning": {"num_virtual_tokens": 20, "learning_rate": 0.05},
            "infix-tuning": {"num_virtual_tokens": 20},
            "full": {"learning_rate": 3e-4},
        },
    },
    "full-cnn-dailymail": {
        "name": "full-cnn-dailymail",
        "limits": {"train_documents": 0, "validation_documents": 0, "test_documents": 0, "document_tokens": 800},
        "training": {"max_epochs": 3, "eval_every": 0.25},
    },
    "quick": {
        "name": "quick",
        "seeds": [0],
        "limits": {"train_documents": 1000, "validation_documents": 200, "test_documents": 200, "document_tokens": 384},
        "training": {"max_epochs": 2, "global_batch_size": 16, "micro_batch_size": 16},
        "decoding": {"num_beams": 1, "max_new_tokens": 96, "batch_size": 64},
        "search": {"trials": 0},
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_preset_is_the_defaults_with_these_changes(name):
    """Each file resolves to the suite with these settings, and its suite is named after the file."""
    assert make_suite(reading.preset_settings(name)) == make_suite(CHANGES[name])
    assert make_suite(reading.preset_settings(name)).name == name


def test_every_preset_is_listed_here():
    """There is a file for each preset, and no other."""
    assert set(reading.presets()) == set(CHANGES) == {file.stem for file in reading.PRESET_FILES.glob("*.toml")}


@pytest.mark.parametrize("name", CHANGES)
def test_a_preset_says_what_it_is_for_and_how_it_is_run(name):
    """A file begins with its summary and the command to run it, and every table that needs one has a comment."""
    text = (reading.PRESET_FILES / f"{name}.toml").read_text()
    summary = reading.presets()[name].summary
    assert len(summary) > 40 and "\n" not in summary and summary in " ".join(re.findall(r"^# (.*)", text, re.MULTILINE))
    assert f"triptych compare --preset {name}" in text


def test_the_preset_of_the_defaults_writes_every_key_with_its_default_and_a_comment():
    """Each key is there with its default, or as a comment if it has none, and each line says what it means."""
    text = (reading.PRESET_FILES / f"{reading.DEFAULT}.toml").read_text()
    settings = tomllib.loads(text)
    names = ["", *re.findall(r"^\[(\w+)\]  +# \S", text, re.MULTILINE)]
    tables = dict(zip(names, re.split(r"^\[", text, flags=re.MULTILINE), strict=True))
    for key in suite_keys():
        section, _, name = key.name.rpartition(".")
        table = settings.get(section, {}) if section else settings
        assert re.search(rf"^(# )?{name} = .*  # \S", tables[section], re.MULTILINE), key.name
        if key.default is None:
            assert name not in table
        else:
            assert table[name] == key.default, key.name


def test_every_key_has_a_description():
    """Every key has a description, for help and for readers of the schema."""
    sections = [Suite, *(kind for kind in Section.__subclasses__() if kind.__module__ == Suite.__module__)]
    for kind in sections:
        for name, field in kind.model_fields.items():
            nested = isinstance(field.get_default(call_default_factory=True), Section) or name == "design"
            assert nested or field.description, f"{kind.__name__}.{name}"


def test_a_preset_that_is_used_is_not_changed():
    """Settings are copies: merging into them does not affect the next use."""
    reading.preset_settings("demo")["limits"]["train_documents"] = 1
    assert reading.preset_settings("demo")["limits"]["train_documents"] == 256


def test_without_files_there_are_the_defaults(monkeypatch, tmp_path):
    """A copy of the package with only `.py` files, as in a bundle, still runs a suite file."""
    monkeypatch.setattr(reading, "presets", reading.presets.__wrapped__)
    monkeypatch.setattr(reading, "PRESET_FILES", tmp_path)
    assert reading.preset_settings("assignment") == {}
    with pytest.raises(ConfigError, match=r"Unknown preset 'demo'.*assignment"):
        reading.preset_settings("demo")


def test_settings_are_laid_on_each_other_in_order(tmp_path):
    """A suite file overrides the preset, and flags and --set override the suite file, table by table."""
    file = tmp_path / "suite.toml"
    file.write_text('name = "mine"\n[limits]\ntrain_documents = 7\ntest_documents = 5\n')
    merged = reading.merge_settings(file, "demo", {"limits": {"test_documents": 3}})
    assert merged["name"] == "mine" and merged["model"] == "tiny"
    assert merged["limits"] == CHANGES["demo"]["limits"] | {"train_documents": 7, "test_documents": 3}
    given = ["compare", str(file), "--preset", "demo", "--model", "gpt2", "--seeds", "3,4", "--set"]
    flags = suite_settings([*given, "limits.test_documents=3", "limits.test_documents=2", "seeds=[5]"])
    assert flags["model"] == "gpt2" and flags["limits"]["test_documents"] == 2 and flags["seeds"] == [5]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "demo"),
        (["--methods", "lora", "--seeds", "0", "--set", "limits.train_documents=4"], "demo"),
        (["--set", "model=gpt2"], "assignment"),
        (["--model", "gpt2"], "assignment"),
        (["--data", "./mine"], "assignment"),
        (["--model", "gpt2", "--preset", "quick"], "quick"),
    ],
)
def test_the_preset_follows_from_the_model_and_the_data(arguments, name):
    """Without --preset, a suite file, a model or data starts from `assignment`; everything else from `demo`."""
    assert suite_settings(["compare", *arguments])["name"] == name
    assert reading.default_preset("suite.toml", {}) == "assignment"
    assert (
        reading.default_preset(None, {"data": "./mine"}) == "assignment" and reading.default_preset(None, {}) == "demo"
    )


@pytest.mark.parametrize("settings", [{"method": {"lora": {1: 2}}}, {"method": {1: {}}}, {1: 2}])
def test_a_key_that_is_not_a_name_is_refused(settings):
    """A key that is not a string gives a message, not a crash, whatever Python passes as settings."""
    with pytest.raises(ConfigError):
        make_suite(settings)
