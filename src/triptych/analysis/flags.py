"""Warnings about a method or a comparison, in full sentences."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from triptych.analysis.curves import still_falling
from triptych.results.reading import Results, SavedRun
from triptych.results.records import ROUGE_TYPES
from triptych.text import formats
from triptych.text.languages import ENGLISH
from triptych.text.measures import short_unit_of
from triptych.text.synthetic import SyntheticPart, synthetic_parts, synthetic_sentence

NOT_MOVED = 0.005  # share of the initial validation loss; a far too low rate (1e-4 for a prompt) changes it by less
HIGH_SHARE_AT_CAP = 0.05  # above it, the cap rather than the method sets the length, which dominates ROUGE
HIGH_SHARE_EMPTY = 0.01
HIGH_RATE = 0.5  # share of the peak; weights from a higher rate missed the benefit of the schedule's decay
SAME_SEARCH = 0.02  # share of documents by which equal budgets may differ, since trials have whole steps
_NUMBER = re.compile(
    r"(?<![\w.-])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.-]*\w)"
)  # not that of `lead-3` or `bf16`
FEW_DOCUMENTS = 50  # in scored files; with fewer, a ROUGE-1 interval is several points wide


def row_flags(runs: Sequence[SavedRun], repetition: str = "seed") -> list[str]:
    """Warnings about one method, in full sentences; seeds are named if a warning does not apply to all that finished.

    Warnings that differ between seeds only in their numbers are one, with the range of each number.

    Args:
        runs: the runs of the method, failed ones too.
        repetition: what tells the runs apart: the `seed`, or the `set` of predictions of a scored system.
    """
    alike: dict[str, dict[int, str]] = defaultdict(dict)
    for run in runs:
        for sentence in _run_flags(run) if run.done else [_failure(run)]:
            alike[_NUMBER.sub("#", sentence) if run.done else sentence][run.record.seed] = sentence
    finished = {run.record.seed for run in runs if run.done}
    flags = []
    for seeds in alike.values():
        sentence = _with_ranges(list(seeds.values()))
        everywhere = len(seeds) == (len(finished) if finished.issuperset(seeds) else len(runs))
        flags.append(sentence if everywhere else f"{formats.capitalized(_named(list(seeds), repetition))}: {sentence}")
    losses: dict[float, list[int]] = defaultdict(list)
    for run in runs:
        if run.done and run.trained and run.record.loss.test is not None:
            losses[run.record.loss.test].append(run.record.seed)
    flags.extend(
        f"{formats.capitalized(_named(seeds, repetition))} gave bit-equal test losses: the seed has no effect here, so "
        "these are not repetitions."
        for seeds in losses.values()
        if len(seeds) > 1
    )
    return flags


def _with_ranges(sentences: Sequence[str]) -> str:
    """Sentences that differ only in their numbers as one: `12 to 14% of the summaries ...`."""
    columns = zip(*[_NUMBER.findall(sentence) for sentence in sentences], strict=True)
    ranges = []
    for numbers in columns:
        low, high = (bound(numbers, key=lambda shown: float(shown.replace(",", ""))) for bound in (min, max))
        ranges.append(low if low == high else f"{low} to {high}")
    rest = iter(ranges)
    return _NUMBER.sub(lambda _: next(rest), sentences[0])


def comparison_flags(results: Results) -> list[str]:
    """Warnings about the whole comparison, in full sentences."""
    done = [run for run in results.runs if run.done]
    return [
        *(results.files.flags if results.files is not None else []),
        *results.notes,
        *_chosen(results),
        *_quantized(results),
        *filter(None, [synthetic_sentence(synthetic_parts_of(done))]),
        *_counted(done),
        *_partly_scored(done),
        *_unfinished(results),
        *(_few_seeds(results) if results.files is None else _few_sets(results)),
        *_unequal_search(results),
        *_equal_texts(results),
        *_unequal_machines(done),
        *_unequal_memory(done),
    ]


def _chosen(results: Results) -> list[str]:
    """Say that the sizes were chosen for a budget."""
    design = results.suite.design
    if design is None:
        return []
    unit = short_unit_of(results.suite.analysis.primary, design.detect)
    return [
        "The numbers of seeds, test documents, training pairs and epochs, the same for every method, were chosen "
        f"before the first run for a budget of {_duration(design.within_seconds)} (--within): "
        f"{formats.number_of(design.seeds, 'seed')}, {formats.number_of(design.test_documents, 'test document')}, "
        f"{formats.number_of(design.train_documents, 'training pair')}, up to "
        f"{formats.number_of(design.max_epochs, 'epoch')}. This was estimated to "
        f"take {_duration(design.estimated_seconds)}, and to detect a true difference of {design.detect:g} {unit} "
        f"between two trained methods in {design.power:.0%} of comparisons."
    ]


def _quantized(results: Results) -> list[str]:
    """Say that the base model was stored in 4 bits."""
    kind = results.suite.model_quantization
    if results.files is not None or kind == "none":
        return []
    return [
        f"The matrices of the base model were stored in 4 bits ({kind.upper()}, model_quantization = {kind}), the same "
        "for every method: the figures are those of the quantized model."
    ]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h" if seconds >= 7200 else f"{seconds / 60:.3g} min"


def _run_flags(run: SavedRun) -> list[str]:
    """The sentences about one finished run."""
    record, flags = run.record, []
    if (moved := _how_the_loss_moved(run)) is not None:
        flags.append(moved)
    if record.search is not None and record.search.better_beyond:
        flags.append(
            f"The best learning rate, {record.search.chosen:g}, is at the edge of the grid "
            f"({', '.join(f'{rate:g}' for rate in record.search.rates)}): a better one may lie beyond it."
        )
    training = record.training
    if training is not None and still_falling(run):
        flags.append(
            "The validation loss was still falling when training ended after "
            f"{training.epochs:g} {'epoch' if training.epochs == 1 else 'epochs'}: more epochs may lower it."
        )
    if training is not None and training.recomputed:
        flags.append(
            "Memory ran out with one document per pass, so each block was recomputed in the backward pass: time and "
            "FLOPs are higher, and memory is lower, than on a machine with more memory."
        )
    sharding = record.notes.get("sharding")
    if isinstance(sharding, dict) and isinstance(ranks := sharding.get("ranks"), int):
        flags.append(
            f"The model was sharded over {ranks} processes: memory is that of the process that used the most, and "
            "time includes gathering the weights."
        )
    if note := record.cost.shared_note:
        flags.append(f"{formats.capitalized(note)}.")
    share = _rate_share(run)
    if share is not None and share > HIGH_RATE:
        flags.append(
            f"The best weights are from a step at which the learning rate was still at {share:.0%} of its peak: they "
            "did not benefit from the schedule's decay, which usually lowers the loss."
        )
    shape = record.text_shape
    if shape is not None and shape.share_at_cap is not None and shape.share_at_cap > HIGH_SHARE_AT_CAP:
        flags.append(
            f"{shape.share_at_cap:.0%} of the summaries were cut off at decoding.max_new_tokens, "
            "which sets their length and so affects ROUGE."
        )
    scored = shape is not None and shape.share_at_cap is None  # its empty outputs are among the warnings below
    if shape is not None and shape.share_empty > HIGH_SHARE_EMPTY and not scored:
        flags.append(f"{shape.share_empty:.0%} of the summaries are empty.")
    return [*flags, *record.notes.get("warnings", [])]


def _how_the_loss_moved(run: SavedRun) -> str | None:
    """A sentence if training did not lower the validation loss; None if it did."""
    initial, after, training = run.record.loss.initial, run.record.loss.validation, run.record.training
    if not run.trained or initial is None or after is None:
        return None
    untouched = ""
    if training is not None and training.best_step == 0:
        untouched = "No evaluation beat the untrained weights, so those were evaluated on the test split. "
        losses = [line.get("validation_loss") for line in run.history if line.get("event") == "evaluation"]
        after = min((loss for loss in losses if isinstance(loss, int | float)), default=after)
    if abs(initial - after) <= NOT_MOVED * initial:
        return (
            f"{untouched}The validation loss did not move ({initial:.4f} before training, {after:.4f} after). "
            f"{_advice(run)}"
        )
    if after > initial:
        return (
            f"{untouched}Training made the validation loss worse ({initial:.4f} before, {after:.4f} after): "
            "the learning rate is probably too high."
        )
    return untouched.strip() or None


def _rate_share(run: SavedRun) -> float | None:
    """The learning rate of the best weights as a share of the peak; None if unknown or the schedule is constant."""
    training = run.record.training
    rates = [
        rate
        for line in run.history
        if line.get("event") == "step" and isinstance(rate := line.get("learning_rate"), int | float) and rate > 0
    ]
    if training is None or not training.best_rate or not rates or run.setting("training.schedule") == "constant":
        return None
    return training.best_rate / max(rates)


def _advice(run: SavedRun) -> str:
    """What to try if the loss did not move, with the method's own notes."""
    record = run.record
    sentences = ["The learning rate is probably too low: raise learning_rate, or search a grid with higher rates."]
    if "distance_moved" in record.notes:
        sentences.append(f"Distance moved: {_shown(record.notes['distance_moved'])}.")
    if "nearest_tokens" in record.notes:
        sentences.append(f"Nearest tokens: {_shown(record.notes['nearest_tokens'])}.")
    return " ".join(sentences)


def _shown(note: Any) -> str:
    if isinstance(note, float):
        return f"{note:.4g}"
    if isinstance(note, (list, tuple)):
        return ", ".join(repr(item) if isinstance(item, str) else _shown(item) for item in note)
    return str(note)


def _failure(run: SavedRun) -> str:
    reason = (run.record.error or "no reason was recorded").strip().splitlines()[-1].rstrip(".")
    return f"The run failed: {reason}. It is excluded from all results."


def synthetic_parts_of(done: Sequence[SavedRun]) -> list[SyntheticPart]:
    """The synthetic parts of finished runs.

    Args:
        done: the finished runs.
    """
    return synthetic_parts(
        model=any(run.record.provenance is not None and run.record.provenance.synthetic_model for run in done),
        data=any(run.record.data is not None and run.record.data.synthetic for run in done),
    )


def _counted(done: Sequence[SavedRun]) -> list[str]:
    """What ROUGE and the word counts count, for languages other than English."""
    rouge = done[0].record.rouge if done else None
    return [rouge.counted] if rouge is not None and rouge.counted and rouge.language != ENGLISH else []


def _partly_scored(done: Sequence[SavedRun]) -> list[str]:
    """Name the metrics that scored only some methods, for example because a plug-in was added later."""
    scored = [run.record for run in done if run.record.signatures]  # earlier versions did not record them
    flags = []
    for metric in dict.fromkeys(name for record in scored for name in record.signatures):
        lacking = list(dict.fromkeys(record.label for record in scored if metric not in record.signatures))
        if lacking:
            flags.append(
                f"The metric {metric} did not score {formats.listed(lacking)}: triptych score OUT --metric {metric} "
                "adds what is missing."
            )
    return flags


def _unfinished(results: Results) -> list[str]:
    if not results.missing:
        return []
    names = ", ".join(f"{label} (seed {seed})" for label, seed in results.missing)
    return [f"The suite has not finished. Not in this comparison: {names}."]


def _few_seeds(results: Results) -> list[str]:
    """Warn about single seeds, which say nothing about the spread over seeds, and about unequal numbers of seeds."""
    counts = {label: len(runs) for label in results.labels if (runs := results.of(label)) and runs[0].trained}
    if not counts:
        return []
    if max(counts.values()) == 1:
        meaning = "apply to these trained models on new documents and do not cover training with another seed"
        return [f"Every trained method has one seed: the intervals and tests {meaning}."]
    if min(counts.values()) < max(counts.values()):
        listed = ", ".join(f"{label} {count}" for label, count in counts.items())
        return [f"The trained methods do not have the same number of finished seeds: {listed}."]
    return []


def _few_sets(results: Results) -> list[str]:
    """Warn about single or unequal numbers of sets of predictions, and about few documents."""
    flags = []
    counts = {label: len(results.of(label)) for label in results.labels}
    documents = len(results.runs[0].predictions)
    if max(counts.values()) == 1:
        meaning = "apply to these outputs on new documents and do not cover training or sampling again"
        flags.append(f"Every system has one set of predictions: the intervals and tests {meaning}.")
    elif min(counts.values()) < max(counts.values()):
        listed = ", ".join(f"{label} {count}" for label, count in counts.items())
        flags.append(f"The systems do not have the same number of sets of predictions: {listed}.")
    if 1 < documents < FEW_DOCUMENTS:
        flags.append(f"{documents} documents are few: only very large differences can be found.")
    return flags


def _unequal_search(results: Results) -> list[str]:
    """Warn about unequal search budgets, in documents trained on, or in rates if older records lack those."""
    budgets: dict[str, int] = {}
    found = [(run.record.label, run.record.search) for run in results.runs if run.done and run.trained]
    trials = [trial for _, search in found if search is not None for trial in search.trials]
    counted = all(trial.documents is not None for trial in trials)
    for label, search in found:
        spent = sum((trial.documents or 0) if counted else 1 for trial in search.trials) if search is not None else 0
        budgets[label] = max(spent, budgets.get(label, 0))  # maximum over seeds: one search may serve all of them
    if not budgets or max(budgets.values()) <= (1 + SAME_SEARCH) * min(budgets.values()):
        return []
    listed = ", ".join(f"{label} {spent:,}" for label, spent in budgets.items())
    what = "did not train on the same number of documents" if counted else "did not try the same number of rates"
    return [f"The methods {what} in their learning-rate searches ({listed}): this favors those with more."]


def _equal_texts(results: Results) -> list[str]:
    """Warn about equal predictions or ROUGE of two methods under one seed; an untrained one counts for every seed.

    Runs that wrote nothing have a warning of their own.
    """
    flags, repetition = [], "seed" if results.files is None else "set"
    for a, b in combinations(results.labels, 2):
        pairs = [pair for pair in _paired_runs(results.of(a), results.of(b)) if any(map(_wrote_something, pair))]
        texts = [
            first.record.seed
            for first, second in pairs
            if all(p.prediction == q.prediction for p, q in zip(first.predictions, second.predictions, strict=True))
        ]
        scores = [
            first.record.seed
            for first, second in pairs
            if all(getattr(first.record.rouge, m) == getattr(second.record.rouge, m) for m in ROUGE_TYPES)
        ]
        if texts:
            flags.append(
                f"{a} and {b} wrote the same summaries ({_named(texts, repetition)}): one of them may not do what its "
                "name suggests."
            )
        elif scores:
            which = _named(scores, repetition)
            flags.append(f"{a} and {b} have equal ROUGE from different summaries ({which}): check them.")
    return flags


def _wrote_something(run: SavedRun) -> bool:
    return any(line.prediction.strip() for line in run.predictions)


def _paired_runs(a: Sequence[SavedRun], b: Sequence[SavedRun]) -> list[tuple[SavedRun, SavedRun]]:
    """Pairs of runs under the same seed; an untrained method run once is paired with each run of the other."""
    if len(a) == 1 and not a[0].trained:
        return [(run, a[0]) for run in b]
    if len(b) == 1 and not b[0].trained:
        return [(run, b[0]) for run in a]
    by_seed = {run.record.seed: run for run in b}
    return [(run, by_seed[run.record.seed]) for run in a if run.record.seed in by_seed]


def _unequal_machines(done: Sequence[SavedRun]) -> list[str]:
    """Warn about differences that make costs, but not quality, incomparable."""
    flags = []
    with_provenance = [run for run in done if run.record.provenance is not None]
    for what, value in (
        ("hardware", lambda run: run.record.provenance.hardware),
        ("devices", lambda run: run.record.provenance.device),
        ("micro-batch sizes", lambda run: run.setting("training.micro_batch_size")),
        ("engine settings", lambda run: [run.setting(f"engine.{name}") for name in ("plain", "sharding")]),
    ):
        trained = [run for run in with_provenance if run.trained]
        if _differ(trained, value):
            flags.append(
                f"The methods were trained with different {what}: their seconds, memory and energy cannot be compared."
            )
    for what, value in (
        ("commits", lambda run: run.record.provenance.commit),
        ("package versions", lambda run: run.record.provenance.versions),
    ):
        if _differ(with_provenance, value):
            flags.append(f"The runs were made with different {what}; the provenance in each record.json lists them.")
    if any(run.record.provenance is not None and run.record.provenance.dirty for run in with_provenance):
        flags.append("Some runs were made with uncommitted changes.")
    return flags


def _differ(runs: Sequence[SavedRun], value: Callable[[SavedRun], Any]) -> bool:
    return any(value(run) != value(runs[0]) for run in runs)


def _named(seeds: Sequence[int], repetition: str) -> str:
    """`seed 0`, `sets 0 and 1`."""
    return f"{repetition}{formats.verb(seeds, '', 's')} {formats.listed([str(seed) for seed in seeds])}"


def _unequal_memory(done: Sequence[SavedRun]) -> list[str]:
    """Warn if peak memory was measured in several ways, as in records of older versions."""
    kinds = sorted({run.record.cost.peak_memory_kind for run in done if run.record.cost.peak_memory_kind})
    if len(kinds) < 2:
        return []
    return [
        f"Peak memory was measured in {len(kinds)} ways ({', '.join(kinds)}), so it cannot be compared between the "
        "methods: rerun them with one version and on one kind of device."
    ]
