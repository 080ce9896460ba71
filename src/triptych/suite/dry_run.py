"""What a suite would do: its runs, documents, disk and an estimate of the time, without writing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from triptych.config.schema import Suite
from triptych.results.records import Data, DesignPlan, Parameters
from triptych.run.estimate import RunEstimate, estimate_runs
from triptych.run.preflight import CheckedSuite
from triptych.text.languages import Language


@dataclass(frozen=True)
class RowForecast:
    """What the runs of one row would take.

    Attributes:
        label, kind: of the row.
        runs: how many runs it has.
        parameters: what it trains; None: it has no model.
        targets: endings of the names of matrices that something is added to; empty: none.
        seconds: of one run, at most, from two measured optimizer steps.
        stored_bytes: of what one run stores of its trained parameters.
    """

    label: str
    kind: str
    runs: int
    parameters: Parameters | None
    targets: tuple[str, ...]
    seconds: float
    stored_bytes: int


@dataclass(frozen=True)
class DryRun:
    """What `compare` would do with a suite.

    Attributes:
        suite: the resolved suite.
        preset: the preset that its settings began from.
        out: the results folder.
        data: the documents, and what was cut or left out.
        language: what ROUGE would count.
        rows: a forecast of each row.
        design: the plan that chose the suite's sizes for a time; None: they were given, or OUT has them already.
        smaller: the suites of the data-size curve, on fewer training documents each.
    """

    suite: Suite
    preset: str
    out: Path
    data: Data
    language: Language
    rows: tuple[RowForecast, ...]
    design: DesignPlan | None = None
    smaller: tuple["DryRun", ...] = ()

    @property
    def seconds(self) -> float:
        """Of all runs of this suite, at most, one after the other; those of `smaller` come on top."""
        return sum(row.seconds * row.runs for row in self.rows)

    @property
    def stored_bytes(self) -> int:
        """Of all trained parameters of this suite; those of `smaller` come on top."""
        return sum(row.stored_bytes * row.runs for row in self.rows)


def forecast(plan: CheckedSuite, device: str | None, preset: str, out: Path) -> DryRun:
    """Measure two optimizer steps and a batch of summaries of each row, and say what the suite would take.

    Args:
        plan: the checked suite.
        device: cpu, cuda or mps; None: the best there is.
        preset: the preset that its settings began from.
        out: the results folder.
    """
    one = _forecast(plan, estimate_runs(plan, device), preset, out)
    return replace(one, smaller=tuple(forecast(each, device, preset, out) for each in plan.scaled.values()))


def _forecast(plan: CheckedSuite, estimates: Mapping[str, RunEstimate], preset: str, out: Path) -> DryRun:
    rows = []
    for entry in plan.entries:
        parameters = plan.parameters.get(entry.label)
        rows.append(
            RowForecast(
                label=entry.label,
                kind=entry.kind,
                runs=sum(planned.label == entry.label for planned, _ in plan.runs),
                parameters=parameters,
                targets=plan.targets.get(entry.label, ()),
                seconds=estimates[entry.label].seconds,
                stored_bytes=4 * parameters.num_trainable_parameters if parameters else 0,
            )
        )
    return DryRun(plan.suite, preset, out, plan.corpus.data, plan.language, tuple(rows))
