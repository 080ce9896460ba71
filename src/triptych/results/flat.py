"""A comparison as flat rows, one for each method: the columns of `comparison.csv` and of a DataFrame."""

from typing import Any

from triptych.results.records import NUMERIC_COSTS, ROUGE_TYPES, Comparison, RowSummary


def flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Every raw figure of every method by its column; missing ones are None or left out.

    A further metric's score with the name of another column is prefixed with `score `.
    """
    own = {name for label, row in comparison.rows.items() for name in _flat(comparison, label, row, {})}
    further = list(dict.fromkeys(name for row in comparison.rows.values() for name in row.further_scores))
    columns = _score_columns(further, own)
    return [_flat(comparison, label, row, columns) for label, row in comparison.rows.items()]


def _score_columns(names: list[str], taken: set[str]) -> dict[str, str]:
    """A free column name for each further score."""
    columns = {name: name for name in names if name not in taken}
    for name in names:
        if name in taken:
            column = f"score {name}"
            while column in columns.values() or column in taken:
                column = f"score {column}"
            columns[name] = column
    return columns


def _flat(comparison: Comparison, label: str, row: RowSummary, score_columns: dict[str, str]) -> dict[str, Any]:
    """The figures of one method by column.

    Args:
        comparison: the comparison that the method belongs to.
        label: its label.
        row: the method.
        score_columns: the column of each further score; scores that the method lacks are left out.
    """
    flat: dict[str, Any] = {
        "label": label,
        "kind": row.kind,
        "status": "failed" if row.failed else "done",
        "seeds": " ".join(map(str, row.seeds)),
        "failed_seeds": " ".join(map(str, row.failed_seeds)),
    }
    for name in ("test", "low", "high", "initial", "validation"):
        flat[f"loss_{name}"] = getattr(row.loss, name)
    for metric in ROUGE_TYPES:
        estimate = getattr(row, metric)
        for name in ("mean", "low", "high"):
            flat[f"{metric}_{name}"] = estimate and getattr(estimate, name)
        for part, means in (("precision", row.rouge_precision), ("recall", row.rouge_recall)):
            if metric in means:
                flat[f"{metric}_{part}"] = means[metric]
    for name in ("base", "added", "trainable", "total"):
        field = f"num_{name}_parameters"
        flat[field] = row.parameters and getattr(row.parameters, field)
    flat["stored_bytes"] = row.parameters and row.parameters.stored_bytes
    flat |= {name: row.cost.get(name) for name in NUMERIC_COSTS}
    if row.text_shape is not None:
        flat |= row.text_shape.model_dump()
    flat |= {column: row.further_scores[name] for name, column in score_columns.items() if name in row.further_scores}
    return flat | {
        "model": comparison.model,
        "data": comparison.data,
        "synthetic": comparison.synthetic,
        "num_documents": comparison.num_documents,
        "flags": " ".join(row.flags),
    }
