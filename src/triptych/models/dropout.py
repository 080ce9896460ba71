"""Dropout rates of a model, which its configuration names: set for all places alike before the model is built."""

import copy
from collections.abc import Iterator
from typing import Any

_NOT_OF_ACTIVATIONS = ("layerdrop",)  # skips whole blocks: off wherever a rate is set


def with_dropout(config: Any, rate: float) -> Any:
    """A copy of a model's configuration in which every dropout has the same rate.

    Args:
        config: of transformers, sections of it included.
        rate: in 0-1; 0: no dropout at all.
    """
    changed = copy.deepcopy(config)
    for section, name in _rates(changed):
        value = 0.0 if name.endswith(_NOT_OF_ACTIVATIONS) else rate
        section[name] = value
    return changed


def has_dropout(config: Any) -> bool:
    """Whether a model's configuration names a rate of dropout, be it 0."""
    return any(not name.endswith(_NOT_OF_ACTIVATIONS) for _, name in _rates(config))


def _rates(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every dropout rate: the values of the section that holds it, and its name there.

    Values are set past the section's own checks, since MPT's allow whole numbers alone.
    """
    values = config if isinstance(config, dict) else vars(config)
    for name, value in list(values.items()):
        if hasattr(value, "to_dict") or isinstance(value, dict):
            yield from _rates(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and _is_rate(name):
            yield values, name


def _is_rate(name: str) -> bool:
    """Whether a configuration's key is a rate of dropout: `attention_dropout`, `resid_pdrop`, `hidden_dropout_prob`."""
    return "dropout" in name or name.endswith(("pdrop", "drop_rate", *_NOT_OF_ACTIVATIONS))
