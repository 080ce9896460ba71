"""The outcome of a case, a kind of fault, and the table that counts them."""

import random
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

REFUSED = "refused"  # one message, and an exit status that says so
RIGHT = "right"  # the result is that of the untouched files, or of the run that nothing happened to
LOST = "lost"  # a finished result is gone, or the same command does not resume
BELIEVED = "believed"  # what was damaged or exchanged is in the result
HUNG = "hung"  # killed by the watchdog
UNEXPECTED = "unexpected"  # a traceback, no message or several, a signal, a process or temporary file left behind
OUTCOMES = (REFUSED, RIGHT, LOST, BELIEVED, HUNG, UNEXPECTED)
VIOLATIONS = OUTCOMES[2:]


@dataclass(frozen=True)
class Case:
    """The outcome of a case.

    Attributes:
        outcome: one of `OUTCOMES`.
        what: what was done, in words.
        detail: what was seen, where it is a violation; else the message, if there was one.
    """

    outcome: str
    what: str
    detail: str = ""


class Kind(ABC):
    """A kind of fault.

    Args:
        folder: an empty or new folder to work in.
        small: with suites of a single method, for the share of the tests.

    Attributes:
        name: on the command line.
        title: in the table.
        cases: how many the long form tries, where `count` does not say so.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    cases: ClassVar[int]

    def __init__(self, folder: Path, small: bool = False):
        self.folder, self.small = folder, small
        folder.mkdir(parents=True, exist_ok=True)

    def missing(self) -> str | None:
        """Why this kind cannot be tried on this machine; None where it can."""
        return None

    def count(self) -> int:
        """How many cases the long form tries."""
        return self.cases

    @abstractmethod
    def prepare(self) -> None:
        """Make what every case needs."""

    @abstractmethod
    def attempt(self, number: int, chance: random.Random) -> Case:
        """Try a case.

        Args:
            number: of the case, from 0; where the cases are a list, its place in it.
            chance: drawn from the seed and the number.
        """

    def case(self, seed: int, number: int) -> Case:
        """Try the case of this seed and number."""
        return self.attempt(number, random.Random(f"{self.name} {seed} {number}"))


@dataclass
class Tally:
    """Cases of every kind, counted by outcome."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    violations: list[dict[str, object]] = field(default_factory=list)

    def add(self, kind: Kind, number: int, case: Case) -> None:
        """Count a case."""
        self.counts.setdefault(kind.title, Counter())[case.outcome] += 1
        if case.outcome in VIOLATIONS:
            self.violations.append({"kind": kind.name, "case": number, **vars(case)})

    def table(self) -> str:
        """The counts as a table in Markdown."""
        lines = [
            "| fault | tried | refused with one message | right result | lost | believed | hung | unexpected |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        total: Counter[str] = Counter()
        for title, counted in self.counts.items():
            lines.append(_line(title, counted))
            total += counted
        lines += [f"| {title} | skipped: {reason} | | | | | | |" for title, reason in self.skipped.items()]
        return "\n".join([*lines, _line("all", total)])


def _line(title: str, counted: Counter[str]) -> str:
    cells = [counted.total(), *(counted[outcome] for outcome in OUTCOMES)]
    return " | ".join([f"| {title}", *(f"{cell:,}" for cell in cells)]) + " |"
