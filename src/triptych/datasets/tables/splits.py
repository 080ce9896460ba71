"""Assign files to splits by their names, by the conventions of the Hugging Face Hub.

They are described under "File names and splits" in its documentation.

A keyword counts if it is a whole word: between the ends of a name, punctuation, underscores, blanks and digits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from triptych.contracts import SPLITS
from triptych.errors import DataError

EVAL = "eval"  # the test split on the hub; next to a split that is named test, the validation split
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
        splits: those of its keywords, `eval` among them.
        rank: 0 where the keyword is the name's last word, 1 where it comes earlier, 2 where keywords of several splits
            do.
    """

    splits: tuple[str, ...]
    rank: int


@dataclass(slots=True)
class Assignment:
    """Names by their split, those left over, and sentences on what is not plain to see."""

    named: dict[str, list[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_claim(name: str) -> SplitClaim | None:
    """What a name without its ending says; None where no keyword is in it."""
    words = [word for word in re.split(r"[\W\d_]+", name.casefold()) if word]
    found = tuple(dict.fromkeys(_KEYWORDS[word] for word in words if word in _KEYWORDS))
    if not found:
        return None
    return SplitClaim(found, 2 if len(found) > 1 else 0 if words[-1] in _KEYWORDS else 1)


def assign(claims: dict[str, SplitClaim], where: str) -> Assignment:
    """Give each split the names that claim it most plainly.

    Args:
        claims: by name, as it is shown to users.
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
                f"({', '.join(claims[chosen[0]].splits)}). Rename it after the one that it is."
            )
        made.named[split] = chosen
    used = {name for names in made.named.values() for name in names}
    made.left = [name for name in claims if name not in used]
    return made


def assign_exact(names: Sequence[str], where: str) -> Assignment:
    """Give each split the one name of a data set's splits that means it; one that is just the keyword wins.

    Raises:
        DataError: two names mean one split equally well.
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
