"""Tables of what was done: the data, common settings, settings per method, and every run."""

from typing import Any

from triptych.config.schedule import DECAY_SHARE, WARMUP_STABLE_DECAY, warmup_epochs
from triptych.reporting.tables.table import Cell, ReportTable
from triptych.results.reading import Results, SavedRun
from triptych.results.records import SearchResult, Trial
from triptych.text import formats, measures

_MARKED = " (*: the best rates, trained for longer; the one with the lower loss was chosen)"


def hyper_parameters_table(results: Results) -> ReportTable:
    """The hyperparameters of each method, and how its learning rate was found."""
    marked = _MARKED if any(_longer(run.record.search) for run in results.runs) else ""
    body = []
    for label in results.labels:
        runs = [run for run in results.runs if run.record.label == label]
        kind = runs[0].record.kind
        body.append(
            (
                Cell(label, f"kind {kind}" if kind != label else None),
                Cell(_rates(runs)),
                Cell(_found(runs)),
                Cell(_lasted(runs, "epochs")),
                Cell(_lasted(runs, "steps")),
                Cell(_options(runs[0])),
            )
        )
    return ReportTable(
        "hyper",
        f"Hyperparameters of every method: learning rate and how it was found{marked}, epochs and optimizer steps "
        "trained (one value per seed where they differ), and the method's options.",
        ("Method", "Learning rate", "How it was found", "Epochs", "Steps", "Options"),
        tuple(body),
        (0, 1, 2, 5),
        (0, 0.8, 1.7, 0.6, 0.6, 2.2),
    )


def settings_table(results: Results) -> ReportTable:
    """The settings that are the same for every method."""
    suite = results.suite
    used = dict.fromkeys(run.record.provenance.precision for run in results.runs if run.record.provenance is not None)
    training, limits, decoding, search = suite.training, suite.limits, suite.decoding, suite.search
    of_memory = training.micro_batch_size == "auto"
    repeated = f"no repeated {decoding.no_repeat_ngram_size}-grams, " if decoding.no_repeat_ngram_size else ""
    least = f"at least {decoding.min_new_tokens} and " if decoding.min_new_tokens else ""
    pairs = [
        *([("Base model", stored)] if (stored := _stored(results)) else []),
        ("Loss", "cross-entropy of the summary tokens and one end token, in nats; summed, then divided once"),
        ("Optimizer", {"adamw": "AdamW (Loshchilov and Hutter, 2019)", "adafactor": "Adafactor"}[training.optimizer]),
        ("Schedule", _schedule(results)),
        ("Epochs", _epochs(results)),
        (
            "Batch",
            f"{formats.number_of(training.global_batch_size, 'document')} per optimizer step, in micro-batches of "
            + ("as many as fit into memory" if of_memory else f"at most {training.micro_batch_size}"),
        ),
        *([("Recomputation", recomputed)] if (recomputed := _recomputed(results)) else []),
        *([("Dropout", dropout)] if (dropout := _dropout(results)) else []),
        ("Clipping", f"gradients of the trained parameters, to a norm of {training.max_grad_norm:g}"),
        ("Precision", f"{', '.join(used)} (requested: {training.precision})" if used else training.precision),
        ("Seeds", ", ".join(map(str, suite.seeds)) + "; untrained methods run once, with the first"),
        (
            "Learning-rate search",
            _search(results) if search.trials > 1 else "none: the rate of each method was set in advance",
        ),
        (
            "Lengths",
            f"documents cut at {limits.document_tokens} tokens; training pairs with a summary of more than "
            f"{limits.summary_tokens} tokens dropped",
        ),
        *([("Before the document", _quoted(suite.prompt.before))] if suite.prompt.before else []),
        ("Separator", _quoted(suite.separator)),
        *([("Chat template", "the model's own, the summary as the assistant's turn")] if suite.prompt.chat else []),
        (
            "Decoding",
            f"{formats.number_of(decoding.num_beams, 'beam')}, {least}at most {decoding.max_new_tokens} new tokens, "
            f"{repeated}length penalty {decoding.length_penalty:g}; the same for all",
        ),
    ]
    return ReportTable(
        "recipe",
        "Settings shared by every method.",
        ("Setting", "Value"),
        tuple((Cell(key), Cell(text)) for key, text in pairs),
        (0, 1),
        (0.3, 1),
    )


def _recomputed(results: Results) -> str | None:
    """The methods whose blocks were recomputed in the backward pass; None if memory sufficed for all."""
    runs = [run for run in results.runs if run.record.training is not None and run.record.training.recomputed]
    if not runs:
        return None
    labels = list(dict.fromkeys(run.record.label for run in runs))
    return (
        f"each block of {formats.listed(labels)} was recomputed in the backward pass, since memory ran out with one "
        "document per pass: the same results with less memory and more time"
    )


def _stored(results: Results) -> str | None:
    """How the base model is stored; None if it is not quantized."""
    kind = results.suite.model_quantization
    if kind == "none":
        return None
    text = f"matrices in 4 bits ({kind.upper()} with double quantization; Dettmers et al., 2023), for every method"
    noted = [run.record.notes["quantization"] for run in results.runs if "quantization" in run.record.notes]
    if not noted:
        return text
    size = formats.count(noted[0]["quantized_parameters"])
    return f"{text}: {size} of its parameters; all of them take {formats.quantity(noted[0]['base_bytes'], 'bytes')}"


def _dropout(results: Results) -> str | None:
    """The dropout of each method; None if the suite sets none and no run recorded it."""
    rate = results.suite.training.dropout
    if rate is not None:
        return f"{rate:g} in every method, frozen parts included" if rate else "off in every method"
    noted = {run.record.label: run.record.notes["dropout"] for run in results.runs if "dropout" in run.record.notes}
    if not noted:
        return None
    with_it = [f"{label} {', '.join(f'{each:g}' for each in rates)}" for label, rates in noted.items() if rates]
    without = [label for label, rates in noted.items() if not rates]
    listed = [*with_it, *([f"none in {', '.join(without)}"] if without else [])]
    return f"the model's own, only in the trained parts: {'; '.join(listed)}"


def splits_table(results: Results) -> ReportTable | None:
    """The counts of each split, as recorded by the first finished run; a comparison refuses runs that differ."""
    data = next((run.record.data for run in results.runs if run.record.data is not None), None)
    if data is None:
        return None
    heads = {
        "read": "Read",
        "dropped_empty": "Empty",
        "dropped_duplicate": "Duplicate",
        "dropped_long_summary": "Long summary",
        "not_sampled": "Not sampled",
        "requested": "Requested",
        "used": "Used",
        "truncated": "Truncated",
    }
    body = [
        (Cell(name), *[Cell(formats.count(getattr(counts, key)), None, getattr(counts, key)) for key in heads])
        for name, counts in data.splits.items()
    ]
    return ReportTable(
        "splits",
        "Pairs in each split: read, dropped (by reason), left out by the seeded sample, requested (0: all), used, and "
        "how many of those have a truncated document.",
        ("Split", *heads.values()),
        tuple(body),
    )


def runs_table(results: Results) -> ReportTable:
    """Every run with its numbers."""
    body = []
    for run in results.runs:
        record = run.record
        done = run.done and record.rouge is not None
        body.append(
            (
                Cell(record.label),
                Cell(str(record.seed), None, record.seed),
                Cell(record.status),
                Cell(formats.loss(record.loss.test), None, record.loss.test),
                *[
                    Cell(formats.rouge_score(getattr(record.rouge, name)) if done else formats.DASH)
                    for name in measures.ROUGE
                ],
                Cell(_best_epoch(run)),
                Cell(_minute(record.provenance.time) if record.provenance else formats.DASH),
            )
        )
    return ReportTable(
        "runs",
        "Every run: test loss, ROUGE, best epoch out of the epochs trained, and time (UTC).",
        ("Method", "Seed", "Status", "Loss", *measures.ROUGE.values(), "Best epoch", "Time"),
        tuple(body),
        (0, 2, 9),
        (1.3, 0.5, 0.7, 0.8, 0.7, 0.7, 0.7, 0.8, 0.8, 1.3),
    )


def _minute(time: str) -> str:
    """A recorded time to the minute."""
    return time[:16].replace("T", " ")


def _best_epoch(run: SavedRun) -> str:
    training = run.record.training
    return f"{training.best_epoch:.3g} of {training.epochs:.3g}" if training is not None else formats.DASH


def _schedule(results: Results) -> str:
    training = results.suite.training
    warmup = f"a warm-up over {formats.share(training.warmup_fraction)} of the steps"
    if training.schedule == WARMUP_STABLE_DECAY:
        longest = formats.number_of(warmup_epochs(training.max_epochs), "epoch")
        begin = f"{warmup} of {longest}; then the" if training.warmup_fraction else "the"
        return (
            f"{begin} peak rate until the validation loss stops falling; then a linear decay to 0 from the best "
            f"weights, over {DECAY_SHARE:g} times the steps that led to them; if this does not lower the loss, "
            "training restarts from the untrained weights for as many steps, with the decay in the last third"
        )
    return f"{training.schedule}, after {warmup}" if training.warmup_fraction else f"{training.schedule}, no warm-up"


def _epochs(results: Results) -> str:
    training = results.suite.training
    every = "every epoch" if training.eval_every == 1 else f"every {training.eval_every:g} epochs"
    then = "the decay begins" if training.schedule == WARMUP_STABLE_DECAY else "training stops"
    return (
        f"at most {training.max_epochs}, evaluated {every}; {then} after "
        f"{formats.number_of(training.patience, 'evaluation')} without a lower validation loss; the best weights "
        "are tested"
    )


def _search(results: Results) -> str:
    search, setting = results.suite.search, results.runs[0].setting
    judged = f"judged on at most {search.validation_documents:,} validation documents"
    if setting("search.epochs") is not None:  # from an earlier version
        epochs = formats.number_of(setting("search.epochs"), "epoch")
        pairs = f"{setting('search.train_documents'):,} pairs"
        return f"{search.trials} trials per method, each of {epochs} on {pairs}, {judged}"
    longer = any(_longer(run.record.search) for run in results.runs)
    trials = "short trials, the best two also in longer ones" if longer else "short trials"
    return (
        f"{search.trials} rates per method in {trials}, with the first seed; "
        f"together at most {formats.share(search.share)} of the steps of the shortest run, {judged}"
    )


def _rates(runs_of_row: list[SavedRun]) -> str:
    rates = dict.fromkeys(f"{rate:g}" for run in runs_of_row if (rate := _rate(run)) is not None)
    return ", ".join(rates) or formats.DASH


def _rate(run: SavedRun) -> float | None:
    if run.record.search is not None:
        return run.record.search.chosen
    return run.number("learning_rate") if run.trained else None


def _longer(search: SearchResult | None) -> list[Trial]:
    """The trials that a search trained on more documents than the others."""
    last = search.last_round if search is not None else []
    return last if search is not None and len(last) < len(search.trials) else []


def _found(runs_of_row: list[SavedRun]) -> str:
    searches = [run.record.search for run in runs_of_row if run.record.search is not None]
    if not searches:
        return "set, not searched" if any(run.trained for run in runs_of_row) else formats.DASH
    longer = _longer(searches[0])
    tried = "; ".join(
        f"{trial.learning_rate:g}{'*' if trial in longer else ''}: {formats.loss(trial.validation_loss, 'diverged')}"
        for trial in searches[0].trials
    )
    edge = "; the best is at the edge of the grid" if any(search.better_beyond for search in searches) else ""
    return f"validation loss {tried}{' (first seed)' if len(searches) > 1 else ''}{edge}"


def _lasted(runs_of_row: list[SavedRun], field: str) -> str:
    found = dict.fromkeys(
        _number(getattr(run.record.training, field)) for run in runs_of_row if run.record.training is not None
    )
    return ", ".join(found) or formats.DASH


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _options(run: SavedRun) -> str:
    hidden = ("learning_rate", "learning_rates", "kind", *(() if run.trained else ("weight_decay",)))
    given = {name: value for name, value in run.record.options.items() if name not in hidden and value is not None}
    options = [f"{name} = {_option(value)}" for name, value in given.items()]
    return ", ".join(options) or formats.DASH


def _quoted(text: str) -> str:
    """A text in quotes, with leading line breaks in words."""
    rest = text.lstrip("\n")
    breaks = len(text) - len(rest)
    quoted = f"“{rest}”".replace("\n", " ↵ ")
    return f"{formats.number_of(breaks, 'line break')}, then {quoted}" if breaks else quoted


def _option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_option, value)) + "]"
    if isinstance(value, str) and (not value or value != value.strip()):
        return _quoted(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
