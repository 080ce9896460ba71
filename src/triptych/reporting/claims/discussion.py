"""The discussion and conclusion, generated from the results: every claim is based on numbers in the same report."""

from collections.abc import Sequence
from typing import Any

from triptych.analysis.curves import still_falling
from triptych.analysis.verdict import (
    decision_of,
    find_test,
    is_significant,
    leaders,
    mean_of,
    of_those_with_one_seed,
    oriented,
    pareto_front,
    ranking,
    seed_counts,
    shown_to_differ,
    with_one_seed,
)
from triptych.reporting import rows
from triptych.reporting.claims.selection import (
    cell,
    estimate_in_words,
    having,
    highest,
    listed_cells,
    lowest,
    number,
    of_kind,
    trained,
)
from triptych.results.reading import Results
from triptych.results.records import Comparison, PairedTest, TrainingSummary
from triptych.text import formats
from triptych.text.measures import difference_of, digits_of, lower_is_better, second_measure, short_name_of
from triptych.text.synthetic import parts_are

_IN_SHORT = {"different": "significant", "equivalent": "equivalent", "undecided": "not significant"}
_STOPS, _RUNS_ON = 0.05, 0.5  # shares of summaries at the cap: below, a method stops by itself; above, it does not
_MUCH = 1.1  # length ratio up to which summaries count as about as long as references
_MOST_PAIRS = 4  # maximum pairs that a sentence lists with intervals; if there are more, it gives their number


def loss_against_rouge(comparison: Comparison) -> str | None:
    """How much of the best method's gain over the untuned model each other method reaches, in loss and R-1.

    Only for methods that are shown to be better than the untuned model in both.
    """
    bases = having(comparison, "loss.test", of_kind(comparison, "untuned"))
    if not bases:
        return None
    base = bases[0]
    labels = [
        label for label in having(comparison, "loss.test", trained(comparison)) if _gained(comparison, label, base)
    ]
    if len(labels) < 2:
        return None
    best = lowest(comparison, "loss.test", labels)[0]
    fall, rise = _gains(comparison, best, base)
    shares = {
        label: (a / fall, b / rise) for label in labels if label != best for a, b in [_gains(comparison, label, base)]
    }
    reached = {label: f"{formats.share(a)} and {formats.share(b)}" for label, (a, b) in shares.items()}
    if len(reached) == 1:
        other, both = next(iter(reached.items()))
        rest = f"{other}, the only other method that improves both significantly, reaches {both} of the two gains."
    else:
        listed = "; ".join(f"{label} {both}" for label, both in reached.items())
        rest = f"The other methods that improve both significantly reach these shares of the two gains: {listed}."
    text = (
        f"{best} lowers the test loss of {base} by {formats.loss(fall)} nats per target token and raises R-1 by "
        f"{formats.rouge_score(rise)}. {rest}"
    )
    each = formats.verb(shares, "It", "Each")
    if all(b > a for a, b in shares.values()):
        text += (
            f" {each} reaches more of the gain in R-1 than of the gain in loss: the form of a summary, which ROUGE "
            "rewards at once, seems to be learned first, and the choice of words, which the loss measures, later."
        )
    elif all(b < a for a, b in shares.values()):
        text += (
            f" {each} reaches more of the gain in loss than of the gain in R-1: not all that is learned about the "
            "words of a reference carries over to generated summaries."
        )
    return text


def stopping_and_length(comparison: Comparison) -> str | None:
    """Which methods have learned to stop, and how long their summaries are."""
    labels = having(comparison, "text_shape.share_at_cap", trained(comparison))
    if not labels:
        return None
    limit = "text_shape.share_at_cap"
    bases = having(comparison, limit, of_kind(comparison, "untuned"))
    shares = ", ".join(f"{label} {cell(comparison, label, limit)}" for label in [*labels, *bases[:1]])
    long = [label for label in labels if _STOPS < number(comparison, label, limit) <= _RUNS_ON]
    endless = [label for label in labels if number(comparison, label, limit) > _RUNS_ON]
    stopping = "; ".join(
        f"{formats.listed(group)} {formats.verb(group, one, many)}"
        for one, many, group in (
            ("does not always stop in time", "do not always stop in time", long),
            ("has not learned to stop", "have not learned to stop", endless),
        )
        if group
    )
    wanted = number(comparison, labels[0], "text_shape.reference_words")
    words = {label: number(comparison, label, "text_shape.prediction_words") for label in labels}
    length = "; ".join(
        f"{what}: {_with_cells(comparison, group, 'text_shape.prediction_words')}"
        for what, group in (
            ("shorter", [label for label in labels if words[label] * _MUCH < wanted]),
            ("about as long", [label for label in labels if wanted / _MUCH <= words[label] <= wanted * _MUCH]),
            ("longer", [label for label in labels if words[label] > wanted * _MUCH]),
        )
        if group
    )
    return (
        f"Share of summaries cut off at the limit of new tokens: {shares}. "
        f"{f'{stopping}. ' if stopping else ''}Compared with the references' {formats.word_count(wanted)} words, "
        f"summaries are {length}. Shorter summaries lose recall and gain precision, so part of a difference in ROUGE "
        "between methods can be due to length."
    )


def copied_words(comparison: Comparison) -> str | None:
    """How much of the methods' summaries is taken from the article."""
    path = "text_shape.novel_bigrams"
    labels = having(comparison, path, trained(comparison))
    if not labels:
        return None
    leads = having(comparison, path, of_kind(comparison, "lead-3"))
    against = ""
    if leads:
        against = (
            f", where the article's first sentences ({leads[0]}) copy "
            f"{cell(comparison, leads[0], 'text_shape.longest_copied_words')} words in a row"
        )
    runs, again = "text_shape.longest_copied_words", "text_shape.repeated_trigrams"
    most = highest(comparison, again, labels)
    return (
        f"Word pairs that are not in the article: {listed_cells(comparison, labels, path)}; longest run of copied "
        f"words: {listed_cells(comparison, labels, runs)}{against}.{_most_copied(comparison, labels, path)}"
        + (
            f" Repeated word triples are most frequent in {formats.listed(most)} ({cell(comparison, most[0], again)})."
            if len(most) < len(labels)
            else ""
        )
    )


def gaps(results: Results) -> str | None:
    """Training and validation loss at the best epoch of each method, and which methods overfit."""
    parts, after = [], []
    for label in results.labels:
        found = [pair for run in results.of(label) if (pair := _losses_at_best(run.history, run.record.training))]
        if not found:
            continue
        training, validation = (sum(values) / len(found) for values in zip(*found, strict=True))
        parts.append(f"{label} {formats.loss(training)} and {formats.loss(validation)}")
        if any(one.best_epoch < one.epochs for run in results.of(label) if (one := run.record.training) is not None):
            after.append(label)
    if not parts:
        return None
    text = f"Training and validation loss at the evaluated epoch: {'; '.join(parts)}."
    if after:
        verb = formats.verb(after, "has", "have")
        text += (
            f" {formats.listed(after)} {verb} a higher validation loss after that epoch: more of the same training "
            "would fit the training pairs, not the task."
        )
    return text


def apart(comparison: Comparison) -> str | None:
    """Which trained method leads on the primary and the second measure, and which others it is ahead of."""
    labels = trained(comparison)
    if len(labels) < 2 or not comparison.tests:
        return None
    primary = comparison.primary_measure
    second = second_measure(primary)
    return " ".join(text for measure in (primary, second) if (text := _ahead(comparison, labels, measure))) or None


def undecided(comparison: Comparison) -> str | None:
    """The pairs of trained methods for which the data do not show which is better, and why."""
    primary = comparison.primary_measure
    tests = _between_trained(comparison, primary)
    open_ = [test for test in tests if decision_of(test) == "undecided"]
    if not tests:
        return None
    name = short_name_of(primary)
    if not open_:
        return f"By {name}, every pair of trained methods is decided."
    if len(open_) <= _MOST_PAIRS:
        pairs = "; ".join(f"{_pair(test)} ({_difference(test)})" for test in open_)
        each = formats.verb(open_, "the", "each")
        found = f"By {name}, these data do not show which is better: {pairs}; {each} interval contains zero."
    else:
        which = f"in {len(open_)} of {len(tests)} pairs" if len(open_) < len(tests) else f"in any of {len(tests)} pairs"
        found = f"By {name}, these data do not show which is better {which}."
    sizes = [test.detectable for test in open_ if test.detectable is not None]
    if not sizes:
        return found
    least, most = (_missed(size, primary) for size in (min(sizes), max(sizes)))
    missed = least if least == most else f"{least} in the easiest pair and {most} in the hardest"
    return f"{found} That does not make them equal: a true difference {missed} would often have been missed."


def cost_and_quality(comparison: Comparison) -> str | None:
    """What the best trained method costs compared with the cheapest, and what the difference buys."""
    path, labels, measure = "cost.train_seconds", trained(comparison), comparison.primary_measure
    order = [label for label in ranking(comparison.rows, measure) if label in labels]
    if len(order) < 2 or having(comparison, path, order) != order:
        return None
    best, fastest = order[0], lowest(comparison, path, order)
    if fastest == order or len(leaders(order, comparison.rows, measure)) > 1:
        return None
    name, cheap = short_name_of(measure), fastest[0]
    if best in fastest:
        return (
            f"{best} has both the best mean {name} and the shortest training ({cell(comparison, best, path)}): among "
            "the trained methods, the best is also the fastest."
        )
    ratio = f"{number(comparison, best, path) / max(number(comparison, cheap, path), 1e-9):.1f}"
    longer = "about" if ratio == "1.0" else f"{ratio} times"
    test = find_test(comparison.tests, measure, best, cheap)
    bought = (
        formats.signed(_difference_of_means(comparison, best, cheap, measure), digits_of(measure))
        if test is None
        else f"{_difference(oriented(test, best))} ({_IN_SHORT[decision_of(test)]})"
    )
    return (
        f"{best}, with the best mean {name}, trains {longer} as long as {cheap}, the fastest "
        f"({cell(comparison, best, path)} against {cell(comparison, cheap, path)}); the difference in {name} is "
        f"{bought}."
    )


def front_of_trained(comparison: Comparison) -> str | None:
    """The Pareto front of the trained methods in words, for training time and for trainable parameters."""
    labels = trained(comparison)
    texts = []
    for path, what in (
        ("cost.train_seconds", "training time"),
        ("parameters.num_trainable_parameters", "trainable parameters"),
    ):
        if len(labels) < 2 or having(comparison, path, labels) != labels:
            continue
        front = pareto_front(
            {label: (number(comparison, label, "rouge1.mean"), number(comparison, label, path)) for label in labels}
        )
        others = [label for label in labels if label not in front]
        text = f"mean R-1 and {what}: {_points(comparison, front, path)}"
        if others:
            text += f"; {_dominated(comparison, others, front, path)}"
        texts.append(text)
    return f"Pareto front of the trained methods by {'. By '.join(texts)}." if texts else None


def limiting(results: Results, comparison: Comparison) -> str | None:
    """What limits the results: seeds, documents, unfinished training, learning rates that were not searched."""
    if not trained(comparison):
        return None
    documents = formats.number_of(comparison.num_documents, "test document")
    parts = [*filter(None, [_seeds_in_words(comparison)]), f"the scores are for {documents}"]
    if last := _still_falling(results):
        which = formats.listed_or_counted(last, "methods")
        parts.append(f"the validation loss of {which} was still falling when training ended")
    if edge := _at_edge(results):
        which = formats.listed_or_counted(edge, "methods")
        parts.append(f"the best learning rate of {which} is at the edge of the range that was tried")
    if not any(run.record.search for run in results.runs if run.trained):
        parts.append("there was no learning-rate search")
    if comparison.synthetic_parts:
        parts.append(f"{parts_are(comparison.synthetic_parts)} synthetic")
    return f"What limits these results: {'; '.join(parts)}."


def would_change(results: Results, comparison: Comparison) -> str | None:
    """What would make the results more certain, given their limits."""
    labels = trained(comparison)
    if not labels:
        return None
    parts = []
    counts = seed_counts(comparison.rows)
    if with_one_seed(comparison.rows):
        of_methods = formats.verb(
            labels,
            "judge the method and not only this trained model",
            "compare the methods and not only these trained models",
        )
        parts.append(f"three or more training seeds{of_those_with_one_seed(comparison.rows)}, to {of_methods}")
    elif min(counts.values()) == 2:
        parts.append("a third training seed, which would narrow the intervals most")
    primary = comparison.primary_measure
    found = [test.detectable for test in _between_trained(comparison, primary) if test.detectable is not None]
    if found and set(counts.values()) == {1}:  # documents are the only source of randomness: 1 / sqrt(N)
        half = max(found) / 2
        if primary == "loss" or half <= 100:  # ROUGE cannot differ by more
            size = difference_of(half, primary)
            documents = formats.count(4 * comparison.num_documents)
            parts.append(f"about {documents} test documents, to find differences of {size} between trained models")
    if last := _still_falling(results):
        parts.append(f"more epochs for {formats.listed_or_counted(last, 'methods')}")
    if edge := _at_edge(results):
        parts.append(f"a wider range of learning rates for {formats.listed_or_counted(edge, 'methods')}")
    elif not any(run.record.search for run in results.runs if run.trained):
        parts.append("a search for the learning rates")
    real = {"model": "a pretrained model", "data": "real documents"}
    if comparison.synthetic_parts:
        parts.append(" and ".join(real[part] for part in comparison.synthetic_parts))
    return f"What would strengthen these results: {'; '.join(parts)}." if parts else None


def conclusion(comparison: Comparison) -> str | None:
    """What a reader should take away: quality, cost, and which method to choose; None if nothing was tested."""
    labels, measure = trained(comparison), comparison.primary_measure
    if not _between_trained(comparison, measure):
        return None
    best, rivals = _best_and_rivals(comparison, labels, measure)
    texts = [
        _judged(comparison, labels, measure),
        _choice(comparison, best, rivals),
        _judged(comparison, labels, second_measure(measure)),
        _against_baselines(comparison, labels),
        _about_models(comparison),
    ]
    return " ".join(filter(None, texts))


def _gains(comparison: Comparison, label: str, base: str) -> tuple[float, float]:
    """How much lower a method's test loss and how much higher its R-1 is than another's."""
    loss, score = (
        number(comparison, a, path) - number(comparison, b, path)
        for a, b, path in ((base, label, "loss.test"), (label, base, "rouge1.mean"))
    )
    return loss, score


def _gained(comparison: Comparison, label: str, base: str) -> bool:
    """Whether a method is shown to have a lower test loss and a higher R-1 than another."""
    shown = all(shown_to_differ(comparison.tests, measure, label, base) for measure in ("loss", "rouge1"))
    return shown and min(_gains(comparison, label, base)) > 0


def _with_cells(comparison: Comparison, labels: list[str], path: str) -> str:
    return formats.listed([f"{label} ({cell(comparison, label, path)})" for label in labels])


def _most_copied(comparison: Comparison, labels: list[str], path: str) -> str:
    """Which method uses the most new word pairs; empty if only one is known."""
    if len(labels) < 2:
        return ""
    new, old = highest(comparison, path, labels), lowest(comparison, path, labels)
    if new == old:
        return " All have the same share of new word pairs."
    return (
        f" {formats.listed(new)} {formats.verb(new, 'uses', 'use')} the most word pairs that are not in the article, "
        f"{formats.listed(old)} the fewest; a new pair may be paraphrase or invention, and only a reader or the checks "
        "of names and numbers can tell which."
    )


def _losses_at_best(history: Sequence[dict[str, Any]], training: TrainingSummary | None) -> tuple[float, float] | None:
    """Training and validation loss at the evaluated epoch."""
    if training is None:
        return None
    for event in history:
        if event["event"] != "evaluation":
            continue
        if (
            event.get("epoch") == training.best_epoch
            if training.best_step is None
            else (event.get("step") == training.best_step)
        ):
            train, validation = event.get("train_loss"), event.get("validation_loss")
            return None if train is None or validation is None else (train, validation)
    return None


def _ahead(comparison: Comparison, labels: list[str], measure: str) -> str | None:
    """The leading trained method on a measure, and which others it is shown to be ahead of."""
    order = [label for label in ranking(comparison.rows, measure) if label in labels]
    tests = {
        label: oriented(test, order[0])
        for label in order[1:]
        if (test := find_test(comparison.tests, measure, order[0], label)) is not None
    }
    if len(order) < 2 or not tests:
        return None
    best, first = order[0], leaders(order, comparison.rows, measure)
    if len(first) > 1:
        return f"By {short_name_of(measure)}, {_same_best(comparison, first, measure)}"
    beaten = [label for label, test in tests.items() if is_significant(test)]
    equal = [label for label, test in tests.items() if decision_of(test) == "equivalent"]
    open_ = [label for label in tests if label not in beaten and label not in equal]
    mean = estimate_in_words(comparison, best, measure)
    parts = []
    if beaten:
        differences = [f"{label} ({_difference(tests[label])})" for label in beaten]
        listed = formats.listed_or_counted(differences, "others")
        parts.append(f"significantly {'below' if lower_is_better(measure) else 'above'} {listed}")
    if equal:
        margin = tests[equal[0]].margin
        within = "" if margin is None else f" within {difference_of(margin, measure)}"
        parts.append(f"equivalent to {formats.listed_or_counted(equal, 'others')}{within}")
    if open_:
        parts.append(f"not significantly different from {formats.listed_or_counted(open_, 'others')}")
    return f"By {short_name_of(measure)}, {best} has the best mean, {mean}: {'; '.join(parts)}."


def _missed(size: float, measure: str) -> str:
    """Which true differences are often missed, if one of this size is detected with 80% power."""
    if measure != "loss" and size > 100:
        return "of any size"
    return f"below {difference_of(size, measure)}"


def _difference(test: PairedTest) -> str:
    difference, interval, _ = rows.test_figures(test)
    return f"{difference} {interval}"


def _interval(test: PairedTest) -> str:
    """The interval of a difference, in words."""
    return f"difference {_difference(test)}"


def _pair(test: PairedTest) -> str:
    return f"{test.a} − {test.b}"


def _difference_of_means(comparison: Comparison, best: str, other: str, measure: str) -> float:
    a, b = (mean_of(comparison.rows[label], measure) for label in (best, other))
    assert a is not None and b is not None
    return a - b


def _same_best(comparison: Comparison, first: list[str], measure: str) -> str:
    path = "loss.test" if measure == "loss" else f"{measure}.mean"
    return f"{formats.listed(first)} have the same best mean, {cell(comparison, first[0], path)}."


def _between_trained(comparison: Comparison, measure: str) -> list[PairedTest]:
    """The tests between trained methods on a measure."""
    labels = set(trained(comparison))
    return [test for test in comparison.tests if test.metric == measure and {test.a, test.b} <= labels]


def _points(comparison: Comparison, labels: list[str], path: str) -> str:
    order = sorted(labels, key=lambda label: number(comparison, label, path))
    return ", ".join(
        f"{label} ({cell(comparison, label, 'rouge1.mean')}, {cell(comparison, label, path)})" for label in order
    )


def _dominated(comparison: Comparison, labels: list[str], front: list[str], path: str) -> str:
    """`prompt-tuning is dominated by lora`: each method not on the front, with one that is at least as good in both."""
    parts = []
    for label in labels:
        cost, score = number(comparison, label, path), number(comparison, label, "rouge1.mean")
        over = next(
            other
            for other in front
            if number(comparison, other, path) <= cost and number(comparison, other, "rouge1.mean") >= score
        )
        parts.append(f"{label} by {over}")
    return f"dominated: {', '.join(parts)}"


def _seeds_in_words(comparison: Comparison) -> str:
    """What the number of training seeds limits; empty if every method has `rows.FEW_SEEDS` or more."""
    counts = seed_counts(comparison.rows)
    single, least, most = with_one_seed(comparison.rows), min(counts.values()), max(counts.values())
    every = "each method" if len(counts) > 1 else next(iter(counts))
    if single:
        which, verb = (every, "was") if most == 1 else (formats.listed(single), formats.verb(single, "was", "were"))
        return f"{which} {verb} trained once, so how much results vary between training runs is unknown"
    if least >= rows.FEW_SEEDS:
        return ""
    seeds = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    return f"{every} was trained with {seeds}, so the spread between training runs is known only roughly"


def _still_falling(results: Results) -> list[str]:
    """The methods whose validation loss was still falling at the end of training in every run."""
    found = []
    for label in results.labels:
        runs = [run for run in results.of(label) if run.record.training is not None]
        if runs and all(still_falling(run) for run in runs):
            found.append(label)
    return found


def _at_edge(results: Results) -> list[str]:
    return [
        label
        for label in results.labels
        if any(run.record.search and run.record.search.better_beyond for run in results.of(label))
    ]


def _best_and_rivals(comparison: Comparison, labels: list[str], measure: str) -> tuple[str, list[str]]:
    """The trained method with the best mean, and those it is not shown to be better than."""
    order = [label for label in ranking(comparison.rows, measure) if label in labels]
    return order[0], [label for label in order[1:] if not shown_to_differ(comparison.tests, measure, order[0], label)]


def _judged(comparison: Comparison, labels: list[str], measure: str) -> str:
    """Which trained method is best on a measure, or that none is shown to be; with one seed, only of these models."""
    known = [label for label in ranking(comparison.rows, measure) if label in labels]
    if not _between_trained(comparison, measure):
        return ""
    best, rivals = _best_and_rivals(comparison, known, measure)
    name, estimate = short_name_of(measure), estimate_in_words(comparison, best, measure)
    if len(first := leaders(known, comparison.rows, measure)) > 1:
        return f"By {name}, no trained method is the best: {_same_best(comparison, first, measure)}"
    if rivals:
        return (
            f"By {name}, no trained method is significantly the best: {best} has the best mean, {estimate}, but is not "
            f"significantly better than {formats.listed_or_counted(rivals, 'others')}."
        )
    below = "below" if lower_is_better(measure) else "above"
    of_models = bool(with_one_seed(comparison.rows))
    which = "the model trained with" if of_models else "the best trained method is"
    found = " leads on these documents" if of_models else ""
    return f"By {name}, {which} {best}{found}: {estimate}, significantly {below} {_each_other(known)}."


def _each_other(order: list[str]) -> str:
    return order[1] if len(order) == 2 else f"each of the {len(order) - 1} others"


def _choice(comparison: Comparison, best: str, rivals: list[str]) -> str:
    """Which method to choose: among the best and its rivals, the one with the fewest trainable parameters."""
    path = "parameters.num_trainable_parameters"
    among = [label for label in (best, *rivals) if comparison.rows[label].trained]
    fewest = lowest(comparison, path, among)
    frugal = fewest[0]
    if frugal == best:
        if len(fewest) > 1:
            which = formats.listed_or_counted(fewest, "of these")
            return f"{which} have equally many trainable parameters ({cell(comparison, best, path)})."
        if rivals:
            return f"Of these, {best} also has the fewest trainable parameters ({cell(comparison, best, path)})."
        least = lowest(comparison, path, trained(comparison))
        if best in least:
            which = "the fewest parameters" if least == [best] else "no more parameters than any other"
            return f"It also trains {which} ({cell(comparison, best, path)}): it is the one to choose."
        return (
            f"It trains {cell(comparison, best, path)} parameters; {formats.listed(least)} "
            f"{formats.verb(least, 'trains', 'train')} the fewest, {cell(comparison, least[0], path)}."
        )
    test = find_test(comparison.tests, comparison.primary_measure, best, frugal)
    sure = test is not None and decision_of(test) == "equivalent"
    shown = "" if test is None else f" ({_interval(oriented(test, best))})"
    return (
        "Of the methods that do not differ significantly from the best by "
        f"{short_name_of(comparison.primary_measure)}, {frugal} has the fewest trainable parameters "
        f"({cell(comparison, frugal, path)}, against {cell(comparison, best, path)})"
        + (
            f" and is equivalent to {best}{shown}: choose it if storage matters."
            if sure
            else f"; these data do not show whether it is as good as {best}{shown}."
        )
    )


def _against_baselines(comparison: Comparison, labels: list[str]) -> str:
    """How the trained methods compare with the article's first sentences."""
    leads = of_kind(comparison, "lead-3")
    if not leads:
        return ""
    tests = {label: find_test(comparison.tests, "rouge1", label, leads[0]) for label in labels}
    above = [
        label
        for label, test in tests.items()
        if test is not None and is_significant(test) and oriented(test, label).difference > 0
    ]
    score = cell(comparison, leads[0], "rouge1.mean")
    if not above:
        return (
            f"No trained method scores significantly above the article's first three sentences ({leads[0]}, R-1 "
            f"{score})."
        )
    verb = formats.verb(above, "scores", "score")
    return (
        f"{formats.listed(above)} {verb} significantly above the article's first three sentences ({leads[0]}, R-1 "
        f"{score})."
    )


def _about_models(comparison: Comparison) -> str:
    if not with_one_seed(comparison.rows):
        return ""
    of_whom = of_those_with_one_seed(comparison.rows)
    return f"With one training seed{of_whom}, all of this is about the trained models, not about the methods."
