"""Every key can be found: in a list, on a page, in a starter file, and by the name other tools give it."""

import re
import tomllib

import pytest

import keys_page
from triptych import api, cli
from triptych.config import reading
from triptych.config.keys import keys_of, sections, suite_keys, suite_text
from triptych.config.schema import Section, Suite, make_suite
from triptych.contracts import Method
from triptych.errors import ConfigError
from triptych.foreign_names import FOREIGN_NAMES
from triptych.registry import registered
from triptych.run import entries


def test_the_page_is_up_to_date():
    """docs/keys.md matches the models."""
    assert keys_page.PAGE.read_text() == keys_page.page(), f"run `{keys_page.COMMAND}`"


def test_every_key_says_what_it_means_and_takes():
    """Every key has a description and its accepted values, and every section says what it is for."""
    for key in api.list_keys():
        assert key.description and key.allowed, key.name
    inside = {name for name, field in Suite.model_fields.items() if isinstance(field.get_default(), Section)}
    assert {name for name, purpose in sections().items() if purpose} == inside


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("training.max_epochs", "a whole number from 1"),
        ("training.micro_batch_size", 'a whole number from 1, or "auto"'),
        ("training.warmup_fraction", "a number from 0 and below 1"),
        ("training.optimizer", '"adamw" or "adafactor"'),
        ("split.fractions", "a list of 3 numbers"),
        ("seeds", "a list of whole numbers"),
        ("engine.plain", "true or false"),
        ("columns.id", "text, or not set"),
    ],
)
def test_the_values_of_a_key_are_in_words(name, values):
    """The values of a key are described in words."""
    assert {key.name: key.allowed for key in suite_keys()}[name] == values


def test_a_suite_file_has_every_key_and_sets_those_given_alone():
    """The text is TOML that resolves to the given settings; every other key is there as a comment with its default."""
    given = {
        "model": "tiny",
        "data": "./mine",
        "columns": {"document": 'Main "text"', "summary": "the gist\n"},
        "limits": {"document_tokens": 357},
        "method": {"lora": {"rank": 4, "target_modules": ["c_attn"]}},
    }
    text = suite_text(given, "a head\n\nof lines", registered(Method))
    assert make_suite(tomllib.loads(text)) == make_suite(given)
    commented = "\n".join(line.removeprefix("# ") for line in text.splitlines())
    for key in suite_keys():
        assert f"\n{key.name.rpartition('.')[2]} =" in commented, key.name
    for kind, cls in registered(Method).items():
        section = commented[commented.index(f"[method.{kind}]") :].partition("\n[")[0]
        for key in keys_of(cls):
            assert f"\n{key.name} =" in section, (kind, key.name)
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_suite_file_without_its_comment_signs_is_the_defaults():
    """Uncommenting a key changes nothing: it is written with its default."""
    wanted = Suite().model_dump(mode="json")
    for line in suite_text({}, "", {}).splitlines():
        written = re.fullmatch(r"# (\w+ = [^#\s].*)", line)
        if written:
            key, value = next(iter(tomllib.loads(written[1]).items()))
            homes = [wanted, *(section for section in wanted.values() if isinstance(section, dict))]
            assert any(home.get(key) == value for home in homes if key in home), line


def test_every_name_of_another_tool_is_answered_with_keys_that_there_are():
    """The keys that a hint names exist, as keys of the suite or as an option of some method."""
    keys = {key.name for key in suite_keys()}
    options = {f"method.LABEL.{name}" for cls in registered(Method).values() for name in cls.model_fields}
    for name, meant in FOREIGN_NAMES.items():
        assert set(meant.keys) <= keys | options, name


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("training.learning_rate", "'method.LABEL.learning_rate'"),
        ("learning_rate", "such as method.lora.learning_rate=0.001"),
        ("search.learning_rate", "'method.LABEL.learning_rates'"),
        ("method.lora.r", "In Triptych it is 'method.lora.rank'."),
        ("method.lora.lora_alpha", "In Triptych it is 'method.lora.alpha'."),
        ("lora_alpha", "'method.LABEL.alpha'"),
        ("training.gradient_accumulation_steps", "'training.global_batch_size' and 'training.micro_batch_size'"),
        ("per_device_train_batch_size", "'training.micro_batch_size'"),
        ("num_train_epochs", "'training.max_epochs'"),
        ("training.max_steps", "'training.max_epochs' and 'limits.train_documents'"),
        ("max_length", "'limits.document_tokens' and 'limits.summary_tokens'"),
        ("lora", "--set method.lora.KEY=VALUE"),
        ("num_beams", "Did you mean 'decoding.num_beams'?"),
        ("training.train_documents", "'limits.train_documents' or 'scaling.train_documents'"),
        ("training.max_epoch", "Did you mean 'max_epochs'?"),
    ],
)
def test_a_key_that_is_not_ours_is_answered_with_ours(key, answer):
    """A name from transformers, peft or trl, a key of another section and a mistyped one each get a specific answer."""
    with pytest.raises(ConfigError) as refused:
        entries.resolve(reading.parse_setting(f"{key}=4"))
    assert f"Unknown key {key!r}" in str(refused.value) and answer in str(refused.value)


def test_list_keys_shows_all_or_some(capsys):
    """`list keys` prints every key with default, values and meaning; part of a name filters, and no match is an
    error."""
    assert cli.main(["list", "keys"]) == 0
    text = capsys.readouterr().out
    for key in api.list_keys():
        assert f"  {key.name} (default " in text
    assert cli.main(["list", "keys", "lora.rank", "patience"]) == 0
    text = capsys.readouterr().out
    assert "method.lora.rank (default 8): R, the inner dimension\n      a whole number from 1" in text
    assert "training.patience" in text and "max_epochs" not in text
    assert cli.main(["list", "keys", "lora_alpha"]) == 2
    assert "In Triptych it is 'method.LABEL.alpha'" in capsys.readouterr().err
