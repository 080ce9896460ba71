"""The measures that methods are compared on, ROUGE and test loss: names, units, digits and better direction."""

ROUGE = {"rouge1": "R-1", "rouge2": "R-2", "rougeL": "R-L", "rougeLsum": "R-Lsum"}  # column headings of tables
HEADINGS = {**ROUGE, "loss": "Test loss"}
NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum", "loss": "test loss"}


def name_of(measure: str) -> str:
    """The name of a measure in a sentence, such as `ROUGE-1` or `test loss`; other metrics keep their given name."""
    return NAMES.get(measure, measure)


def short_name_of(measure: str) -> str:
    """The name of a measure in the report, which explains `R-1` once."""
    return ROUGE.get(measure) or name_of(measure)


def second_measure(primary: str) -> str:
    """The measure that the verdict gives after the primary one: ROUGE-1 if test loss is primary, else test loss."""
    return "rouge1" if primary == "loss" else "loss"


def lower_is_better(measure: str) -> bool:
    """Whether lower values are better: true only for test loss."""
    return measure == "loss"


def digits_of(measure: str) -> int:
    """The number of decimals of a mean or a difference."""
    return 4 if measure == "loss" else 2


def short_unit_of(measure: str, size: float | None = None) -> str:
    """The unit of a difference in one word: `point` if `size` is 1, else `points`."""
    if measure == "loss":
        return "nats"
    return "point" if size == 1 else "points"


def units_of(measure: str) -> str:
    """The unit of a measure, in words."""
    if measure == "loss":
        return "nats per target token"
    return "points of F1, 0-100" if measure.startswith("rouge") else "as the metric gives it"


def difference_of(size: float, measure: str, name: str | None = None) -> str:
    """A difference with its unit and measure, by its short name if none is given: `4.72 points of R-1`.

    ROUGE cannot differ by more than 100.
    """
    name = name or short_name_of(measure)
    if measure != "loss" and size > 100:
        return f"more than 100 points of {name} (none is so large)"
    return f"{size:.{digits_of(measure)}f} {short_unit_of(measure)} of {name}"
