"""Extend the suite of a results folder with further methods and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triptych.config.schema import Suite, make_suite
from triptych.run.entries import is_as_designed
from triptych.text import formats


@dataclass(frozen=True)
class Growth:
    """How a results folder's suite is extended.

    Attributes:
        suite: the suite with the methods and seeds of both, those of the folder first: its first seed is that of every
            search and of methods that do not train.
        changes: sentences about what is added, and about what the folder has in addition.
    """

    suite: Suite
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unlike:
    """A setting that must be the same within a results folder but is not: its dotted name and both values."""

    key: str
    there: Any
    wanted: Any


def grow(there: Suite, wanted: Suite) -> Growth | Unlike:
    """Add the methods and seeds of a suite to those of a results folder.

    Methods and seeds are only ever added: those of the folder that are not requested stay, finished or not. The
    settings of the report replace those of the folder, since no run depends on them; an empty one keeps what is there.

    Args:
        there: the suite of the folder.
        wanted: the requested suite.

    Returns:
        The folder's extended suite; or the first setting in which runs of one table would differ.
    """
    old, new = (one.model_dump(mode="json") for one in (there, wanted))
    grown = old | {key: list(dict.fromkeys([*old[key], *new[key]])) for key in ("methods", "seeds")}
    grown["method"] = old["method"] | {label: of for label, of in new["method"].items() if label not in old["method"]}
    grown["report"] = old["report"] | {key: text for key, text in new["report"].items() if text}  # changes no run
    alike = new | {key: grown[key] for key in ("methods", "seeds", "report")}
    alike["method"] = grown["method"] | new["method"]
    alike["design"] = new["design"] or old["design"]  # a suite given by its sizes says nothing about their origin
    if found := _difference(grown, alike):
        return found
    suite = make_suite(grown)
    suite = suite if is_as_designed(suite) else suite.model_copy(update={"design": None})
    return Growth(suite, tuple(_sentences(old, new)))


def _sentences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    changes = []
    for key, word in (("methods", "method"), ("seeds", "seed")):
        added = [one for one in new[key] if one not in old[key]]
        kept = [one for one in old[key] if one not in new[key]]
        if added:
            changes.append(f"Added to the comparison: the {_named(word, added)}.")
        if kept:
            changes.append(
                f"The results folder also has the {_named(word, kept)}. A comparison only grows: these stay in it, "
                "and compare finishes what is not done."
            )
    return changes


def _named(word: str, values: Sequence[Any]) -> str:
    return f"{word if len(values) == 1 else f'{word}s'} {formats.listed([str(value) for value in values])}"


def _difference(there: Any, wanted: Any, key: str = "") -> Unlike | None:
    """The first place where two settings differ."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*there, *wanted]):
            place = f"{key}.{name}" if key else str(name)
            if found := _difference(there.get(name), wanted.get(name), place):
                return found
        return None
    return None if there == wanted else Unlike(key, there, wanted)
