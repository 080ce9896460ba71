"""Tables of every number of a comparison, as recorded."""

from collections.abc import Callable, Iterable
from typing import Any

from triptych.reporting import rows
from triptych.reporting.tables.table import Column, ReportTable, by_row
from triptych.results.records import NUMERIC_COSTS, Comparison, Estimate, Loss, Parameters, RowSummary, TextShape
from triptych.text import formats


def record_tables(comparison: Comparison) -> list[ReportTable]:
    """Every number of the comparison's methods, as recorded, with the label in front of each line."""

    def sheet(name: str, caption: str, fields: Iterable[tuple[str, Callable[[RowSummary], Any]]]) -> ReportTable:
        columns = [Column(head, get, formats.exact, formats.DASH) for head, get in fields]
        return by_row(comparison, name, caption, columns, failures=False)

    def path(text: str) -> Callable[[RowSummary], Any]:
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
            "parameters: counts, shared storage counted once, as recorded.",
            [(name, path(f"parameters.{name}")) for name in Parameters.model_fields],
        )
    )
    starts = range(0, len(NUMERIC_COSTS), 5)
    for number, start in enumerate(starts, 1):
        sheets.append(
            sheet(
                f"exact-cost-{number}",
                f"cost, {number} of {len(starts)}: means over seeds (for the search, the sum), as recorded.",
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
