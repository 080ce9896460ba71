"""Slots of story templates: each draws a value and returns its long form (article) and short form (highlight)."""

from collections.abc import Callable, Mapping
from random import Random

from triptych.datasets.newswire.drawing import between, pick
from triptych.datasets.newswire.names import FIRST_NAMES, names_of

Forms = tuple[str, str]
Slot = Callable[[Random, str], Forms]

SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def person(rng: Random, split: str) -> Forms:
    """A first name and a surname."""
    name = f"{pick(rng, FIRST_NAMES)} {pick(rng, names_of(split, 'surname'))}"
    return name, name


def place(rng: Random, split: str) -> Forms:
    """A town, a region or a river."""
    name = pick(rng, names_of(split, "place"))
    return name, name


def company(rng: Random, split: str) -> Forms:
    """A company or another organization."""
    name = pick(rng, names_of(split, "company"))
    return name, name


def integer(low: int, high: int, step: int = 1) -> Slot:
    """An integer from low to high, times step: in words up to twelve in the article, in digits in the highlight."""

    def draw(rng: Random, split: str) -> Forms:
        value = between(rng, low, high) * step
        digits = f"{value:,}"
        return (SMALL[value] if value < len(SMALL) else digits), digits

    return draw


def money(low: int, high: int, unit: str = "million") -> Slot:
    """An amount in dollars, from low to high tenths of a unit."""

    def draw(rng: Random, split: str) -> Forms:
        tenths = between(rng, low, high)
        value = f"{tenths // 10}.{tenths % 10}" if tenths % 10 else str(tenths // 10)
        return f"${value} {unit}", f"${value}{unit[0]}{'n' if unit == 'billion' else ''}"

    return draw


def percent(low: int, high: int) -> Slot:
    """A percentage from low to high."""

    def draw(rng: Random, split: str) -> Forms:
        value = between(rng, low, high)
        return f"{value} percent", f"{value}%"

    return draw


def one_of(*items: str) -> Slot:
    """A word or phrase from a list, identical in both forms."""

    def draw(rng: Random, split: str) -> Forms:
        item = pick(rng, items)
        return item, item

    return draw


DAYS = one_of("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = one_of("January", "March", "April", "May", "June", "August", "September", "November")

COMMON_SLOTS: Mapping[str, Slot] = {
    "day": DAYS,
    "month": MONTHS,
    "witness": person,
    "resident": person,
    "spokesman": person,
    "expert": person,
    "adviser": person,
    "district": place,
    "elsewhere": place,
    "figure": integer(20, 95),
    "paper": company,
    "trade": one_of("teacher", "baker", "nurse", "driver", "student", "shopkeeper", "farmer", "retired clerk"),
}
