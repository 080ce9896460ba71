"""Recommend the cheapest method within a budget that is not significantly worse than the best, with the evidence."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from triptych.analysis.pairs import LEVEL
from triptych.analysis.verdict import (
    decision_of,
    find_test,
    is_significant,
    mean_of,
    oriented,
    ranking,
    with_one_seed,
)
from triptych.errors import ConfigError, shorten
from triptych.results.records import Comparison, RowSummary
from triptych.text import formats
from triptych.text.measures import digits_of, lower_is_better, name_of, second_measure, short_unit_of
from triptych.text.quantities import BYTES_OF, ONES_OF, SECONDS_OF, read_quantity


@dataclass(frozen=True)
class Rival:
    """Another method against the best one: the best mean minus this method's mean, on the same documents.

    Attributes:
        label: the other method.
        difference: the difference of the means.
        low: lower bound of the corrected interval, which agrees with `decision`; None if not tested.
        high: its upper bound.
        p_value_adjusted: the corrected p-value; None if not tested.
        is_significant: whether the two methods differ significantly.
        decision: `different`, `equivalent` or `undecided`; None if not tested.
        not_worse: whether this method is shown not to be worse than the best by the margin or more.
    """

    label: str
    difference: float
    low: float | None
    high: float | None
    p_value_adjusted: float | None
    is_significant: bool
    decision: str | None = None
    not_worse: bool = False


@dataclass(frozen=True)
class Advice:
    """The recommended method within a budget, or None with the reasons.

    Attributes:
        best: the method with the best mean on the primary measure among those within the budget.
        choice: the cheapest method within the budget that is shown to be at most the margin worse than `best`;
            `best` itself if there is no cheaper one.
        rivals: the other methods within the budget, best first.
        frugal: methods within the budget that are not shown to differ from `best` and train fewer parameters, fewest
            first.
        refused: every method outside the budget, with the reason.
        text: the recommendation in words.
        runs: folders of the finished runs of `choice`, lowest validation loss first.
        trained: the trained method with the best mean within the budget.
    """

    best: str | None
    choice: str | None
    rivals: tuple[Rival, ...]
    frugal: tuple[str, ...]
    refused: dict[str, str]
    text: str
    runs: tuple[str, ...] = ()
    trained: str | None = None


@dataclass(frozen=True)
class _Limit:
    """A limit on one resource."""

    most: float
    of: Callable[[RowSummary], float | None]  # what the method needed; None if not measured
    show: Callable[[float], str]
    what: str
    unknown: str  # why what a method needed may not be known
    unit: str

    def enough(self, needed: float) -> str:
        """The smallest limit in whole units that admits a method."""
        return f"{math.ceil(needed):,}{self.unit}"


def recommend(
    comparison: Comparison,
    max_parameters: float | str | None = None,
    max_seconds: float | str | None = None,
    max_memory: float | str | None = None,
) -> Advice:
    """Recommend the cheapest method within a budget that is shown to be at most the margin worse than the best in it.

    Args:
        comparison: from `compare`.
        max_parameters: most trainable parameters, as a number or a string such as `250k` or `1M`.
        max_seconds: most training seconds (mean over seeds) on the machine of the records; or `30min`.
        max_memory: most bytes at the peak of training (mean over seeds); or `8GB`, `8GiB`.

    Raises:
        ConfigError: a limit is not a number of 0 or more or has an unknown unit, or files were scored, whose cost is
            not known.
    """
    limits = _limits(max_parameters, max_seconds, max_memory)
    if limits and comparison.source == "files":
        raise ConfigError(
            "Scored files do not say what their systems cost: give no limit on parameters, time or memory."
        )
    measure = comparison.primary_measure
    refused = {label: reason for label, row in comparison.rows.items() if (reason := _refusal(row, limits, measure))}
    within = [label for label in ranking(comparison.rows, measure) if label not in refused]
    if not within:
        return Advice(None, None, (), (), refused, _nothing_fits(comparison, limits, refused))
    best = within[0]
    rivals = tuple(_rival(comparison, measure, best, label) for label in within[1:])
    choice = min([best, *(rival.label for rival in rivals if rival.not_worse)], key=_expense(comparison, within))
    trainable = {label: comparison.rows[label].num_trainable_parameters for label in within}
    frugal = tuple(
        sorted(
            (rival.label for rival in rivals if not rival.is_significant and trainable[rival.label] < trainable[best]),
            key=lambda label: trainable[label],
        )
    )
    beyond = [
        _rival(comparison, measure, best, label)
        for label in refused
        if mean_of(comparison.rows[label], measure) is not None
    ]
    ahead = [rival for rival in beyond if (rival.difference > 0) == lower_is_better(measure) and rival.difference]
    text = _text(comparison, measure, choice, within, rivals, frugal, refused, ahead, limits)
    trained = next((label for label in within if trainable[label]), None)
    return Advice(best, choice, rivals, frugal, refused, text, trained=trained)


def _expense(comparison: Comparison, labels: Sequence[str]) -> Callable[[str], tuple[float, float]]:
    """Return the sort key for cheapest first: training seconds if all methods have them, then trainable parameters."""
    seconds = {label: _seconds(comparison.rows[label]) for label in labels}
    known = None not in seconds.values()
    return lambda label: ((seconds[label] or 0.0) if known else 0.0, comparison.rows[label].num_trainable_parameters)


def _limits(
    max_parameters: float | str | None, max_seconds: float | str | None, max_memory: float | str | None
) -> list[_Limit]:
    parameters = _amount(max_parameters, "--max-parameters", ONES_OF, "250k, 1M or 1e6")
    seconds = _amount(max_seconds, "--max-seconds", SECONDS_OF, "90s, 30min, 8h or 3600")
    memory = _amount(max_memory, "--max-memory", BYTES_OF, "500MB, 8GB, 8GiB or 8e9")
    limits = [
        (parameters, lambda row: row.num_trainable_parameters, lambda n: f"{n:,.0f}", "trainable parameters", "", ""),
        (
            seconds,
            _seconds,
            formats.seconds,
            "of training",
            "its training time is not known: other jobs shared the device",
            " s",
        ),
        (
            memory,
            _memory,
            lambda size: formats.quantity(size, "bytes"),
            "of memory",
            "its memory was not measured",
            " B",
        ),
    ]
    return [
        _Limit(most, of, show, what, unknown, unit)
        for most, of, show, what, unknown, unit in limits
        if most is not None
    ]


def _amount(given: float | str | None, option: str, units: Mapping[str, float], examples: str) -> float | None:
    """Parse a limit.

    Raises:
        ConfigError: it is not a number of 0 or more, or has an unknown unit.
    """
    if given is None:
        return None
    try:
        read = read_quantity(given, units) if isinstance(given, str) else None
        most = float(given) if read is None else read
    except ValueError:
        raise ConfigError(f"{option} {shorten(repr(given))} is not a quantity such as {examples}.") from None
    if math.isfinite(most) and most >= 0:
        return most
    raise ConfigError(f"{option} is {given!r}: a number of 0 or more is needed.")


def _seconds(row: RowSummary) -> float | None:
    """Training seconds; None if they were not measured or the device was shared."""
    if not row.trained:
        return 0.0
    return None if row.shared_device else row.cost["train_seconds"]


def _memory(row: RowSummary) -> float | None:
    return row.cost["peak_memory_bytes"] if row.trained else 0.0  # nothing is trained


def _refusal(row: RowSummary, limits: Sequence[_Limit], measure: str) -> str | None:
    """Why a method cannot be recommended: it did not finish, exceeds a limit, or something was not measured."""
    if row.rouge1 is None:
        return "no run of it finished"
    if mean_of(row, measure) is None:
        return f"it has no {name_of(measure)}, which is the primary measure"
    for limit in limits:
        needed = limit.of(row)
        if needed is None:
            return limit.unknown
        if needed > limit.most:
            shown, most = limit.show(needed), limit.show(limit.most)
            return f"it needs {shown if shown != most else limit.enough(needed)} {limit.what}; the limit is {most}"
    return None


def _rival(comparison: Comparison, measure: str, best: str, label: str) -> Rival:
    """The test of `best` against `label` on a measure, oriented as best minus label."""
    test = find_test(comparison.tests, measure, best, label)
    if test is None:
        first, second = (mean_of(comparison.rows[one], measure) or 0.0 for one in (best, label))
        return Rival(label, first - second, None, None, None, False)
    test = oriented(test, best)
    not_worse = test.p_not_better is not None and test.p_not_better < LEVEL
    significant, decision = is_significant(test), decision_of(test)
    return Rival(label, test.difference, test.low, test.high, test.p_value_adjusted, significant, decision, not_worse)


def _text(
    comparison: Comparison,
    measure: str,
    choice: str,
    within: Sequence[str],
    rivals: Sequence[Rival],
    frugal: Sequence[str],
    refused: dict[str, str],
    ahead: Sequence[Rival],
    limits: Sequence[_Limit],
) -> str:
    best = within[0]
    row, chosen = comparison.rows[best], comparison.rows[choice]
    name = name_of(measure)
    most = "lowest" if lower_is_better(measure) else "highest"
    of_budget = " within the budget" if limits else ""
    scored = comparison.source == "files"
    lines = [f"{_within(limits)}: {choice}.", f"  {_quality(comparison, chosen)}"]
    if not scored:
        lines.append(f"  {_cost(chosen)}")
    if choice != best:
        margin = comparison.inference.margins[measure] if comparison.inference is not None else 0.0
        lines.append(
            f"It is the cheapest method shown to be at most {margin:g} {short_unit_of(measure, margin)} worse in "
            f"{name} than {best}, which has the {most} mean: {_quality(comparison, row)}"
        )
    elif rivals and not all(rival.is_significant for rival in rivals):
        expense = _expense(comparison, within)
        cheaper = any(expense(label) < expense(best) for label in within)
        what = "no cheaper method is shown to be as good" if cheaper else f"nothing{of_budget} is cheaper"
        lines.append(f"It has the {most} mean{'' if scored else f', and {what}'}.")
    elif not rivals and refused:
        lines.append("Nothing else is within the budget." if limits else "No other method finished.")
    trained = [label for label in within if comparison.rows[label].trained]
    if single := with_one_seed({label: comparison.rows[label] for label in trained}):
        about = formats.verb(trained, "This is about a trained model", "This compares trained models")
        more = formats.verb(trained, "Judging the method itself", "Comparing the methods themselves")
        only = ": no method is advised here, only a model" if chosen.trained else ""
        which, have = formats.listed_or_counted(single, "of them"), formats.verb(single, "has", "have")
        lines.append(f"{about}: {which} {have} one training seed. {more} requires more{only}.")
    if trained and not chosen.trained:
        lines.append(
            f"Of the trained methods{of_budget}, {trained[0]} has the best mean."
            if len(trained) > 1
            else f"The only trained method{of_budget} is {trained[0]}."
        )
    if rivals:
        which = formats.verb(rivals, "other method", "other methods")
        theirs = formats.verb(rivals, f"that of {rivals[0].label}", "theirs")
        lines.append(f"Against the {which}{of_budget}, on the same documents ({name} of {best} minus {theirs}):")
        lines.extend(f"  {rival.label}: {_evidence(comparison, measure, best, rival)}" for rival in rivals)
    tested = {rival.label for rival in rivals if rival.decision is not None}
    undecided = [label for label in frugal if label != choice and label in tested]
    if undecided:
        parameters = comparison.rows[undecided[0]].num_trainable_parameters
        trains = f"{parameters:,.0f} parameters instead of" if parameters else "nothing, against"
        lines.append(
            f"{undecided[0]} does not differ significantly from {best} and trains {trains} "
            f"{row.num_trainable_parameters:,.0f}{'' if parameters else ' parameters'}."
        )
    if refused:
        lines.append("Not within the budget:" if limits else "Not considered:")
        lines.extend(f"  {label}: {reason}." for label, reason in refused.items())
    lines.extend(
        f"Outside the budget, the mean {name} of {rival.label} is better by "
        f"{abs(rival.difference):.{digits_of(measure)}f}{'' if rival.is_significant else ', which may be chance'}."
        for rival in ahead
    )
    notes = [*comparison.flags, *(f"{choice}: {flag}" for flag in chosen.flags)]
    if notes:
        lines.append("Note:")
        lines.extend(f"  {note}" for note in notes)
    return "\n".join(lines)


def _nothing_fits(comparison: Comparison, limits: Sequence[_Limit], refused: dict[str, str]) -> str:
    """Say why no method fits, and the smallest limit that would admit one if a single limit excludes all."""
    lines = [f"{_within(limits)}: no method.", *(f"  {label}: {reason}." for label, reason in refused.items())]
    for limit in limits:
        needs = [
            needed
            for row in comparison.rows.values()
            if row.rouge1 is not None and (needed := limit.of(row)) is not None
        ]
        if needs and min(needs) > limit.most:
            lines.append(f"The least any method needs is {limit.enough(min(needs))} {limit.what}.")
    return "\n".join(lines)


def _within(limits: Sequence[_Limit]) -> str:
    if not limits:
        return "Without a limit"
    return f"With at most {' and '.join(f'{limit.show(limit.most)} {limit.what}' for limit in limits)}"


def _quality(comparison: Comparison, row: RowSummary) -> str:
    if comparison.source == "files":
        seeds = f"{formats.number_of(len(row.seeds), 'set')} of predictions"
    else:
        seeds = "one run" if len(row.seeds) == 1 else f"{len(row.seeds)} seeds"
    scores = ", ".join(
        f"{name} {formats.with_interval(estimate, missing=formats.NOT_MEASURED)}"
        for name, estimate in (("ROUGE-1", row.rouge1), ("ROUGE-2", row.rouge2), ("ROUGE-Lsum", row.rougeLsum))
    )
    loss = "" if row.loss.test is None else f"; test loss {row.loss.test:.4f} nats per token"
    documents = formats.number_of(comparison.num_documents, "test document")
    return f"{scores}{loss} ({seeds}, {documents}, 95% intervals)."


def _cost(row: RowSummary) -> str:
    if not row.trained:
        return "Nothing is trained."
    seconds, search, memory = row.cost["train_seconds"], row.cost["search_seconds"], row.cost["peak_memory_bytes"]
    shared = " on a GPU that others used, too" if row.shared_device else ""
    parts = [
        f"{row.num_trainable_parameters:,.0f} trainable parameters",
        "training time not measured" if seconds is None else f"{formats.seconds(seconds)} of training{shared}",
        "memory not measured" if memory is None else f"{formats.quantity(memory, 'bytes')} of memory at the peak",
    ]
    if search:
        parts.append(
            f"and before that {formats.seconds(search)} of learning-rate search (once for all seeds; the limits do not "
            "count it)"
        )
    return f"It took {', '.join(parts)}."


def _evidence(comparison: Comparison, measure: str, best: str, rival: Rival) -> str:
    if rival.decision is None:
        return f"{rival.difference:+.{digits_of(measure)}f}, not tested"
    second = second_measure(measure)
    other = _rival(comparison, second, best, rival.label)
    also = "" if other.decision is None else f"; {name_of(second)} {_figures(other, second)}"
    return _figures(rival, measure) + also


def _figures(rival: Rival, measure: str) -> str:
    digits = digits_of(measure)
    interval = (
        "" if rival.low is None or rival.high is None else f" [{rival.low:+.{digits}f}, {rival.high:+.{digits}f}]"
    )
    p_text = "" if rival.p_value_adjusted is None else formats.p_equation(formats.p_value(rival.p_value_adjusted))
    return f"{rival.difference:+.{digits}f}{interval}, adjusted p {p_text}: {rival.decision}"
