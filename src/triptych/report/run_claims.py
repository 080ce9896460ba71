"""Sentences made from the runs' own records: shapes, epochs, what all of the data would have taken."""

from collections.abc import Callable, Iterable

from triptych.analysis.loading import Results, Run
from triptych.records import Comparison
from triptych.report import formats
from triptych.report.facts import Claim, cell, equals, number, of_kind, selected, shown, tuned

EPOCHS = 10  # what the assignment allows


def shapes(kind: str) -> Callable[[Results, Comparison], Claim | None]:
    """What a method's rows trained in this run, in numbers."""
    describe = {"prompt-tuning": _prompt, "lora": _factors, "last-layers": _layers}[kind]

    def make(results: Results, comparison: Comparison) -> Claim | None:
        def described(r: Results) -> list[str]:
            return [text for run in _firsts(r, kind) if (text := describe(run))]

        parts = described(results)
        if not parts:
            return None
        return Claim(
            "architecture", f"shapes-{kind}", f"In this run {'; '.join(parts)}.", (equals(parts, lambda r, c: described(r)),)
        )

    return make


def epochs(results: Results, comparison: Comparison) -> Claim | None:
    """Which epoch's weights are evaluated."""

    def described(r: Results) -> list[str]:
        found = []
        for label in r.labels:
            trainings = [run.record.training for run in r.of(label) if run.record.training is not None]
            if trainings:
                best = ", ".join(f"{training.best_epoch} of {training.epochs}" for training in trainings)
                early = " (stopped early)" if all(t.epochs < r.suite.training.max_epochs for t in trainings) else ""
                found.append(f"{label} {best}{early}")
        return found

    parts = described(results)
    return (
        Claim(
            "training",
            "epochs",
            f"The weights evaluated are those of the epoch with the lowest validation loss: {'; '.join(parts)}.",
            (equals(parts, lambda r, c: described(r)),),
        )
        if parts
        else None
    )


def whole_job(results: Results, comparison: Comparison) -> Claim | None:
    """What training on every pair for ten epochs would take at the speed measured: why data or epochs were reduced."""

    def described(r: Results) -> tuple[int, list[str], str] | None:
        data = next((run.record.data for run in r.runs if run.record.data is not None), None)
        counts = data.splits.get("train") if data is not None else None
        if counts is None or (not counts.not_sampled and r.suite.training.max_epochs >= EPOCHS):
            return None
        pairs = counts.used + counts.not_sampled
        paces = {label: pace for label in r.labels if (pace := _seconds_per_document(r.of(label))) is not None}
        if not paces:
            return None
        parts = [f"{label} {formats.seconds(pace * pairs * EPOCHS)}" for label, pace in paces.items()]
        total = sum(pace * pairs * EPOCHS * len(r.suite.seeds) for pace in paces.values())
        return pairs, parts, formats.seconds(total)

    found = described(results)
    if found is None:
        return None
    pairs, parts, total = found
    return Claim(
        "reductions",
        "whole-job",
        f"At the speed measured here, the optimizer steps of {EPOCHS} epochs on all {pairs:,} training pairs would take, for "
        f"one seed: {', '.join(parts)}; {total} for all rows and seeds, before any evaluation, search or generation.",
        (equals(found, lambda r, c: described(r)),),
    )


def trunk_caches(results: Results, comparison: Comparison) -> Claim | None:
    """What making the trunk caches took: operations in the training compute, time that is not in the training time."""

    def described(r: Results) -> list[str]:
        found = []
        for label in r.labels:
            notes = [run.record.notes.get("trunk_cache") for run in r.of(label)]
            made = [note for note in notes if isinstance(note, dict) and "making_seconds" in note]
            if made:
                seconds = formats.seconds(sum(note["making_seconds"] for note in made) / len(made))
                found.append(f"{label} {seconds} and {formats.quantity(made[0]['flops'] or None, 'flops')}")
        return found

    parts = described(results)
    if not parts:
        return None
    return Claim(
        "cost",
        "trunk-cache",
        "What frozen blocks compute below all that is trained never changes, so it is read from a cache in every epoch. "
        f"Making the cache took: {', '.join(parts)}. These operations are in the row's training compute and in its rate, these "
        "seconds in the preparation of the run that made it: they are not in the training time.",
        (equals(parts, lambda r, c: described(r)),),
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
        f"Before training, the validation loss of {bases[0]} is {base}; that of the rows whose B is zero: {', '.join(parts)}.",
        (shown(bases[0], "loss.initial", base), selected(parts, described)),
    )


def share_and_compute(results: Results, comparison: Comparison) -> Claim | None:
    """Prompt tuning's share of the parameters beside its share of full fine-tuning's compute."""
    fulls = [label for label in of_kind(comparison, "full") if number(comparison, label, "cost.train_flops")]
    if not fulls:
        return None
    full = fulls[0]

    def described(c: Comparison) -> list[str]:
        found = []
        for label in tuned(c):
            flops, whole = number(c, label, "cost.train_flops"), number(c, full, "cost.train_flops")
            if c.rows[label].kind == "prompt-tuning" and flops and whole:
                trainable, base = (number(c, label, f"parameters.num_{name}_parameters") for name in ("trainable", "base"))
                share = f"{100 * trainable / base:.2g}%"
                found.append(f"{label} trains {share} of that number of parameters with {formats.share(flops / whole)}")
        return found

    parts = described(comparison)
    if not parts:
        return None
    return Claim(
        "theory",
        "theory-scale-compute",
        f"Beside the model's own parameters and the training compute of {full}, {'; '.join(parts)} of that compute.",
        (selected(parts, described),),
    )


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
    rank, targets, parameters = run.record.options.get("rank"), run.record.notes.get("target_modules"), run.record.parameters
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
