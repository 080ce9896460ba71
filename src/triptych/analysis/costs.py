"""Extrapolate from measured runs how many seconds a method's runs take in a design of another size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.config.schedule import num_evaluations
from triptych.results.reading import Results, SavedRun

CLOCKS = ("startup", "preparation", "compile", "search", "train", "evaluation", "generation", "checkpoint")


@dataclass(frozen=True)
class Size:
    """The size of a design, the same for every method.

    Attributes:
        train_documents: training pairs.
        validation_documents: evaluated before training and `1 / eval_every` times an epoch.
        test_documents: evaluated and summarized once.
        max_epochs: maximum number of passes over the training pairs.
        seeds: runs of each trained method; an untrained method runs once.
    """

    train_documents: int
    validation_documents: int
    test_documents: int
    max_epochs: int
    seeds: int


@dataclass(frozen=True)
class RowCost:
    """Seconds that a method's runs take.

    Attributes:
        trains: whether the method is trained, once per seed.
        fixed: per run, independent of its size: startup, preparation, saving.
        search: the learning-rate search, once per method, with `search_documents` training pairs.
        search_documents: training pairs of the run that the search was made for; its length is proportional to them.
        train: per training document, each time it is seen.
        evaluate: per document whose loss is computed.
        generate: per test document that is summarized.
        eval_every: epochs between evaluations.
    """

    trains: bool
    fixed: float
    search: float
    search_documents: int
    train: float
    evaluate: float
    generate: float
    eval_every: float = 1.0

    def seconds(self, size: Size) -> float:
        """Seconds of all runs of the method, one after another, trained for all epochs."""
        epochs = size.max_epochs if self.trains else 0
        evaluated = losses_computed(
            size.validation_documents, num_evaluations(epochs, self.eval_every), size.test_documents
        )
        run = self.fixed + self.train * size.train_documents * epochs + self.evaluate * evaluated
        run += self.generate * size.test_documents
        share = size.train_documents / self.search_documents if self.search_documents else 0.0
        return run * (size.seeds if self.trains else 1) + self.search * share


def losses_computed(validation_documents: int, evaluations: int, test_documents: int) -> int:
    """Number of documents whose loss is computed in a run.

    Validation is evaluated before training and `evaluations` times during it, the test split once.
    """
    return validation_documents * (evaluations + 1) + test_documents


def measured(results: Results) -> dict[str, RowCost]:
    """The measured cost of each finished method, as means over its runs; empty for files that other tools wrote.

    Time that no clock of a run covers counts as fixed, so that a design like the pilot's takes as long as the pilot, if
    it was trained for all epochs.
    """
    if results.files is not None:
        return {}
    return {label: _of_row(runs) for label in results.labels if (runs := results.of(label))}


def _of_row(runs: Sequence[SavedRun]) -> RowCost:
    costs = [run.record.cost for run in runs]
    trains = runs[0].trained
    evaluated = sum(_evaluated(run) for run in runs)
    summarized = sum(len(run.predictions) for run in runs)
    seen = sum(run.record.training.documents for run in runs if run.record.training is not None)
    in_stages = sum(getattr(cost, f"{clock}_seconds") for cost in costs for clock in CLOCKS)
    apart = sum(
        cost.search_seconds + cost.train_seconds + cost.evaluation_seconds + cost.generation_seconds for cost in costs
    )
    fixed = max(in_stages, sum(cost.wall_seconds for cost in costs)) - apart
    return RowCost(
        trains=trains,
        fixed=fixed / len(runs),
        search=sum(cost.search_seconds for cost in costs),
        search_documents=_searched(runs[0]),
        train=_ratio(sum(cost.train_seconds for cost in costs), seen),
        evaluate=_ratio(sum(cost.evaluation_seconds for cost in costs), evaluated),
        generate=_ratio(sum(cost.generation_seconds for cost in costs), summarized),
        eval_every=runs[0].setting("training.eval_every") or 1.0,
    )


def on_shared_device(run: SavedRun) -> bool:
    """Whether other jobs used the accelerator during a run, which makes its times unreliable."""
    on_cpu = run.record.provenance is not None and run.record.provenance.device == "cpu"
    return bool(run.record.cost.shared_note) and not on_cpu


def used(run: SavedRun, split: str) -> int:
    """The number of documents of a split that a run used; 0 if its record does not say."""
    data = run.record.data
    return data.splits[split].used if data is not None and split in data.splits else 0


def available(run: SavedRun, split: str) -> int:
    """The number of documents of a split that a run could have used."""
    data = run.record.data
    if data is None or split not in data.splits:
        return 0
    return data.splits[split].used + data.splits[split].not_sampled


def _evaluated(run: SavedRun) -> int:
    training = run.record.training
    evaluations = 0
    if training is not None:
        evaluations = training.evaluations if training.evaluations is not None else int(training.epochs)
    return losses_computed(used(run, "validation"), evaluations, len(run.predictions))


def _searched(run: SavedRun) -> int:
    return used(run, "train") if run.record.search is not None else 0


def _ratio(seconds: float, count: int) -> float:
    return seconds / count if count else 0.0


def of_suite(costs: Mapping[str, RowCost], size: Size, scaling: Sequence[int] = ()) -> dict[str, float]:
    """Seconds of every method, including its runs on fewer training documents (`[scaling]`)."""
    found = {}
    for label, cost in costs.items():
        smaller = [
            Size(pairs, size.validation_documents, size.test_documents, size.max_epochs, size.seeds)
            for pairs in scaling
        ]
        found[label] = cost.seconds(size) + sum(cost.seconds(one) for one in smaller if cost.trains)
    return found
