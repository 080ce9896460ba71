"""What methods are compared on, ROUGE and test loss: names, units, digits, and which direction is better."""

ROUGE = {"rouge1": "R-1", "rouge2": "R-2", "rougeL": "R-L", "rougeLsum": "R-Lsum"}  # as tables head their columns
HEADINGS = {**ROUGE, "loss": "Test loss"}
NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum", "loss": "test loss"}


def name_of(measure: str) -> str:
    """A measure in a sentence, as `ROUGE-1` or `test loss`; other metrics have the name that was given to them."""
    return NAMES.get(measure, measure)


def short_name_of(measure: str) -> str:
    """The same as the report writes it, which explains `R-1` once."""
    return ROUGE.get(measure) or name_of(measure)


def second_measure(primary: str) -> str:
    """The measure that the verdict gives after the primary one: test loss, or ROUGE-1 where that is the test loss."""
    return "rouge1" if primary == "loss" else "loss"


def lower_is_better(measure: str) -> bool:
    """True of the test loss alone."""
    return measure == "loss"


def digits_of(measure: str) -> int:
    """Digits after the point that a mean or a difference is given with."""
    return 4 if measure == "loss" else 2


def unit_of(measure: str, size: float | None = None) -> str:
    """The unit of a difference, in one word: `point` of one, `points` of another number and of none."""
    if measure == "loss":
        return "nats"
    return "point" if size == 1 else "points"


def units_of(measure: str) -> str:
    """The unit of a measure, in words."""
    if measure == "loss":
        return "nats per target token"
    return "points of F1, 0-100" if measure.startswith("rouge") else "as the metric gives it"


def difference_of(size: float, measure: str, name: str) -> str:
    """A difference with its unit and what it is of: `4.72 points of R-1`; ROUGE cannot differ by more than 100."""
    if measure != "loss" and size > 100:
        return f"more than 100 points of {name} (none is so large)"
    return f"{size:.{digits_of(measure)}f} {unit_of(measure)} of {name}"
