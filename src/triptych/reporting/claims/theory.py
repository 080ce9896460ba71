"""Sentences that compare the equations and theory answers with the measurements."""

from triptych.analysis.verdict import decision_of, find_test
from triptych.reporting.claims.selection import cell, estimate_in_words, number, of_kind, trained_of_kind
from triptych.results.reading import Results, SavedRun
from triptych.results.records import Comparison
from triptych.text import formats


def shapes(results: Results, kind: str) -> str | None:
    """The numbers of trained parameters and shapes of the methods of a kind; `kind` is one of `rows.METHODS`."""
    describe = {"prompt-tuning": _prompt, "lora": _factors, "last-layers": _layers}[kind]
    firsts = [runs[0] for label in results.labels if (runs := results.of(label)) and runs[0].record.kind == kind]
    parts = [text for run in firsts if (text := describe(run))]
    return f"In this run {'; '.join(parts)}." if parts else None


def evidence(comparison: Comparison, kind: str) -> str | None:
    """Trainable parameters, loss and R-1 of the methods of one kind."""
    parts = [
        f"{label} trains {cell(comparison, label, 'parameters.num_trainable_parameters')} parameters and reaches a "
        f"test loss of {cell(comparison, label, 'loss.test')} and R-1 {estimate_in_words(comparison, label, 'rouge1')}"
        for label in trained_of_kind(comparison, kind)
    ]
    return f"{'; '.join(parts)}." if parts else None


def gap_to_full(comparison: Comparison, kinds: tuple[str, ...]) -> str | None:
    """The R-1 of methods of these kinds minus that of full fine-tuning."""
    fulls, labels = of_kind(comparison, "full"), trained_of_kind(comparison, *kinds)
    if not fulls or not labels:
        return None
    full = number(comparison, fulls[0], "rouge1.mean")
    parts = [
        f"{label} {formats.signed(number(comparison, label, 'rouge1.mean') - full)}"
        f"{f' ({decision_of(test)})' if (test := find_test(comparison.tests, 'rouge1', label, fulls[0])) else ''}"
        for label in labels
    ]
    return f"R-1 minus that of full fine-tuning ({fulls[0]}): {', '.join(parts)}."


def shares_of_full(comparison: Comparison) -> str | None:
    """Prompt tuning's share of the model's parameters and of full fine-tuning's compute."""
    compute = "cost.train_flops"
    full = next((label for label in of_kind(comparison, "full") if number(comparison, label, compute)), None)
    if full is None:
        return None
    parts = []
    for label in trained_of_kind(comparison, "prompt-tuning"):
        if flops := number(comparison, label, compute):
            trainable, base = (
                number(comparison, label, f"parameters.num_{name}_parameters") for name in ("trainable", "base")
            )
            share = formats.share(flops / number(comparison, full, compute))
            parts.append(
                f"the trainable parameters of {label} amount to {100 * trainable / base:.2g}% of the model's, and its "
                f"training compute to {share}"
            )
    if not parts:
        return None
    return f"{formats.capitalized('; '.join(parts))} of that of {full}."


def first_loss(comparison: Comparison) -> str | None:
    """Whether LoRA starts at the untuned model's loss, as it must because B = 0."""
    initial = "loss.initial"
    bases = of_kind(comparison, "untuned")
    labels = [label for label in of_kind(comparison, "lora") if number(comparison, label, initial) is not None]
    if not bases or not labels or number(comparison, bases[0], initial) is None:
        return None
    base = cell(comparison, bases[0], initial)
    losses = {label: cell(comparison, label, initial) for label in labels}
    parts = [f"{'the same' if loss == base else loss} for {label}" for label, loss in losses.items()]
    return f"Before training, the validation loss is {base} for {bases[0]} and, with B = 0, {formats.listed(parts)}."


def _prompt(run: SavedRun) -> str | None:
    tokens, parameters = run.count("num_virtual_tokens"), run.record.parameters
    if not tokens or parameters is None:
        return None
    added = parameters.num_added_parameters
    return f"{run.record.label} has [num_prompts, embedding_size] = [{tokens}, {added // tokens}], {added:,} parameters"


def _factors(run: SavedRun) -> str | None:
    rank, targets = run.count("rank"), run.record.notes.get("target_modules")
    parameters = run.record.parameters
    if not rank or not isinstance(targets, list) or parameters is None:
        return None
    kinds = dict.fromkeys(str(target).split(".")[-1] for target in targets)
    return (
        f"{run.record.label} has rank {rank} on {len(targets)} weights ({formats.listed(list(kinds))}), "
        f"{parameters.num_added_parameters:,} parameters"
    )


def _layers(run: SavedRun) -> str | None:
    options, parameters, count = run.record.options, run.record.parameters, run.count("num_blocks")
    if count is None or parameters is None:
        return None
    norm = f"{'with' if options.get('final_norm') else 'without'} the final norm"
    blocks = f"the last {formats.number_of(count, 'block')} {norm}" if count else f"no blocks, {norm}"
    trainable, added = parameters.num_trainable_parameters, parameters.num_added_parameters
    return (
        f"{run.record.label} trains {blocks} (head: {options.get('head')}): {trainable:,} parameters, {added:,} of "
        "them added"
    )
