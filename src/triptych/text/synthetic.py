"""Wording for results whose model or data are built in and synthetic."""

from collections.abc import Collection
from typing import Literal

SyntheticPart = Literal["model", "data"]


def synthetic_parts(model: bool, data: bool) -> list[SyntheticPart]:
    """The names of the synthetic parts.

    Args:
        model: whether the model is synthetic.
        data: whether the data are synthetic.
    """
    parts: list[SyntheticPart] = []
    if model:
        parts.append("model")
    if data:
        parts.append("data")
    return parts


def parts_are(parts: Collection[SyntheticPart]) -> str:
    """`the model is`, `the data are` or `the model and the data are`.

    Args:
        parts: what is synthetic; not empty.
    """
    if len(parts) > 1:
        return "the model and the data are"
    return "the model is" if "model" in parts else "the data are"


def synthetic_sentence(parts: Collection[SyntheticPart]) -> str:
    """The sentence that accompanies every result of a built-in model or data set; empty for real ones.

    Args:
        parts: what is synthetic.
    """
    if not parts:
        return ""
    subject = parts_are(parts)
    real = " or ".join(name for part, name in (("model", "models"), ("data", "documents")) if part in parts)
    return (
        f"{subject[0].upper()}{subject[1:]} built in and synthetic: these results show that the pipeline "
        f"works, and say nothing about real {real}."
    )
