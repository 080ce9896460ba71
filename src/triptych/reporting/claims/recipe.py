"""Sentences about the training recipe: what all methods share, how each method is configured, and why."""

from collections.abc import Callable

from triptych.config.schedule import DECAY_SHARE, WARMUP_STABLE_DECAY, warmup_epochs
from triptych.config.schema import Suite
from triptych.results.reading import Results, SavedRun
from triptych.text import formats

_Choice = tuple[str, str, str]  # the verb for one method, the verb for several, and the rest of the sentence
_USUAL_RANK, _USUAL_TOKENS, _USUAL_BLOCKS = 8, 50, 2  # the defaults
_TOKENS_OF_LESTER = 20


def loss_and_optimizer(results: Results) -> str | None:
    """The loss, the optimizer with its constants, and why."""
    if not _trained(results):
        return None
    decays = dict.fromkeys(f"{d:g}" for run in _trained(results) if (d := run.number("weight_decay")) is not None)
    decay = f", with a weight decay of {formats.listed(list(decays))} on matrices" if decays else ""
    optimizers = {
        "adamw": "AdamW (Loshchilov and Hutter, 2019; β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸)"
        + decay
        + ". Its steps are scaled "
        "for each parameter by the size of past gradients, so that one optimizer works for a prompt of a few vectors "
        "and for a whole network",
        "adafactor": "Adafactor" + decay + ". It keeps factored second moments, so that its state needs little memory",
    }
    return (
        "The loss is the cross-entropy of the summary's tokens, given the document: minus the log-likelihood of the "
        f"summary, the same for every method. It is minimized by {optimizers[results.suite.training.optimizer]}."
    )


def schedule(results: Results) -> str | None:
    """Batch size and accumulation, the learning-rate schedule and clipping."""
    if not _trained(results):
        return None
    training = results.suite.training
    micro = training.micro_batch_size
    passes = -(-training.global_batch_size // micro) if isinstance(micro, int) else None
    if passes == 1:
        size = formats.number_of(training.global_batch_size, "document")
        batch = f"Each optimizer step uses {size} in one pass, without gradient accumulation"
    else:
        size = f"passes of {micro}" if isinstance(micro, int) else "passes of as many as fit into memory"
        batch = (
            f"Each optimizer step accumulates the gradients of {training.global_batch_size} documents over {size}; the "
            "sum is divided once by the number of summary tokens, so that the size of a pass does not change the result"
        )
    shapes = {
        WARMUP_STABLE_DECAY: "stays at its peak until the validation loss stops falling. Training then returns to "
        f"the best weights, and the rate decays linearly to zero over {DECAY_SHARE:g} times as many steps as had led "
        "to them, so that methods that learn fast and methods that need all epochs both end at low rates. If the "
        "validation loss does not fall during the decay, training restarts from the untrained weights and ends, with a "
        "decay of its own, after as many steps as had led to the best weights",
        "linear": "decays linearly to zero",
        "cosine": "decays to zero along a cosine",
        "constant": "stays constant",
    }
    longest = warmup_epochs(training.max_epochs) if training.schedule == WARMUP_STABLE_DECAY else 0
    steps = f"steps of {formats.number_of(longest, 'epoch')}" if longest else "steps"
    warmup = (
        f"rises over the first {formats.share(training.warmup_fraction)} of the {steps}, while the optimizer's "
        "moment estimates are still rough, and then "
        if training.warmup_fraction
        else ""
    )
    return (
        f"{batch}. The learning rate {warmup}{shapes[training.schedule]}. Gradients are clipped at a norm of "
        f"{training.max_grad_norm:g}, so that one unusual batch cannot undo the steps before it."
    )


def stopping(results: Results) -> str | None:
    """The number of epochs, early stopping and its patience."""
    if not _trained(results):
        return None
    training = results.suite.training
    patience = formats.number_of(training.patience, "evaluation")
    every = "after every epoch" if training.eval_every == 1 else f"every {training.eval_every:g} epochs"
    ends = "the decay begins" if training.schedule == WARMUP_STABLE_DECAY else "training stops early"
    return (
        f"Training lasts at most {formats.number_of(training.max_epochs, 'epoch')}. The validation loss is computed "
        f"{every}, and {ends} after {patience} without improvement. The weights with the lowest validation loss are "
        "evaluated on the test split, so that a method that overfits is judged at its best."
    )


def choices(results: Results) -> str | None:
    """Why each method has its size and place in the model; methods with the same choice share a sentence."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for label in results.labels:
        runs = [run for run in results.of(label) if run.trained]
        describe = _REASONS.get(runs[0].record.kind) if runs else None
        if describe is not None and (choice := describe(runs[0])):
            found.setdefault(choice, []).append(label)
    sentences = [
        f"{formats.listed(labels)} {formats.verb(labels, one, many)} {what}."
        for (one, many, what), labels in found.items()
    ]
    return " ".join(sentences) or None


def decoding(results: Results) -> str | None:
    """How summaries are generated."""
    if not any(run.done and run.record.parameters is not None for run in results.runs):
        return None
    return f"All summaries are generated {_search(results.suite)}, with at most {_length(results.suite)}."


def _search(suite: Suite) -> str:
    settings = suite.decoding
    beams = "greedily" if settings.num_beams == 1 else f"by beam search with {settings.num_beams} beams"
    size = settings.no_repeat_ngram_size
    return f"{beams}, without repeating a sequence of {size} tokens" if size else beams


def _length(suite: Suite) -> str:
    return formats.number_of(suite.decoding.max_new_tokens, "token")


def _trained(results: Results) -> list[SavedRun]:
    return [run for run in results.runs if run.done and run.trained]


def _prompt(run: SavedRun) -> _Choice | None:
    tokens = run.count("num_virtual_tokens")
    if not tokens:
        return None
    if tokens == _TOKENS_OF_LESTER:
        reason = "the length beyond which Lester et al. (2021) saw little gain"
    elif tokens == _USUAL_TOKENS:
        reason = (
            f"Lester et al. (2021) saw little gain beyond {_TOKENS_OF_LESTER}, but SmolLM2-135M had a lower validation "
            f"loss with {_USUAL_TOKENS}"
        )
    else:
        reason = f"Lester et al. (2021) found more than one to be needed and little gain beyond {_TOKENS_OF_LESTER}"
    return "has", "have", f"{formats.number_of(tokens, 'virtual token')}: {reason}"


def _low_rank(run: SavedRun) -> _Choice | None:
    rank, alpha, targets = run.count("rank"), run.number("alpha"), _targets(run)
    if not rank or not targets:
        return None
    reason = "Hu et al. (2021) found very small ranks sufficient when attention weights are adapted" + (
        "" if rank == _USUAL_RANK else ", and 8 is usual"
    )
    scale = f" and α = {alpha:g}, so that the update is scaled by {alpha / rank:g}" if alpha else ""
    return "has", "have", f"rank {rank}{scale}, on {targets}: {reason}"


def _targets(run: SavedRun) -> str:
    names = run.record.notes.get("target_modules") or run.record.options.get("target_modules")
    if not isinstance(names, (list, tuple)):
        return ""
    kinds = dict.fromkeys(str(name).split(".")[-1] for name in names)
    meaning = " (queries, keys and values in one matrix)" if list(kinds) == ["c_attn"] else ""
    return f"{formats.listed(list(kinds))} of every block{meaning}"


def _layers(run: SavedRun) -> _Choice | None:
    options = run.record.options
    blocks, head = run.count("num_blocks"), options.get("head")
    if blocks is None:
        return None
    trained = f"the last {formats.number_of(blocks, 'block')}" if blocks else "no blocks"
    norm = " and the final norm" if options.get("final_norm") else ""
    usual = " (two, as in the comparison of Li and Liang, 2021)" if blocks == _USUAL_BLOCKS else ""
    reason = {
        "frozen": ", not the head: in GPT-2 the head is the token embedding matrix itself, so training it would "
        "also change the input embeddings, and training a copy would add a matrix of the same size",
        "untied": f", {'and' if blocks else 'only'} a copy of the head, so that the input embeddings do not change",
        "tied": ", and the head, which is the token embedding matrix itself, so that the input embeddings change too",
    }.get(str(head), "")
    return "trains", "train", f"{trained}{norm}{usual}{reason}"


def _everything(run: SavedRun) -> _Choice:
    return "trains", "train", "all weights, as the reference for what the model can learn from these data"


_REASONS: dict[str, Callable[[SavedRun], _Choice | None]] = {
    "prompt-tuning": _prompt,
    "lora": _low_rank,
    "dora": _low_rank,
    "last-layers": _layers,
    "full": _everything,
}
