"""Every table of the report as plain data: a title, a head, cells of text. Typesetting them is the templates' part."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from triptych.reporting import formats, rows
from triptych.results.reading import Results, Run
from triptych.results.records import NUMERIC_COSTS, Comparison, Estimate, Loss, PairedTest, Parameters, Row, TextShape

_MISSING = (formats.DASH, formats.NOT_MEASURED, formats.FAILED)


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: text, a smaller line under it, and the number to sort by."""

    text: str
    sub: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A table. `widths` are shares of the page's width, 0 for as wide as needed."""

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: tuple[int, ...] = (0,)  # columns of words; the others hold numbers
    widths: tuple[float, ...] = ()

    def data(self) -> dict[str, Any]:
        """For the templates."""
        return {
            "name": self.name,
            "caption": self.caption,
            "head": list(self.head),
            "numeric": [column not in self.words for column in range(len(self.head))],
            "widths": list(self.widths or (0, *[1] * (len(self.head) - 1))),
            "rows": [[{"text": cell.text, "sub": cell.sub, "value": cell.value} for cell in row] for row in self.rows],
        }


@dataclass(frozen=True)
class Column:
    """A column of numbers: its head, the field it shows, how it is written."""

    head: str
    get: Callable[[Row], float | None]
    show: Callable[..., str]
    missing: str | None = None  # None: `not measured` where something was trained, a dash where nothing was
    width: float = 1  # its share of the page


def quality(comparison: Comparison) -> Sheet:
    """Test loss and ROUGE with their intervals, and how they vary over training seeds."""
    several = any(row.seed_sd for row in comparison.rows.values())
    body = []
    for label, row in comparison.rows.items():
        if rows.failed(row):
            body.append((Cell(label), Cell(formats.FAILED), *[Cell(formats.DASH)] * (6 if several else 4)))
            continue
        loss = row.loss
        has_interval = loss.low is not None and loss.high is not None
        body.append(
            (
                _label(label, row),
                Cell(
                    formats.loss(loss.test),
                    formats.interval(loss.low, loss.high, 4) if has_interval else None,
                    loss.test,
                ),
                *[estimate_cell(getattr(row, metric)) for metric in rows.ROUGE],
                *([_spread(row, "loss", formats.loss), _spread(row, "rouge1", formats.score)] if several else []),
            )
        )
    spread = " Seed SD: standard deviation of the means of the training seeds." if several else ""
    return Sheet(
        "quality",
        "Quality on the test split: loss in nats per target token (lower is better), ROUGE as F1 in 0-100 "
        f"(higher is better); under each its 95% interval.{spread} {comparison.subset}".rstrip(),
        ("Row", "Test loss", *rows.ROUGE.values(), *(("Seed SD, loss", "Seed SD, R-1") if several else ())),
        tuple(body),
        widths=(0, 1.25, 1, 1, 1, 1, *((0.75, 0.75) if several else ())),
    )


def _spread(row: Row, measure: str, show: Callable[[float | None], str]) -> Cell:
    value = row.seed_sd.get(measure)
    return Cell(show(value), None, value)


def losses(comparison: Comparison) -> Sheet:
    """Losses before and after."""
    columns = [
        Column("Before training", lambda row: row.loss.initial, formats.loss, formats.DASH),
        Column("Validation", lambda row: row.loss.validation, formats.loss, formats.DASH),
        Column("Test", lambda row: row.loss.test, formats.loss, formats.DASH),
    ]
    return by_row(
        comparison,
        "losses",
        "Loss before training (validation split) and at the best epoch, in nats per target token, means over seeds.",
        columns,
    )


def tests_caption(comparison: Comparison, metrics: Iterable[str], secondary: bool = False) -> str:
    """What a table of paired tests shows, what its intervals are, and which differences it would have found."""
    metrics = tuple(metrics)
    names = " and ".join(rows.TESTED[metric] for metric in metrics)
    one_seed = any(test.inference == "trained models" for test in comparison.tests)
    of_models = " With one training seed, p speaks of the trained models, not of training again." if one_seed else ""
    inference = comparison.inference
    seen = [
        formats.difference(size, metric, rows.TESTED[metric])
        for metric in metrics
        if inference is not None and (size := inference.detectable.get(metric)) is not None
    ]
    sizes = " or ".join(seen)
    power = (
        f" Between any two rows a true difference of {sizes} would have been found four times in five." if seen else ""
    )
    return (
        f"{'Secondary measures. ' if secondary else ''}Paired tests on {names} over the same documents: mean "
        "difference, interval and p, corrected over the pairs of one measure, which agree with the decision "
        f"(different: the interval leaves out zero; equivalent: shown to be within the margin).{of_models}{power}"
    )


def tests(comparison: Comparison, metrics: Iterable[str], name: str, caption: str) -> Sheet:
    """Paired tests of some metrics."""
    metrics = tuple(metrics)
    several = len(metrics) > 1
    body = [_test_row(test, several) for test in comparison.tests if test.metric in metrics]
    head = ("Row a", "Row b", *(("Score",) if several else ()), "a − b", "Interval", "p", "p adjusted", "Decision")
    words = (0, 1, 2, len(head) - 1) if several else (0, 1, len(head) - 1)
    return Sheet(
        name, caption, head, tuple(body), words, (1.2, 1.2, *((0.7,) if several else ()), 0.7, 1.2, 0.7, 0.8, 1.1)
    )


def bonus(comparison: Comparison) -> Sheet:
    """Time, parameters, what is stored."""
    return by_row(
        comparison,
        "bonus",
        "Training time and parameters. Training time is the sum of synchronised optimizer steps, "
        "without preparation (a trunk cache made, too), evaluation, search and checkpoints; means over seeds.",
        [
            Column("Training time", _cost("train_seconds"), formats.seconds),
            Column("Added parameters", _parameters("num_added_parameters"), formats.count, formats.DASH),
            Column("Trainable parameters", _parameters("num_trainable_parameters"), formats.count, formats.DASH),
            Column("Total parameters", _parameters("num_total_parameters"), formats.count, formats.DASH),
            Column("Stored", _parameters("stored_bytes"), _bytes, formats.DASH),
        ],
    )


_MEMORY = "It is memory that no file backs: mapped data, caches and libraries are not part of it."


def compute(comparison: Comparison, device: str, num_devices: int) -> Sheet:
    """What the device did: seconds, utilisation, operations, memory, energy."""
    name = "GPU" if device == "cuda" else device.upper()

    def rate(row: Row) -> float | None:
        flops, seconds = rows.cost(row, "train_flops"), rows.cost(row, "train_seconds")
        return flops / seconds / num_devices if flops and seconds else None

    def busy(row: Row) -> float | None:
        worked, held = rows.cost(row, "busy_seconds"), rows.cost(row, "device_seconds")
        return worked / held if worked is not None and held else None

    return by_row(
        comparison,
        "compute",
        f"Compute of training on {num_devices} {name} {'device' if num_devices == 1 else 'devices'}. Executed and "
        "plain FLOPs follow from passes counted by dispatch: plain is the same job without the exact savings. "
        f"Utilisation is the mean share of {'the GPU' if device == 'cuda' else 'all cores'} at work; the rate is "
        "executed FLOPs for each second of a device. Peak memory is that of training, weights included; added is how "
        "far it lies above what was in use before the first step. "
        f"{'It is what the allocator handed out.' if device == 'cuda' else _MEMORY}",
        [
            Column("GPU-seconds" if device == "cuda" else "Core-seconds", _cost("device_seconds"), _plain),
            Column("Utilisation", busy, formats.share),
            Column("Executed", _cost("train_flops"), _flops),
            Column("Plain", _cost("plain_flops"), _flops),
            Column(
                "Rate",
                rate,
                lambda value, missing: missing if value is None else formats.quantity(value, "flops") + "/s",
                width=1.7,
            ),
            Column("Peak memory", _cost("peak_memory_bytes"), _bytes),
            Column("Added", _cost("added_peak_memory_bytes"), _bytes),
            Column("Energy", _cost("energy_joules"), lambda value, missing: formats.quantity(value, "joules", missing)),
            Column("Tokens/s", _cost("tokens_per_second"), formats.count),
        ],
    )


def shape(comparison: Comparison) -> Sheet:
    """What the summaries look like."""

    def of(name: str) -> Callable[[Row], float | None]:
        return lambda row: rows.value(row, f"text_shape.{name}")

    return by_row(
        comparison,
        "shape",
        "What the summaries look like: mean words of summary and reference, share that ran into the "
        "limit of new tokens, share empty, share of word pairs not in the document, longest copied run of words, "
        "share of repeated word triples.",
        [
            Column("Words", of("prediction_words"), formats.words, formats.DASH),
            Column("Reference", of("reference_words"), formats.words, formats.DASH),
            Column("At limit", of("share_at_cap"), formats.share, formats.DASH),
            Column("Empty", of("share_empty"), formats.share, formats.DASH),
            Column("New pairs", of("novel_bigrams"), formats.share, formats.DASH),
            Column("Longest copy", of("longest_copied_words"), formats.words, formats.DASH),
            Column("Repeated", of("repeated_trigrams"), formats.share, formats.DASH),
        ],
    )


def hyper_parameters(results: Results) -> Sheet:
    """What each row was trained with, and how its learning rate was found."""
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
    return Sheet(
        "hyper",
        "Hyper-parameters of every row: the learning rate and how it was found, the epochs and optimizer steps "
        "trained (one value for each seed where they differ), and the method's own options.",
        ("Row", "Learning rate", "How it was found", "Epochs", "Steps", "Options"),
        tuple(body),
        (0, 1, 2, 5),
        (0, 0.8, 1.7, 0.6, 0.6, 2.2),
    )


def recipe(results: Results) -> Sheet:
    """The settings that are the same for every row."""
    suite = results.suite
    used = dict.fromkeys(run.record.provenance.precision for run in results.runs if run.record.provenance is not None)
    training, limits, decoding, search = suite.training, suite.limits, suite.decoding, suite.search
    pairs = [
        ("Loss", "cross-entropy of summary tokens and one end token, in nats; sum divided once"),
        ("Optimizer", {"adamw": "AdamW (Loshchilov and Hutter, 2019)", "adafactor": "Adafactor"}[training.optimizer]),
        (
            "Schedule",
            f"{training.schedule}, after a warm-up over {formats.share(training.warmup_fraction)} of the steps",
        ),
        (
            "Epochs",
            f"at most {training.max_epochs}; training stops after {training.patience} without a lower validation loss; "
            "the weights of the best epoch are evaluated",
        ),
        (
            "Batch",
            f"{training.global_batch_size} documents an optimizer step, in micro-batches of at most "
            f"{training.micro_batch_size}",
        ),
        ("Clipping", f"gradients of what is trained, at norm {training.max_grad_norm:g}"),
        ("Precision", f"{', '.join(used)} (asked for: {training.precision})" if used else training.precision),
        ("Seeds", ", ".join(map(str, suite.seeds)) + "; rows without training run once, under the first"),
        (
            "Learning-rate search",
            f"{search.trials} trials a row, each of {formats.number_of(search.epochs, 'epoch')} on at most "
            f"{search.train_documents:,} documents, judged on at most {search.validation_documents:,}"
            if search.trials > 1
            else "none: the rate of each row was set beforehand",
        ),
        (
            "Lengths",
            f"documents cut at {limits.document_tokens} tokens; training summaries above {limits.summary_tokens} "
            "tokens dropped",
        ),
        ("Separator", _quoted(suite.separator)),
        (
            "Decoding",
            f"{formats.number_of(decoding.num_beams, 'beam')}, at most {decoding.max_new_tokens} new tokens, no "
            "repeated "
            f"{decoding.no_repeat_ngram_size}-grams, length penalty {decoding.length_penalty:g}; one for all rows",
        ),
    ]
    return Sheet(
        "recipe",
        "Settings shared by every row.",
        ("Setting", "Value"),
        tuple((Cell(key), Cell(text)) for key, text in pairs),
        (0, 1),
        (0.3, 1),
    )


def splits(results: Results) -> Sheet | None:
    """What became of each split, as the first finished run recorded it; the comparison refuses runs that differ."""
    data = next((run.record.data for run in results.runs if run.record.data is not None), None)
    if data is None:
        return None
    heads = {
        "read": "Read",
        "dropped_empty": "Empty",
        "dropped_duplicate": "Duplicate",
        "dropped_long_summary": "Long summary",
        "not_sampled": "Not sampled",
        "requested": "Asked for",
        "used": "Used",
        "truncated": "Truncated",
    }
    body = [
        (Cell(name), *[Cell(formats.count(getattr(counts, key)), None, getattr(counts, key)) for key in heads])
        for name, counts in data.splits.items()
    ]
    return Sheet(
        "splits",
        "Pairs of each split: read, dropped and why, left out by the seeded sample, asked for (0: all), used, and "
        "how many of these had their document truncated.",
        ("Split", *heads.values()),
        tuple(body),
    )


def clocks(comparison: Comparison) -> Sheet:
    """Where the time of a run went; the search, which one run makes for all seeds, in all."""

    def clock(name: str) -> Callable[[Row], float | None]:
        return lambda row: row.cost.get(f"{name}_seconds")

    def search(name: str) -> Callable[[Row], float | None]:
        return lambda row: rows.cost(row, name) or None

    return by_row(
        comparison,
        "clocks",
        "Where the time of a run went: clocks that do not overlap, means over seeds. The learning-rate search is "
        "made once for all seeds; its time and operations are given in all, and are in no other figure of cost.",
        [
            Column("Start", clock("startup"), formats.seconds, formats.DASH),
            Column("Data", clock("preparation"), formats.seconds, formats.DASH),
            Column("Compile", clock("compile"), formats.seconds, formats.DASH),
            Column("Steps", _cost("train_seconds"), formats.seconds, formats.DASH),
            Column("Evaluation", clock("evaluation"), formats.seconds, formats.DASH),
            Column("Generation", clock("generation"), formats.seconds, formats.DASH),
            Column("Saving", clock("checkpoint"), formats.seconds, formats.DASH),
            Column("Search", search("search_seconds"), formats.seconds, formats.DASH),
            Column("Its FLOP", search("search_flops"), _flops, formats.DASH),
        ],
    )


def generation(comparison: Comparison) -> Sheet:
    """How fast each row writes."""
    return by_row(
        comparison,
        "generation",
        "Writing the summaries of the test split: time, documents a second in batches, and seconds that one document "
        "of median length takes alone; means over seeds.",
        [
            Column("Time", lambda row: row.cost.get("generation_seconds"), formats.seconds, formats.DASH),
            Column("Documents/s", lambda row: row.cost.get("documents_per_second"), _plain, formats.DASH),
            Column("Alone", lambda row: row.cost.get("generation_latency_seconds"), formats.seconds, formats.DASH),
        ],
    )


def scaling(comparison: Comparison) -> Sheet | None:
    """What each row makes of more documents; None where the suite did not vary them."""
    body = []
    labels = dict.fromkeys(label for point in comparison.scaling for label in point.rows)
    for label in labels:
        for point in comparison.scaling:
            row = point.rows.get(label)
            if row is None:
                continue
            size = point.train_documents
            gain = next((test for test in point.gains if test.a == f"{label}@{size}" and test.metric == "rouge1"), None)
            body.append(
                (
                    _label(label, row),
                    Cell(formats.count(size), None, size),
                    Cell(formats.loss(row.loss.test), None, row.loss.test),
                    estimate_cell(row.rouge1),
                    Cell(formats.DASH)
                    if gain is None
                    else Cell(formats.signed(gain.difference), formats.interval(gain.low, gain.high), gain.difference),
                    Cell(formats.DASH if gain is None else formats.p_value(gain.p_value_adjusted)),
                    Cell(formats.seconds(rows.cost(row, "train_seconds"))),
                )
            )
    if not body:
        return None
    return Sheet(
        "scaling",
        "How each row gains with data: trained on seeded samples, each of which holds the smaller ones, for as many "
        "epochs, with a search of its own. The gain in R-1 is over the line above, on the same test documents; p by "
        "Holm's correction "
        f"over all gains. {comparison.subset}".rstrip(),
        ("Row", "Documents", "Test loss", "R-1", "Gain", "p adjusted", "Training time"),
        tuple(body),
    )


def further(comparison: Comparison) -> Sheet | None:
    """What metrics beyond those of the package score; None where there are none."""

    def of(name: str) -> Callable[[Row], float | None]:
        return lambda row: row.further_scores.get(name)

    columns = [Column(name, of(name), formats.exact, formats.DASH) for name in rows.further_names(comparison)]
    caption = "Further scores, as their metrics give them: means over seeds."
    return by_row(comparison, "further", caption, columns) if columns else None


def whole_record(comparison: Comparison) -> list[Sheet]:
    """Every number of the comparison's rows, as recorded, a label before each line."""

    def sheet(name: str, caption: str, fields: Iterable[tuple[str, Callable[[Row], Any]]]) -> Sheet:
        columns = [Column(head, get, formats.exact, formats.DASH) for head, get in fields]
        return by_row(comparison, name, caption, columns, failures=False)

    def path(text: str) -> Callable[[Row], Any]:
        return lambda row: rows.value(row, text)

    sheets = [
        sheet(
            f"exact-{metrics[0]}",
            f"{' and '.join(metrics)}: mean and 95% interval, as recorded.",
            [(f"{metric} {part}", path(f"{metric}.{part}")) for metric in metrics for part in Estimate.model_fields],
        )
        for metrics in (("rouge1", "rouge2"), ("rougeL", "rougeLsum"))
    ]
    sheets.append(
        sheet(
            "exact-loss",
            "loss: nats per target token, as recorded.",
            [(name, path(f"loss.{name}")) for name in [*Loss.model_fields, "low", "high"]],
        )
    )
    sheets.append(
        sheet(
            "exact-parameters",
            "parameters: counts by unique storage, as recorded.",
            [(name, path(f"parameters.{name}")) for name in Parameters.model_fields],
        )
    )
    starts = range(0, len(NUMERIC_COSTS), 5)
    for number, start in enumerate(starts, 1):
        sheets.append(
            sheet(
                f"exact-cost-{number}",
                f"cost, {number} of {len(starts)}: means over seeds, of the search the sum, as recorded.",
                [(name, path(f"cost.{name}")) for name in NUMERIC_COSTS[start : start + 5]],
            )
        )
    sheets.append(
        sheet(
            "exact-shape",
            "text_shape: means over seeds, as recorded.",
            [(name, path(f"text_shape.{name}")) for name in TextShape.model_fields],
        )
    )
    return sheets


def runs(results: Results) -> Sheet:
    """Every run with its own figures."""
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
                *[Cell(formats.score(getattr(record.rouge, name)) if done else formats.DASH) for name in rows.ROUGE],
                Cell(f"{record.training.best_epoch} of {record.training.epochs}" if record.training else formats.DASH),
                Cell(record.provenance.time if record.provenance else formats.DASH),
            )
        )
    return Sheet(
        "runs",
        "Every run: test loss, ROUGE, best epoch and the epochs trained, time.",
        ("Row", "Seed", "Status", "Loss", *rows.ROUGE.values(), "Best epoch", "Time"),
        tuple(body),
        (0, 2, 9),
        (1.3, 0.5, 0.7, 0.8, 0.7, 0.7, 0.7, 0.8, 0.8, 1.3),
    )


def by_row(comparison: Comparison, name: str, caption: str, columns: list[Column], failures: bool = True) -> Sheet:
    """A table with a line for each row of the comparison.

    Args:
        failures: say of a failed row that it failed; else its cells are empty.
    """
    body = []
    for label, row in comparison.rows.items():
        failed = rows.failed(row)
        cells = []
        for number, column in enumerate(columns):
            value = column.get(row)
            missing = column.missing or (formats.NOT_MEASURED if rows.trained(row) else formats.DASH)
            text = formats.FAILED if failed and failures and number == 0 else column.show(value, missing)
            cells.append(Cell(text, None, None if text in _MISSING else value))
        body.append((_label(label, row), *cells))
    head = ("Row", *[column.head for column in columns])
    return Sheet(name, caption, head, tuple(body), widths=(0, *[column.width for column in columns]))


def _label(label: str, row: Row) -> Cell:
    return Cell(label, rows.failure_note(row) or None)


def estimate_cell(estimate: Estimate | None) -> Cell:
    """A score, and under it its interval."""
    if estimate is None:
        return Cell(formats.DASH)
    has_interval = estimate.low is not None and estimate.high is not None
    return Cell(
        formats.score(estimate.mean),
        formats.interval(estimate.low, estimate.high) if has_interval else None,
        estimate.mean,
    )


def _test_row(test: PairedTest, several: bool) -> tuple[Cell, ...]:
    difference, interval, adjusted = rows.test_figures(test)
    return (
        Cell(test.a),
        Cell(test.b),
        *((Cell(rows.TESTED[test.metric]),) if several else ()),
        Cell(difference, None, test.difference),
        Cell(interval),
        Cell(formats.p_value(test.p_value), None, test.p_value),
        Cell(adjusted, None, test.p_value_adjusted),
        Cell(rows.decision(test)),
    )


def _cost(name: str) -> Callable[[Row], float | None]:
    return lambda row: rows.cost(row, name)


def _parameters(name: str) -> Callable[[Row], float | None]:
    return lambda row: rows.value(row, f"parameters.{name}")


def _bytes(value: float | None, missing: str) -> str:
    return formats.quantity(value, "bytes", missing)


def _flops(value: float | None, missing: str) -> str:
    return formats.quantity(value, "flops", missing)


def _plain(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:,.1f}"


def _rates(runs_of_row: list[Run]) -> str:
    rates = dict.fromkeys(f"{rate:g}" for run in runs_of_row if (rate := _rate(run)) is not None)
    return ", ".join(rates) or formats.DASH


def _rate(run: Run) -> float | None:
    if run.record.search is not None:
        return run.record.search.chosen
    rate = run.record.options.get("learning_rate")
    return rate if run.tuned and isinstance(rate, (int, float)) else None


def _found(runs_of_row: list[Run]) -> str:
    searches = [run.record.search for run in runs_of_row if run.record.search is not None]
    if not searches:
        return "set, not searched for" if any(run.tuned for run in runs_of_row) else formats.DASH
    tried = "; ".join(
        f"{trial.learning_rate:g}: {formats.loss(trial.validation_loss, 'diverged')}" for trial in searches[0].trials
    )
    edge = "; the best is at the edge of the grid" if any(search.at_edge for search in searches) else ""
    return f"validation loss {tried}{' (first seed)' if len(searches) > 1 else ''}{edge}"


def _lasted(runs_of_row: list[Run], field: str) -> str:
    found = dict.fromkeys(
        f"{getattr(run.record.training, field):,}" for run in runs_of_row if run.record.training is not None
    )
    return ", ".join(found) or formats.DASH


def _options(run: Run) -> str:
    hidden = ("learning_rate", "learning_rates", "kind", *(() if run.tuned else ("weight_decay",)))
    options = [f"{name} = {_option(value)}" for name, value in run.record.options.items() if name not in hidden]
    return ", ".join(options) or formats.DASH


def _quoted(text: str) -> str:
    """A text in quotes, the line breaks that it begins with in words."""
    rest = text.lstrip("\n")
    breaks = len(text) - len(rest)
    quoted = f"“{rest}”".replace("\n", " ↵ ")
    return f"{formats.number_of(breaks, 'line break')}, then {quoted}" if breaks else quoted


def _option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_option, value)) + "]"
    return "by default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
