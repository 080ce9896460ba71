"""Incompatible settings are refused, and suite files of earlier versions load."""

import re

import pytest

from triptych.config.reading import parse_settings
from triptych.config.schema import PromptSettings, make_suite
from triptych.contracts import Method
from triptych.errors import ConfigError
from triptych.registry import build, find


def test_the_least_length_of_a_summary_is_at_most_the_most():
    """`decoding.min_new_tokens` above `max_new_tokens` is refused, with both numbers."""
    assert make_suite({"decoding": {"min_new_tokens": 128}}).decoding.min_new_tokens == 128
    with pytest.raises(ConfigError, match=r"decoding.*min_new_tokens 20 is above max_new_tokens 10"):
        make_suite({"decoding": {"max_new_tokens": 10, "min_new_tokens": 20}})


def test_a_suite_without_a_prompt_is_asked_by_its_separator():
    """Suite files that have only `separator` keep their meaning."""
    suite = make_suite({"separator": " =>"})
    assert suite.separator == " =>" and suite.prompt == PromptSettings(before="", chat=False)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"training": {"max_epochs": True}}, "training.max_epochs"),
        ({"training": {"micro_batch_size": True}}, "training.micro_batch_size"),
        ({"training": {"dropout": False}}, "training.dropout"),
        ({"analysis": {"margin": True}}, "analysis.margin"),
        ({"seeds": [0, True]}, "seeds"),
        ({"split": {"fractions": [True, 0.1, 0.1]}}, "split.fractions"),
    ],
)
def test_true_and_false_are_no_numbers(settings, key):
    """Numbers cannot be given as true or false; a boolean key takes them."""
    with pytest.raises(ConfigError, match=f"'{key}' is .*(True|False).*: a number is needed, not true or false"):
        make_suite(settings)
    assert make_suite({"engine": {"plain": True}, "training": {"micro_batch_size": "auto"}}).engine.plain


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"limits": {"train_documents": 10**34}}, "limits.train_documents"), ({"seeds": [0, 10**34]}, "seeds")],
)
def test_endless_numbers_are_refused_by_their_key(settings, key):
    """A number with more digits than a record may hold is refused before anything is written."""
    with pytest.raises(ConfigError, match=f"'{key}' is .*: a whole number of at most 30 digits is needed"):
        make_suite(settings)


def test_names_fit_a_file_system():
    """File systems limit bytes, of which a character has up to four."""
    wide = "\N{CJK UNIFIED IDEOGRAPH-6F22}"
    assert make_suite({"name": wide * 66, "methods": [wide * 66], "method": {wide * 66: {"kind": "lora"}}}).name
    for settings in ({"name": wide * 67}, {"methods": [wide * 67]}):
        with pytest.raises(ConfigError, match="200 bytes"):
            make_suite(settings)


def test_true_is_no_number_of_a_methods_options():
    """A method's options are read like the suite's keys."""
    with pytest.raises(ConfigError, match=r"'method.lora.rank' is True: a number is needed"):
        build(find(Method, "lora"), {"rank": True}, "method.lora")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("methods=lora", """a list is needed, such as ["lora"]"""),
        ("engine.plain=maybe", "true or false is needed"),
        ("training.max_epochs=1.5", "a whole number is needed"),
        ("training.max_epochs=many", "a whole number is needed"),
        ("analysis.margin=[1]", "a number is needed"),
        ("limits=5", "a table of keys is needed"),
        ("method.lora=5", "a table of keys is needed"),
        ("report.title=2026", """text is needed: put it in quotes, which a shell keeps if written '"2026"'"""),
    ],
)
def test_a_value_of_another_type_is_answered_in_plain_words(setting, said):
    """What is needed is said in the words of a suite file, not in those of Python."""
    key, _, _ = setting.partition("=")
    with pytest.raises(ConfigError, match=re.escape(f"{key!r} is ") + ".*" + re.escape(f": {said}.") + "$"):
        make_suite(parse_settings([setting]))


@pytest.mark.parametrize("date", ["2026-11-28", "2026-11-28 10:00:00", "10:00:00", "25 October 2024"])
def test_a_date_is_text(date):
    """`--set report.date=2026-11-28` is the text that was written, although TOML has dates."""
    assert make_suite(parse_settings([f"report.date={date}"])).report.date == date


def test_the_known_languages_are_listed_once():
    """An unknown language is answered with the nearest one and one list."""
    with pytest.raises(ConfigError, match=r"Did you mean 'german'\? Known: any, arabic") as error:
        make_suite({"rouge": {"language": "germn"}})
    assert str(error.value).count("Known:") == 1
