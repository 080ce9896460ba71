"""Settings that do not fit together are refused, and a suite file of before loads."""

import pytest

from triptych.config.schema import PromptSettings, make_suite
from triptych.errors import ConfigError


def test_the_least_length_of_a_summary_is_at_most_the_most():
    """`decoding.min_new_tokens` above `max_new_tokens` is refused, with both numbers."""
    assert make_suite({"decoding": {"min_new_tokens": 128}}).decoding.min_new_tokens == 128
    with pytest.raises(ConfigError, match=r"decoding.*min_new_tokens 20 is above max_new_tokens 10"):
        make_suite({"decoding": {"max_new_tokens": 10, "min_new_tokens": 20}})


def test_a_suite_without_a_prompt_is_asked_by_its_separator():
    """Suite files that know only `separator` mean what they meant."""
    suite = make_suite({"separator": " =>"})
    assert suite.separator == " =>" and suite.prompt == PromptSettings(before="", chat=False)
