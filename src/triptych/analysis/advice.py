"""Which row to take within a budget: read from the comparison, with the evidence and its uncertainty."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from triptych.analysis.verdict import find_test, num_trainable, ranking, separable, shown, turned
from triptych.errors import ConfigError
from triptych.records import Comparison, Row


@dataclass(frozen=True)
class Rival:
    """A row beside the advised one: the advised row's ROUGE-1 minus this row's, on the same documents."""

    label: str
    difference: float
    low: float | None
    high: float | None
    p_value_adjusted: float | None
    separable: bool


@dataclass(frozen=True)
class Advice:
    """The best row within a budget, or None with the reasons.

    Attributes:
        best: the row with the highest mean test ROUGE-1 among those within the budget.
        rivals: the other rows within the budget, best first.
        frugal: rows within the budget that cannot be told from `best` and train fewer parameters, fewest first.
        refused: every row outside the budget, with the reason.
        text: all of it in words.
    """

    best: str | None
    rivals: tuple[Rival, ...]
    frugal: tuple[str, ...]
    refused: dict[str, str]
    text: str


@dataclass(frozen=True)
class _Limit:
    """A budget of one kind."""

    most: float
    of: Callable[[Row], float | None]  # what the row needed; None: not measured
    show: Callable[[float], str]
    what: str


def advise(
    comparison: Comparison,
    max_parameters: int | None = None,
    max_seconds: float | None = None,
    max_memory: float | None = None,
) -> Advice:
    """Name the row with the best test ROUGE-1 within a budget.

    Args:
        comparison: from `compare`.
        max_parameters: trainable parameters a row may have.
        max_seconds: training seconds a row may have taken (mean over seeds), on the machine of the records.
        max_memory: bytes a row's training may have held at its peak (mean over seeds).

    Raises:
        ConfigError: a limit that is not a number of 0 or more.
    """
    limits = _limits(max_parameters, max_seconds, max_memory)
    refused = {label: reason for label, row in comparison.rows.items() if (reason := _refusal(row, limits))}
    within = [label for label in ranking(comparison.rows) if label not in refused]
    if not within:
        return Advice(None, (), (), refused, _nothing_fits(comparison, limits, refused))
    best = within[0]
    rivals = tuple(_rival(comparison, best, label) for label in within[1:])
    trainable = {label: num_trainable(comparison.rows[label]) for label in within}
    frugal = tuple(
        sorted(
            (rival.label for rival in rivals if not rival.separable and trainable[rival.label] < trainable[best]),
            key=lambda label: trainable[label],
        )
    )
    beyond = [_rival(comparison, best, label) for label in refused if comparison.rows[label].rouge1 is not None]
    better = [rival for rival in beyond if rival.difference < 0]
    return Advice(best, rivals, frugal, refused, _text(comparison, best, rivals, frugal, refused, better, limits))


def _limits(max_parameters: float | None, max_seconds: float | None, max_memory: float | None) -> list[_Limit]:
    limits = [
        (max_parameters, "--max-parameters", num_trainable, lambda n: f"{n:,.0f}", "trainable parameters"),
        (max_seconds, "--max-seconds", _seconds, _duration, "of training"),
        (max_memory, "--max-memory", _memory, _bytes, "of memory"),
    ]
    for most, option, *_ in limits:
        if most is not None and not (math.isfinite(most) and most >= 0):
            raise ConfigError(f"{option} is {most!r}: a number of 0 or more is needed.")
    return [_Limit(most, of, show, what) for most, _, of, show, what in limits if most is not None]


def _seconds(row: Row) -> float | None:
    return row.cost["train_seconds"] if num_trainable(row) else 0.0


def _memory(row: Row) -> float | None:
    return row.cost["peak_memory_bytes"] if num_trainable(row) else 0.0  # nothing is trained


def _refusal(row: Row, limits: Sequence[_Limit]) -> str | None:
    """Why a row cannot be advised: it did not finish, does not fit, or what it needs was not measured."""
    if row.rouge1 is None:
        return "no run of it finished"
    for limit in limits:
        needed = limit.of(row)
        if needed is None:
            return f"what it needs {limit.what} was not measured"
        if needed > limit.most:
            return f"it needs {limit.show(needed)} {limit.what}, {limit.show(limit.most)} are allowed"
    return None


def _rival(comparison: Comparison, best: str, label: str) -> Rival:
    """The test of `best` against `label` on ROUGE-1, turned so that it reads best minus label."""
    test = find_test(comparison.tests, "rouge1", best, label)
    if test is None:
        means = [row.rouge1.mean for row in (comparison.rows[best], comparison.rows[label]) if row.rouge1 is not None]
        return Rival(label, means[0] - means[1], None, None, None, False)
    test = turned(test, best)
    return Rival(label, test.difference, test.low, test.high, test.p_value_adjusted, separable(test))


def _text(
    comparison: Comparison,
    best: str,
    rivals: Sequence[Rival],
    frugal: Sequence[str],
    refused: dict[str, str],
    better: Sequence[Rival],
    limits: Sequence[_Limit],
) -> str:
    row = comparison.rows[best]
    lines = [f"{_within(limits)}: {best}.", f"  {_quality(comparison, row)}", f"  {_cost(row)}"]
    if rivals:
        lines.append(
            f"Against the other rows within the budget, on the same documents (ROUGE-1 of {best} minus theirs):"
        )
        lines.extend(f"  {rival.label}: {_evidence(rival)}" for rival in rivals)
    if frugal:
        lines.append(
            f"{frugal[0]} cannot be told from {best} by these data and trains "
            f"{num_trainable(comparison.rows[frugal[0]]):,.0f} parameters instead of {num_trainable(row):,.0f}."
        )
    if refused:
        lines.append("Not within the budget:")
        lines.extend(f"  {label}: {reason}." for label, reason in refused.items())
    lines.extend(
        f"Outside the budget, {rival.label} scores {-rival.difference:.2f} ROUGE-1 more"
        f"{'' if rival.separable else ', which is within chance'}."
        for rival in better
    )
    notes = [*comparison.flags, *(f"{best}: {flag}" for flag in row.flags)]
    if notes:
        lines.append("Mind:")
        lines.extend(f"  {note}" for note in notes)
    return "\n".join(lines)


def _nothing_fits(comparison: Comparison, limits: Sequence[_Limit], refused: dict[str, str]) -> str:
    """No row, why none, and the least that would admit one where a limit alone stands in the way."""
    lines = [f"{_within(limits)}: no row.", *(f"  {label}: {reason}." for label, reason in refused.items())]
    for limit in limits:
        needs = [
            needed
            for row in comparison.rows.values()
            if row.rouge1 is not None and (needed := limit.of(row)) is not None
        ]
        if needs and min(needs) > limit.most:
            lines.append(f"The least any row needs is {limit.show(min(needs))} {limit.what}.")
    return "\n".join(lines)


def _within(limits: Sequence[_Limit]) -> str:
    if not limits:
        return "Without a limit"
    return f"Within at most {' and '.join(f'{limit.show(limit.most)} {limit.what}' for limit in limits)}"


def _quality(comparison: Comparison, row: Row) -> str:
    seeds = "one run" if len(row.seeds) == 1 else f"{len(row.seeds)} seeds"
    scores = ", ".join(
        f"{name} {shown(estimate)}"
        for name, estimate in (("ROUGE-1", row.rouge1), ("ROUGE-2", row.rouge2), ("ROUGE-Lsum", row.rougeLsum))
    )
    loss = "" if row.loss.test is None else f"; test loss {row.loss.test:.4f} nats a token"
    return f"{scores}{loss} ({seeds}, {comparison.num_documents:,} test documents, 95% intervals)."


def _cost(row: Row) -> str:
    if not num_trainable(row):
        return "Nothing is trained."
    seconds, search, memory = row.cost["train_seconds"], row.cost["search_seconds"], row.cost["peak_memory_bytes"]
    parts = [
        f"{num_trainable(row):,.0f} trainable parameters",
        "training time not measured" if seconds is None else f"{_duration(seconds)} of training",
        "memory not measured" if memory is None else f"{_bytes(memory)} of memory at the peak",
    ]
    if search:  # a mean over seeds, though the search may have been made once for all of them
        total = _duration(search * len(row.seeds))
        parts.append(
            f"and before that {total} of learning-rate search for all seeds together, which no limit here counts"
        )
    return f"It took {', '.join(parts)}."


def _evidence(rival: Rival) -> str:
    if rival.low is None:
        return f"{rival.difference:+.2f}, not tested"
    judgement = "better" if rival.separable else "cannot be told apart"
    return (
        f"{rival.difference:+.2f} [{rival.low:+.2f}, {rival.high:+.2f}], adjusted p = {rival.p_value_adjusted:.4f}: "
        f"{judgement}"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
