"""Dropout rates in a model's configuration, all set to the same value before the model is built."""

import copy
from collections.abc import Iterator
from typing import Any

_NOT_OF_ACTIVATIONS = ("layerdrop",)  # skips whole blocks: turned off if a rate is set


def with_dropout(config: Any, rate: float) -> Any:
    """A copy of a model's configuration with the same rate for every dropout.

    Args:
        config: the transformers configuration; nested sections are included.
        rate: in 0-1; 0: no dropout at all.
    """
    changed = copy.deepcopy(config)
    for section, name in _rates(changed):
        value = 0.0 if name.endswith(_NOT_OF_ACTIVATIONS) else rate
        section[name] = value
    return changed


def has_dropout(config: Any) -> bool:
    """Whether a model's configuration has a dropout rate, even if it is 0."""
    return any(not name.endswith(_NOT_OF_ACTIVATIONS) for _, name in _rates(config))


def _rates(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every dropout rate, as the values of its section and its name there.

    Values are set bypassing the section's own checks, because MPT's allow only whole numbers.
    """
    values = config if isinstance(config, dict) else vars(config)
    for name, value in list(values.items()):
        if hasattr(value, "to_dict") or isinstance(value, dict):
            yield from _rates(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and _is_rate(name):
            yield values, name


def _is_rate(name: str) -> bool:
    """Whether a configuration's key is a dropout rate: `attention_dropout`, `resid_pdrop`, `hidden_dropout_prob`."""
    return "dropout" in name or name.endswith(("pdrop", "drop_rate", *_NOT_OF_ACTIVATIONS))
