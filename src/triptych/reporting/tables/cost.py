"""Tables of cost: time, parameters, compute, time per phase of a run, and generation speed."""

from collections.abc import Callable

from triptych.reporting import rows
from triptych.reporting.tables.table import Column, ReportTable, by_row, cost_of
from triptych.results.records import Comparison, RowSummary
from triptych.text import formats


def training_table(comparison: Comparison) -> ReportTable:
    """Training time, parameters and stored size."""
    return by_row(
        comparison,
        "bonus",
        "Training time and parameters. Training time is the sum of synchronised optimizer steps, "
        "without preparation (a trunk cache made, too), evaluation, search and checkpoints; means over seeds.",
        [
            Column("Training time", cost_of("train_seconds"), formats.seconds),
            Column("Added parameters", _parameters("num_added_parameters"), formats.count, formats.DASH),
            Column("Trainable parameters", _parameters("num_trainable_parameters"), formats.count, formats.DASH),
            Column("Total parameters", _parameters("num_total_parameters"), formats.count, formats.DASH),
            Column("Stored", _parameters("stored_bytes"), _bytes, formats.DASH),
        ],
    )


_MEMORY = "It is memory that no file backs: mapped data, caches and libraries are not part of it."


def compute_table(comparison: Comparison, device: str, num_devices: int) -> ReportTable:
    """What the device did: seconds, utilization, operations, memory, energy."""
    name = "GPU" if device == "cuda" else device.upper()

    def rate(row: RowSummary) -> float | None:
        flops, seconds = rows.cost(row, "train_flops"), rows.cost(row, "train_seconds")
        return flops / seconds / num_devices if flops and seconds else None

    def busy(row: RowSummary) -> float | None:
        worked, held = rows.cost(row, "busy_seconds"), rows.cost(row, "device_seconds")
        return worked / held if worked is not None and held else None

    energy = Column(
        "Energy", cost_of("energy_joules"), lambda value, missing: formats.quantity(value, "joules", missing)
    )
    measured = any(rows.cost(row, "energy_joules") is not None for row in comparison.rows.values())
    return by_row(
        comparison,
        "compute",
        f"Compute of training on {num_devices} {name} {'device' if num_devices == 1 else 'devices'}. Executed and "
        "plain FLOPs follow from passes counted by dispatch: plain is the same job without the exact savings. "
        f"Utilisation is the mean share of {'the GPU' if device == 'cuda' else 'all cores'} at work; the rate is "
        "executed FLOPs for each second of a device. Peak memory is that of training, weights included; added is how "
        "far it lies above what was in use before the first step. "
        f"{'It is what the allocator handed out.' if device == 'cuda' else _MEMORY}"
        f"{'' if measured else ' Energy was not measured.'}",
        [
            Column("GPU-seconds" if device == "cuda" else "Core-seconds", cost_of("device_seconds"), _tenths),
            Column("Utilisation", busy, formats.share),
            Column("Executed", cost_of("train_flops"), _flops, width=1.3),
            Column("Plain", cost_of("plain_flops"), _flops, width=1.3),
            Column(
                "Rate",
                rate,
                lambda value, missing: missing if value is None else formats.quantity(value, "flops") + "/s",
                width=1.7,
            ),
            Column("Peak memory", cost_of("peak_memory_bytes"), _bytes),
            Column("Added", cost_of("added_peak_memory_bytes"), _bytes),
            *([energy] if measured else []),
            Column("Tokens/s", cost_of("tokens_per_second"), formats.count),
        ],
    )


def clocks_table(comparison: Comparison) -> ReportTable:
    """Where the time of a run went; the search, which one run does for all seeds, is given in total."""

    def clock(name: str) -> Callable[[RowSummary], float | None]:
        return lambda row: row.cost.get(f"{name}_seconds")

    def search(name: str) -> Callable[[RowSummary], float | None]:
        return lambda row: rows.cost(row, name) or None

    return by_row(
        comparison,
        "clocks",
        "Where the time of a run went: clocks that do not overlap, means over seeds. The learning-rate search is "
        "made once for all seeds; its time and operations are given in all, and are in no other figure of cost.",
        [
            Column("Start", clock("startup"), formats.seconds, formats.DASH),
            Column("Data", clock("preparation"), formats.seconds, formats.DASH),
            Column("Compile", clock("compile"), formats.seconds, formats.DASH),
            Column("Steps", cost_of("train_seconds"), formats.seconds, formats.DASH),
            Column("Evaluation", clock("evaluation"), formats.seconds, formats.DASH),
            Column("Generation", clock("generation"), formats.seconds, formats.DASH),
            Column("Saving", clock("checkpoint"), formats.seconds, formats.DASH),
            Column("Search", search("search_seconds"), formats.seconds, formats.DASH),
            Column("Its FLOP", search("search_flops"), _flops, formats.DASH),
        ],
    )


def generation_table(comparison: Comparison) -> ReportTable:
    """How fast each method generates summaries."""
    return by_row(
        comparison,
        "generation",
        "Writing the summaries of the test split: time, documents a second in batches, and seconds that one document "
        "of median length takes alone; means over seeds.",
        [
            Column("Time", lambda row: row.cost.get("generation_seconds"), _short_time, formats.DASH),
            Column("Documents/s", lambda row: row.cost.get("documents_per_second"), _tenths, formats.DASH),
            Column("Alone", lambda row: row.cost.get("generation_latency_seconds"), _short_time, formats.DASH),
        ],
    )


def _parameters(name: str) -> Callable[[RowSummary], float | None]:
    return lambda row: rows.value(row, f"parameters.{name}")


def _bytes(value: float | None, missing: str) -> str:
    return formats.quantity(value, "bytes", missing)


def _flops(value: float | None, missing: str) -> str:
    return formats.quantity(value, "flops", missing)


def _short_time(value: float | None, missing: str) -> str:
    """A duration; very short ones are shown only as a bound."""
    return "< 0.01 s" if value is not None and value < 0.01 else formats.seconds(value, missing)


def _tenths(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:,.1f}"
