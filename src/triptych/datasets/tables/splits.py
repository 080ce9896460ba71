"""Assign files to splits by name, following the conventions of the Hugging Face Hub.

The conventions are described under "File names and splits" in its documentation.

A keyword counts only as a whole word, delimited by the ends of the name, punctuation, underscores, spaces or digits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from triptych.contracts import SPLITS
from triptych.errors import DataError

EVAL = "eval"  # the test split on the Hub; the validation split if there is a split named test
_KEYWORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": EVAL,
    "evaluation": EVAL,
}


@dataclass(frozen=True, slots=True)
class SplitClaim:
    """The splits that a name refers to.

    Attributes:
        splits: the splits of its keywords; may include `eval`.
        rank: 0 if the keyword is the name's last word, 1 if it comes earlier, 2 if there are keywords of several
            splits.
    """

    splits: tuple[str, ...]
    rank: int


@dataclass(slots=True)
class Assignment:
    """Names by split, the names left over, and sentences about what is not obvious."""

    named: dict[str, list[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_claim(name: str) -> SplitClaim | None:
    """The splits that a name without its extension claims; None if it has no keyword."""
    words = [word for word in re.split(r"[\W\d_]+", name.casefold()) if word]
    found = tuple(dict.fromkeys(_KEYWORDS[word] for word in words if word in _KEYWORDS))
    if not found:
        return None
    return SplitClaim(found, 2 if len(found) > 1 else 0 if words[-1] in _KEYWORDS else 1)


def assign(claims: dict[str, SplitClaim], where: str) -> Assignment:
    """Give each split the names that claim it most clearly.

    Args:
        claims: the claims by name, as shown to users.
        where: the folder or data set, for messages.

    Raises:
        DataError: only names with keywords of several splits claim a split.
    """
    made = Assignment()
    groups = {
        split: [name for name, made_claim in claims.items() if split in made_claim.splits] for split in (*SPLITS, EVAL)
    }
    evaluation = [name for name in groups.pop(EVAL) if claims[name].rank < 2]
    if evaluation:
        tests = [name for name in groups["test"] if claims[name].rank < 2]
        validated = any(claims[name].rank < 2 for name in groups["validation"])
        target = "validation" if tests and not validated else "test"
        groups[target] = [*groups[target], *evaluation]
        reason = f"since {_listed(tests)} is the test split" if target == "validation" else "as on the Hugging Face hub"
        made.notes.append(f"{_listed(evaluation)} is read as the {target} split, {reason}.")
    for split, names in groups.items():
        if not names:
            continue
        best = min(claims[name].rank for name in names)
        chosen = [name for name in names if claims[name].rank == best]
        if best == 2:
            raise DataError(
                f"{where}: {_listed(chosen)} has keywords of several splits in its name "
                f"({', '.join(claims[chosen[0]].splits)}). Rename it after one of them."
            )
        made.named[split] = chosen
    used = {name for names in made.named.values() for name in names}
    made.left = [name for name in claims if name not in used]
    return made


def assign_exact(names: Sequence[str], where: str) -> Assignment:
    """Give each split the matching name among a data set's splits; a name that is just the keyword wins.

    Raises:
        DataError: two names match a split equally well.
    """
    claims: dict[str, SplitClaim] = {}
    for name in names:
        made = read_claim(name)
        if made is not None:
            claims[name] = made if made.rank == 2 else SplitClaim(made.splits, int(name.casefold() not in _KEYWORDS))
    made_assignment = assign(claims, where)
    for split, chosen in made_assignment.named.items():
        if len(chosen) > 1:
            raise DataError(
                f"{where} has {'two' if len(chosen) == 2 else 'several'} {split} splits, {', '.join(chosen)}, of "
                f"{', '.join(names)}. Give a folder of files instead."
            )
    made_assignment.left = [
        name for name in names if name not in {n for c in made_assignment.named.values() for n in c}
    ]
    return made_assignment


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
