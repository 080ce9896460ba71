"""Forecast what a suite would do: its runs, documents, disk and estimated time, without writing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from triptych.config.schema import Suite
from triptych.results.records import Data, DesignPlan, Parameters
from triptych.run.estimate import MethodTimes, estimate_run, time_entries
from triptych.run.events import EstimateEvent, Listener
from triptych.run.plan import SuitePlan
from triptych.run.preflight import CheckedSuite
from triptych.text.languages import Language


@dataclass(frozen=True)
class RowForecast:
    """What the runs of one method would need.

    Attributes:
        label, kind: label and kind of the method.
        runs: the number of runs.
        parameters: the parameters that it trains; None: it has no model.
        targets: endings of the names of matrices that something is added to; empty: none.
        seconds: an upper estimate for one run, from a few timed documents; None: not timed.
        stored_bytes: bytes of trained parameters that one run stores.
    """

    label: str
    kind: str
    runs: int
    parameters: Parameters | None
    targets: tuple[str, ...]
    seconds: float | None
    stored_bytes: int


@dataclass(frozen=True)
class DryRun:
    """What `compare` would do with a suite.

    Attributes:
        suite: the resolved suite.
        preset: the preset that its settings started from.
        out: the results folder.
        data: the documents, and what was cut or left out.
        language: the language that ROUGE would use.
        rows: a forecast for each method.
        plan: the same as plain data, with an example pair and the columns that are read.
        design: the plan that chose the suite's sizes for a time; None: they were given, or OUT has them already.
        smaller: the suites of the data-size curve, on fewer training documents each.
        refusal: why `compare` would not write to `out`, such as another suite there; None: it would.
    """

    suite: Suite
    preset: str
    out: Path
    data: Data
    language: Language
    rows: tuple[RowForecast, ...]
    plan: SuitePlan
    design: DesignPlan | None = None
    smaller: tuple["DryRun", ...] = ()
    refusal: str | None = None

    @property
    def seconds(self) -> float | None:
        """An upper estimate for all runs, one after another, without those of `smaller`; None: not timed."""
        times = [None if row.seconds is None else row.seconds * row.runs for row in self.rows]
        return None if None in times else sum(filter(None, times))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all trained parameters of this suite, without those of `smaller`."""
        return self.plan.stored_bytes


def forecast(checked: CheckedSuite, plan: SuitePlan, device: str | None, timing: bool, listener: Listener) -> DryRun:
    """Time a few documents with each method, and forecast the suite and those of its data-size curve.

    Args:
        checked: the checked suite.
        plan: the plan of the suite.
        device: cpu, cuda or mps; None: the best there is.
        timing: False: nothing is timed, and no time is forecast.
        listener: called with each method's estimate as it is made.
    """
    number = len(checked.entries)
    entries = {entry.label: (index, entry) for index, entry in enumerate(checked.entries)}

    def report(label: str, times: MethodTimes) -> None:
        index, entry = entries[label]
        seconds = estimate_run(checked, entry, times).seconds
        listener(None, EstimateEvent(label=label, seconds=seconds, index=index, total=number))

    times = time_entries(checked, device, report) if timing else {}
    smaller = zip(checked.scaled.values(), plan.smaller, strict=True)
    found = _scaled(checked, plan, times)
    return replace(found, smaller=tuple(_scaled(each, planned, times) for each, planned in smaller))


def _scaled(checked: CheckedSuite, plan: SuitePlan, times: Mapping[str, MethodTimes]) -> DryRun:
    """The forecast of one suite from the times of its methods, which may be empty."""
    seconds = {
        entry.label: estimate_run(checked, entry, times[entry.label]).seconds for entry in checked.entries if times
    }
    rows = tuple(
        RowForecast(
            label=row.label,
            kind=row.kind,
            runs=len(row.seeds),
            parameters=checked.parameters.get(row.label),
            targets=row.targets,
            seconds=seconds.get(row.label),
            stored_bytes=row.stored_bytes,
        )
        for row in plan.rows
    )
    return DryRun(plan.suite, plan.preset, Path(plan.out), checked.corpus.data, checked.language, rows, plan)
