"""Sentences from the records of single runs: epochs, differences in training, the cost of training on all data."""

from collections.abc import Iterable

from triptych.analysis.coverage import corpus_pairs
from triptych.reporting.claims.selection import trained
from triptych.results.reading import Results, SavedRun
from triptych.results.records import Comparison
from triptych.text import formats

EPOCHS = 10  # the maximum that the assignment allows
LEAST_SECONDS = 24 * 3600.0  # a full job that takes less time is not too long to run


def epochs(results: Results) -> str | None:
    """Which epoch's weights are evaluated."""
    parts = []
    for label in results.labels:
        trainings = [run.record.training for run in results.of(label) if run.record.training is not None]
        if trainings:
            best = ", ".join(f"{training.best_epoch:.3g} of {training.epochs:.3g}" for training in trainings)
            early = all(training.epochs < results.suite.training.max_epochs for training in trainings)
            parts.append(f"{label} {best}{' (stopped early)' if early else ''}")
    if not parts:
        return None
    return f"The evaluated weights are those with the lowest validation loss; epochs: {'; '.join(parts)}."


def whole_job(results: Results) -> str | None:
    """What ten epochs on all training pairs would have taken, and what this training took.

    None if nothing was reduced, or if the full job would take less than `LEAST_SECONDS`: then time is not the reason.
    """
    data = next((run.record.data for run in results.runs if run.record.data is not None), None)
    counts = data.splits.get("train") if data is not None else None
    if data is None or counts is None:
        return None
    known = corpus_pairs(data, "train") or 0
    pairs = max(known, counts.used + counts.not_sampled)
    if pairs == counts.used and results.suite.training.max_epochs >= EPOCHS:
        return None
    runs = {label: results.of(label) for label in results.labels}
    paces = [pace for trained in runs.values() if (pace := _seconds_per_document(trained)) is not None]
    total = sum(pace * pairs * EPOCHS * len(results.suite.seeds) for pace in paces)
    if total < LEAST_SECONDS:
        return None
    spent = sum(run.record.cost.train_seconds for trained in runs.values() for run in trained if run.trained)
    source = " of CNN/DailyMail 3.0.0" if pairs == known else ""
    return (
        f"The reason is time: at the speed measured here, the optimizer steps of {EPOCHS} epochs on all {pairs:,} "
        f"training pairs{source} would take {formats.seconds(total)} for all methods and seeds; those of this "
        f"comparison took {formats.seconds(spent)}."
    )


def trunk_caches(results: Results) -> str | None:
    """The cost of building trunk caches: operations (part of training compute), time (not part of training time)."""
    parts = []
    for label in results.labels:
        notes = [run.record.notes.get("trunk_cache") for run in results.of(label)]
        made = [note for note in notes if isinstance(note, dict) and "making_seconds" in note]
        if made:
            seconds = formats.seconds(sum(note["making_seconds"] for note in made) / len(made))
            parts.append(f"{label} {seconds} and {formats.quantity(made[0]['flops'] or None, 'flops')}")
    if not parts:
        return None
    return (
        "The output of the frozen blocks below everything that is trained never changes, so it is computed once and "
        f"read from a cache in every epoch. Building the cache took: {', '.join(parts)}. These operations count as "
        "training compute; the seconds count as preparation of the run that built the cache, not as training time."
    )


def differences(results: Results, comparison: Comparison) -> str | None:
    """What differs between the trained methods, other than the trained parameters."""
    if len(trained(comparison)) < 2:
        return None
    runs = [runs[0] for label in results.labels if (runs := results.of(label)) and runs[0].trained]
    rates = {run.record.search.chosen if run.record.search else run.number("learning_rate") for run in runs}
    decays = {run.number("weight_decay") for run in runs}
    settings = [name for name, values in (("learning rate", rates), ("weight decay", decays)) if len(values) > 1]
    parts = [f"in their {' and '.join(settings)}"] if settings else []
    if any(run.count("num_virtual_tokens") for run in runs):
        parts.append("in the positions that virtual tokens take up")
    sizes = {(run.record.kind, run.record.parameters.num_trainable_parameters) for run in runs if run.record.parameters}
    if len(sizes) == 1:  # variants of one method: the table of hyperparameters shows how they differ
        return f"The trained methods differ {' and '.join(parts)}." if parts else None
    also = f", and also {' and '.join(parts)}" if parts else ""
    return f"The trained methods differ in which parameters are trained{also}."


def _seconds_per_document(runs: Iterable[SavedRun]) -> float | None:
    """Training seconds per document seen, over all runs of a method."""
    trained = [(run.record.cost.train_seconds, run.record.training) for run in runs if run.record.training is not None]
    documents = sum(training.documents for _, training in trained)
    return sum(seconds for seconds, _ in trained) / documents if documents else None
