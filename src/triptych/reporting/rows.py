"""Facts about the methods of a comparison: whether they trained, whether they failed, a field by its path."""

from typing import Any

from triptych.results.records import Comparison, PairedTest, RowSummary
from triptych.text import formats, synthetic
from triptych.text.measures import digits_of

FEW_SEEDS = 5  # with fewer, their spread and the power computed from it are only rough estimates
METHODS = ("prompt-tuning", "lora", "last-layers")  # the assignment's three


def of_files(comparison: Comparison) -> bool:
    """Whether the predictions are files from other tools, so that loss, cost and training are unknown."""
    return comparison.source == "files"


def done(comparison: Comparison) -> dict[str, RowSummary]:
    """The methods that have results, in the suite's order."""
    return {label: row for label, row in comparison.rows.items() if not row.failed}


def further_names(comparison: Comparison) -> list[str]:
    """The names of further metrics, not from this package, that any method has."""
    return list(dict.fromkeys(name for row in comparison.rows.values() for name in row.further_scores))


def value(row: RowSummary, path: str) -> Any:
    """A field of a method by its dotted path, such as `rouge1.mean` or `cost.train_seconds`; None if it is missing."""
    found: Any = row
    for part in path.split("."):
        if found is None:
            return None
        found = found.get(part) if isinstance(found, dict) else getattr(found, part)
    return found


def cost(row: RowSummary, name: str) -> float | None:
    """A cost of training; None for untrained methods, whose recorded zeros are meaningless."""
    return row.cost.get(name) if row.trained else None


def test_figures(test: PairedTest) -> tuple[str, str, str]:
    """Difference, interval and adjusted p-value of a paired test, formatted as in all documents."""
    digits = digits_of(test.metric)
    return (
        formats.signed(test.difference, digits),
        formats.interval(test.low, test.high, digits),
        formats.p_value(test.p_value_adjusted),
    )


def synthetic_notice(comparison: Comparison) -> str:
    """The notice that accompanies every number of a built-in model or data set; empty for real ones."""
    return synthetic.synthetic_sentence(comparison.synthetic_parts)


def failure_note(row: RowSummary) -> str:
    """Which seeds failed, in words; empty if none did."""
    if not row.failed_seeds:
        return ""
    seeds = formats.listed([str(seed) for seed in row.failed_seeds])
    return f"{formats.verb(row.failed_seeds, 'seed', 'seeds')} {seeds} failed"


def power_note(comparison: Comparison) -> str:
    """What a detectable difference means: 80% power, and how rough that is if few seeds estimate the spread."""
    fewest = min((count for test in comparison.tests for count in test.seeds if count > 1), default=FEW_SEEDS)
    repetitions = "sets of predictions" if of_files(comparison) else "seeds"
    return "80% power" if fewest >= FEW_SEEDS else f"80% power; a rough estimate, from {fewest} {repetitions}"


def methods_in_words(comparison: Comparison) -> str:
    """`methods`, or `systems` if their predictions are files from other tools."""
    return "systems" if of_files(comparison) else "methods"


def with_own_times(comparison: Comparison) -> Comparison:
    """The comparison without training times and energy measured on a shared device; unchanged if none was shared."""
    if not any(row.shared_device for row in comparison.rows.values()):
        return comparison
    lost = {"train_seconds": None, "energy_joules": None}
    return comparison.model_copy(
        update={
            "rows": {
                label: row.model_copy(update={"cost": row.cost | lost}) if row.shared_device else row
                for label, row in comparison.rows.items()
            }
        }
    )
