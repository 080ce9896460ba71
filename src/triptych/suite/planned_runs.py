"""The runs of a suite, each as a command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.results import layout
from triptych.results.resuming import options_for
from triptych.run.entries import SuiteEntry
from triptych.run.events import RunId
from triptych.run.preflight import CheckedSuite
from triptych.run.search import first_rates
from triptych.suite.executors import Job


@dataclass(frozen=True)
class PlannedRun:
    """A run of a suite.

    Attributes:
        suite: the resolved suite.
        out: the results folder.
        entry: what is run.
        seed: the seed.
        name: the entry's label, with the number of documents if that is not the suite's own.
    """

    suite: Suite
    out: Path
    entry: SuiteEntry
    seed: int
    name: str

    @property
    def id(self) -> RunId:
        """The identity of the run in its events."""
        return RunId(self.name, self.seed)

    def job(
        self, device: str | None, plugins: Sequence[str], index: int = 0, total: int = 1, searches: bool = True
    ) -> Job:
        """The run as a command, the `index`th (from 0) of `total`; it has trials only if it `searches`."""
        out, label = self.out.resolve(), self.entry.label
        arguments = ["train", label, str(out / "suite.json"), "--seeds", str(self.seed), "--out", str(out), "--events"]
        arguments += ["--device", device] if device else []
        arguments += options_for(plugins)
        trials = tuple(
            Job(
                RunId(f"{self.name} at {rate:g}", self.seed),
                self.name,
                (*arguments, "--trial", repr(rate)),
                layout.trials_folder(out, label),
                index,
                total,
            )
            for rate in (self.rates_to_try() if searches else ())
        )
        folder = layout.run_folder(out, label, self.seed)
        return Job(self.id, self.name, tuple(arguments), folder, index, total, trials)

    def rates_to_try(self) -> list[float]:
        """The learning rates of the first round of the entry's search, if it has not been made yet."""
        if not self.entry.trains or layout.search_file(self.out, self.entry.label).exists():
            return []
        assert isinstance(self.entry.plugin, Method)
        grid = first_rates(self.suite, self.entry.plugin)
        return list(grid) if len(grid) > 1 else []


def list_runs(plan: CheckedSuite, out: Path) -> list[PlannedRun]:
    """Every run of a suite in order: its own, then those on fewer training documents."""
    found = [PlannedRun(plan.suite, out, entry, seed, entry.label) for entry, seed in plan.runs]
    for size, smaller in plan.scaled.items():
        folder = layout.scaled_folder(out, size)
        for entry, seed in smaller.runs:
            found.append(PlannedRun(smaller.suite, folder, entry, seed, f"{entry.label} on {size} documents"))
    return found
