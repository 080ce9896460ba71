"""Number formatting in one place, so that all documents show the same digits; missing values never become numbers."""

import math
from collections.abc import Sequence, Sized
from typing import Protocol

NOT_MEASURED = "not measured"
DASH = "—"
FAILED = "failed"

_SI = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15), ("E", 1e18))
_PREFIXES = "".join(prefix for prefix, _ in _SI)
_WORDS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
_MOST_LISTED = 6
_UNITS = {"flops": "FLOP", "bytes": "B", "joules": "J"}


def loss(value: float | None, missing: str = DASH) -> str:
    """Nats per target token, four decimals."""
    return missing if value is None else f"{value:.4f}"


def rouge_score(value: float | None, missing: str = DASH) -> str:
    """A ROUGE F1 score in 0-100, two decimals."""
    return missing if value is None else f"{value:.2f}"


def signed(value: float, digits: int = 2) -> str:
    """A difference of scores with its sign; a true minus sign, so that it does not break across lines."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """`[low, high]`, or a dash if there is no interval."""
    return (
        DASH if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]".replace("-", "\N{MINUS SIGN}")
    )


class Interval(Protocol):
    """A mean with its 95% interval; the ends are None if no spread can be estimated."""

    @property
    def mean(self) -> float | None:
        """The mean, or None."""

    @property
    def low(self) -> float | None:
        """The lower end."""

    @property
    def high(self) -> float | None:
        """The upper end."""


def with_interval(value: Interval | None, digits: int = 2, missing: str = DASH) -> str:
    """`14.00 [12.00, 16.00]`, or only the mean if there is no interval."""
    if value is None or value.mean is None:
        return missing
    mean = f"{value.mean:.{digits}f}"
    return mean if value.low is None or value.high is None else f"{mean} {interval(value.low, value.high, digits)}"


def count(value: float | None, missing: str = DASH) -> str:
    """A whole number with thousands separators."""
    return missing if value is None else f"{round(value):,}"


def count_in_words(value: int) -> str:
    """A whole number for the beginning of a sentence, in words up to twelve."""
    return _WORDS[value] if 0 < value < len(_WORDS) else f"{value:,}"


def seconds(value: float | None, missing: str = NOT_MEASURED) -> str:
    """A duration in readable units."""
    if value is None:
        return missing
    if value < 99.95:
        return f"{value:.1f} s" if value >= 0.995 else f"{value:.3g} s"
    if value < 7200:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    hours, rest = divmod(round(value / 60), 60)
    return f"{hours} h {rest:02d} min"


def si(value: float) -> str:
    """Three significant digits and an SI prefix, such as `1.05k`."""
    prefix, factor = next(((p, f) for p, f in _SI if abs(value) < 999.5 * f), _SI[-1])
    digits = value / factor
    return f"{digits:#.3g}".rstrip(".") + prefix


def quantity(value: float | None, kind: str, missing: str = NOT_MEASURED) -> str:
    """FLOP, bytes or joules with an SI prefix; `kind` is `flops`, `bytes` or `joules`."""
    if value is None:
        return missing
    if value == 0:
        return f"0 {_UNITS[kind]}"
    text = si(value)
    number = text.rstrip(_PREFIXES)
    return f"{number} {text[len(number) :]}{_UNITS[kind]}"


def capitalized(text: str) -> str:
    """The text with a capital first letter; the rest is unchanged."""
    return f"{text[:1].upper()}{text[1:]}"


def share(value: float | None, missing: str = DASH) -> str:
    """A share in 0-1 as a percentage."""
    return missing if value is None else f"{100 * value:.1f}%"


def word_count(value: float | None, missing: str = DASH) -> str:
    """A mean number of words."""
    return missing if value is None else f"{value:.1f}"


def p_value(value: float) -> str:
    """A p-value, as a bound if it is small."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equation(p: str) -> str:
    """A p-value from `p_value` with the relation to put after its name: "= 0.012", "< 0.001"."""
    return p if p.startswith("<") else f"= {p}"


def exact(value: float | int | None, missing: str = DASH) -> str:
    """A number as stored in the records: whole numbers in full, others to six significant digits."""
    if value is None:
        return missing
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) >= 1e6):
        return f"{int(value):,}"
    return f"{value:.6g}"


def commit(name: str | None, dirty: bool | None) -> str:
    """A commit, and whether the working tree had uncommitted changes."""
    return (name or "unknown") + (", with uncommitted changes" if dirty else "")


def listed(names: list[str] | tuple[str, ...]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    names = list(names)
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "none"


def listed_or_counted(names: Sequence[str], what: str) -> str:
    """`a, b and c`, or `28 methods` if they are more than a reader wants to see in a sentence."""
    return listed(list(names)) if len(names) <= _MOST_LISTED else f"{len(names)} {what}"


def number_of(value: int, what: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


def verb(names: Sized | int, one: str, many: str) -> str:
    """The form of a verb that agrees with these names, or with a number of things."""
    return one if (names if isinstance(names, int) else len(names)) == 1 else many
