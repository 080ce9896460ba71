"""The outcome of a case, the base class of kinds of fault, and the table of counts."""

import random
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

REFUSED = "refused"  # one message and a matching exit status
RIGHT = "right"  # the result is that of the untouched files or the undisturbed run
LOST = "lost"  # a finished result is gone, or the same command does not resume
BELIEVED = "believed"  # damaged or exchanged data is in the result
HUNG = "hung"  # killed by the watchdog
UNEXPECTED = "unexpected"  # a traceback, no message or several, a signal, or a process or temporary file left behind
OUTCOMES = (REFUSED, RIGHT, LOST, BELIEVED, HUNG, UNEXPECTED)
VIOLATIONS = OUTCOMES[2:]


@dataclass(frozen=True)
class Case:
    """The outcome of a case.

    Attributes:
        outcome: one of `OUTCOMES`.
        what: what was done, in words.
        detail: what was observed, for a violation; otherwise the message, if any.
    """

    outcome: str
    what: str
    detail: str = ""


class Kind(ABC):
    """A kind of fault.

    Args:
        folder: an empty or new folder to work in.
        small: whether to use suites with a single method, for the test suite.

    Attributes:
        name: the name on the command line.
        title: the title in the table.
        cases: the number of cases in the long form, unless `count` is overridden.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    cases: ClassVar[int]

    def __init__(self, folder: Path, small: bool = False):
        self.folder, self.small = folder, small
        folder.mkdir(parents=True, exist_ok=True)

    def missing(self) -> str | None:
        """Why this kind cannot be tried on this machine; None if it can."""
        return None

    def count(self) -> int:
        """The number of cases in the long form."""
        return self.cases

    @abstractmethod
    def prepare(self) -> None:
        """Make what every case needs."""

    @abstractmethod
    def attempt(self, number: int, chance: random.Random) -> Case:
        """Try a case.

        Args:
            number: the number of the case, from 0; if the cases are a list, the index into it.
            chance: random generator, seeded with the seed and the number.
        """

    def case(self, seed: int, number: int) -> Case:
        """Try the case with this seed and number."""
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
        """The counts as a Markdown table."""
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
