"""Sentences made from the runs' own records: shapes, epochs, what all of the data would have taken."""

from collections.abc import Iterable

from triptych.analysis.coverage import corpus_pairs
from triptych.reporting import formats
from triptych.reporting.facts import Claim, Maker, cell, number, of_kind, selected, shown, told, tuned
from triptych.results.reading import Results, Run
from triptych.results.records import Comparison

EPOCHS = 10  # what the assignment allows
LEAST_SECONDS = 24 * 3600.0  # a whole job that takes less is not too long to be done


def shapes(kind: str) -> Maker:
    """What a method's rows trained in this run, in numbers."""
    describe = {"prompt-tuning": _prompt, "lora": _factors, "last-layers": _layers}[kind]

    def described(results: Results, comparison: Comparison) -> list[str]:
        return [text for run in _firsts(results, kind) if (text := describe(run))]

    return told("architecture", f"shapes-{kind}", described, lambda parts: f"In this run {'; '.join(parts)}.")


def _best_epochs(results: Results, comparison: Comparison) -> list[str]:
    """Which epoch's weights are evaluated."""
    found = []
    for label in results.labels:
        trainings = [run.record.training for run in results.of(label) if run.record.training is not None]
        if trainings:
            best = ", ".join(f"{training.best_epoch} of {training.epochs}" for training in trainings)
            early = " (stopped early)" if all(t.epochs < results.suite.training.max_epochs for t in trainings) else ""
            found.append(f"{label} {best}{early}")
    return found


epochs = told(
    "training",
    "epochs",
    _best_epochs,
    lambda parts: f"The weights evaluated are those of the epoch with the lowest validation loss: {'; '.join(parts)}.",
)


def _times_of_whole_job(results: Results, comparison: Comparison) -> tuple[str, str, str] | None:
    """The training pairs there are, what ten epochs on all of them would take, and what this training took.

    None where nothing was reduced, or the whole job would take less than `LEAST_SECONDS`: then time is no reason.
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
    spent = sum(run.record.cost.train_seconds for trained in runs.values() for run in trained if run.tuned)
    source = " of CNN/DailyMail 3.0.0" if pairs == known else ""
    return f"{pairs:,} training pairs{source}", formats.seconds(total), formats.seconds(spent)


def _of_whole_job(found: tuple[str, str, str]) -> str:
    pairs, total, spent = found
    return (
        f"The reason is time: at the speed measured here, the optimizer steps of {EPOCHS} epochs on all {pairs} would "
        f"take {total} for all rows and seeds, where those of this comparison took {spent}."
    )


whole_job = told("reductions", "whole-job", _times_of_whole_job, _of_whole_job)


def _trunk_caches(results: Results, comparison: Comparison) -> list[str]:
    """What making the trunk caches took: operations in the training compute, time that is not in the training time."""
    found = []
    for label in results.labels:
        notes = [run.record.notes.get("trunk_cache") for run in results.of(label)]
        made = [note for note in notes if isinstance(note, dict) and "making_seconds" in note]
        if made:
            seconds = formats.seconds(sum(note["making_seconds"] for note in made) / len(made))
            found.append(f"{label} {seconds} and {formats.quantity(made[0]['flops'] or None, 'flops')}")
    return found


trunk_caches = told(
    "cost",
    "trunk-cache",
    _trunk_caches,
    lambda parts: (
        "What frozen blocks compute below all that is trained never changes, so it is read from a cache in every "
        f"epoch. Making the cache took: {', '.join(parts)}. These operations are in the row's training compute and in "
        "its rate, these seconds in the preparation of the run that made it: they are not in the training time."
    ),
)


def _differences(results: Results, comparison: Comparison) -> str:
    """What else than the trained parameters differs between the rows that train."""
    runs = [runs[0] for label in results.labels if (runs := results.of(label)) and runs[0].tuned]
    rates = {run.record.search.chosen if run.record.search else run.record.options.get("learning_rate") for run in runs}
    decays = {run.record.options.get("weight_decay") for run in runs}
    settings = [name for name, values in (("learning rate", rates), ("weight decay", decays)) if len(values) > 1]
    parts = [f"their {' and '.join(settings)}"] if settings else []
    if any(run.record.options.get("num_virtual_tokens") for run in runs):
        parts.append("the positions that virtual tokens take up before the document")
    return f"; with it differ {', and '.join(parts)}" if parts else ""


differences = told(
    "setting-of-methods",
    "differences",
    lambda results, comparison: (_differences(results, comparison),) if tuned(comparison) else None,
    lambda found: f"The trained rows differ in what gets gradients{found[0]}.",
)


def first_loss(results: Results, comparison: Comparison) -> Claim | None:
    """Whether LoRA's rows begin at the untuned model's loss, as B = 0 says they must."""
    bases = of_kind(comparison, "untuned")
    labels = [label for label in of_kind(comparison, "lora") if number(comparison, label, "loss.initial") is not None]
    if not bases or not labels or number(comparison, bases[0], "loss.initial") is None:
        return None
    base = cell(comparison, bases[0], "loss.initial")

    def described(c: Comparison) -> list[str]:
        same = [label for label in labels if label in c.rows and cell(c, label, "loss.initial") == base]
        return [f"{label} ({'the same' if label in same else cell(c, label, 'loss.initial')})" for label in labels]

    parts = described(comparison)
    return Claim(
        "theory",
        "theory-lora-start",
        f"Before training, the validation loss of {bases[0]} is {base}; that of the rows whose B is zero: "
        f"{', '.join(parts)}.",
        (shown(bases[0], "loss.initial", base), selected(parts, described)),
    )


def _shares_of_full(results: Results, comparison: Comparison) -> tuple[str, list[str]] | None:
    """Prompt tuning's share of the parameters beside its share of full fine-tuning's compute."""
    full = next((x for x in of_kind(comparison, "full") if number(comparison, x, "cost.train_flops")), None)
    if full is None:
        return None
    whole = number(comparison, full, "cost.train_flops")
    parts = []
    for label in tuned(comparison):
        flops = number(comparison, label, "cost.train_flops")
        if comparison.rows[label].kind == "prompt-tuning" and flops:
            trainable, base = (
                number(comparison, label, f"parameters.num_{name}_parameters") for name in ("trainable", "base")
            )
            share = f"{100 * trainable / base:.2g}%"
            parts.append(f"{label} trains {share} of that number of parameters with {formats.share(flops / whole)}")
    return (full, parts) if parts else None


def _of_shares(found: tuple[str, list[str]]) -> str:
    full, parts = found
    return f"Beside the model's own parameters and the training compute of {full}, {'; '.join(parts)} of that compute."


share_and_compute = told("theory", "theory-scale-compute", _shares_of_full, _of_shares)


def _firsts(results: Results, kind: str) -> Iterable[Run]:
    """The first finished run of each row of a kind."""
    return [runs[0] for label in results.labels if (runs := results.of(label)) and runs[0].record.kind == kind]


def _prompt(run: Run) -> str | None:
    tokens, parameters = run.record.options.get("num_virtual_tokens"), run.record.parameters
    if not tokens or parameters is None:
        return None
    added = parameters.num_added_parameters
    return f"{run.record.label} has [num_prompts, embedding_size] = [{tokens}, {added // tokens}], {added:,} parameters"


def _factors(run: Run) -> str | None:
    rank, targets, parameters = (
        run.record.options.get("rank"),
        run.record.notes.get("target_modules"),
        run.record.parameters,
    )
    if not rank or not isinstance(targets, list) or parameters is None:
        return None
    kinds = dict.fromkeys(str(target).split(".")[-1] for target in targets)
    return (
        f"{run.record.label} has rank {rank} beside {len(targets)} weights ({formats.listed(list(kinds))}), "
        f"{parameters.num_added_parameters:,} parameters"
    )


def _layers(run: Run) -> str | None:
    options, parameters = run.record.options, run.record.parameters
    if "num_blocks" not in options or parameters is None:
        return None
    blocks = f"the last {options['num_blocks']} {'block' if options['num_blocks'] == 1 else 'blocks'}"
    norm = "with" if options.get("final_norm") else "without"
    trainable, added = parameters.num_trainable_parameters, parameters.num_added_parameters
    return (
        f"{run.record.label} trains {blocks} {norm} the final norm, its head is {options.get('head')}: {trainable:,} "
        f"parameters, {added:,} of them added"
    )


def _seconds_per_document(runs: Iterable[Run]) -> float | None:
    """Training seconds for each document seen, over all runs of a row."""
    trained = [(run.record.cost.train_seconds, run.record.training) for run in runs if run.record.training is not None]
    documents = sum(training.documents for _, training in trained)
    return sum(seconds for seconds, _ in trained) / documents if documents else None
