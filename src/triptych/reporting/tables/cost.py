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
        "Training time and parameters, means over seeds. Training time is the sum of the synchronized optimizer steps; "
        "it excludes preparation (including building a trunk cache), evaluation, the search and saving checkpoints.",
        [
            Column("Training time", cost_of("train_seconds"), formats.seconds),
            Column("Added parameters", _parameters("num_added_parameters"), formats.count, formats.DASH),
            Column("Trainable parameters", _parameters("num_trainable_parameters"), formats.count, formats.DASH),
            Column("Total parameters", _parameters("num_total_parameters"), formats.count, formats.DASH),
            Column("Stored", _parameters("stored_bytes"), _bytes, formats.DASH),
        ],
    )


_MEMORY = "It counts memory not backed by files: mapped data, caches and libraries are excluded."


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
    devices = "all cores" if device != "cuda" else "the GPU" if num_devices == 1 else "the GPUs"
    measured = any(rows.cost(row, "energy_joules") is not None for row in comparison.rows.values())
    return by_row(
        comparison,
        "compute",
        f"Training compute on {num_devices} {name} {'device' if num_devices == 1 else 'devices'}. Executed and plain "
        "FLOPs are computed from passes counted at dispatch; plain FLOPs are those of the same training without the "
        f"exact speed-ups. Utilization is the mean share of {devices} in use; "
        "the rate is executed FLOPs per device-second. Peak memory is the peak during training, including the weights; "
        "added is how far it exceeds the memory in use before the first step. "
        f"{'It is the memory handed out by the allocator.' if device == 'cuda' else _MEMORY}"
        f"{'' if measured else ' Energy was not measured.'}",
        [
            Column("GPU-seconds" if device == "cuda" else "Core-seconds", cost_of("device_seconds"), _tenths),
            Column("Utilization", busy, formats.share, width=1.3),
            Column("Executed", cost_of("train_flops"), _flops, width=1.3),
            Column("Plain", cost_of("plain_flops"), _flops, width=1.3),
            Column(
                "Rate",
                rate,
                lambda value, missing: missing if value is None else formats.quantity(value, "flops") + "/s",
                width=1.5,
            ),
            Column("Peak memory", cost_of("peak_memory_bytes"), _bytes),
            Column("Added", cost_of("added_peak_memory_bytes"), _bytes),
            *([energy] if measured else []),
            Column("Tokens/s", cost_of("tokens_per_second"), formats.count, width=1.1),
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
        "Time spent in each phase of a run, without overlap; means over seeds. The learning-rate search is run once "
        "for all seeds: its time and operations are totals and are not included in any other cost.",
        [
            Column("Start", clock("startup"), formats.seconds, formats.DASH),
            Column("Data", clock("preparation"), formats.seconds, formats.DASH),
            Column("Compile", clock("compile"), formats.seconds, formats.DASH),
            Column("Steps", cost_of("train_seconds"), formats.seconds, formats.DASH),
            Column("Evaluation", clock("evaluation"), formats.seconds, formats.DASH, width=1.2),
            Column("Generation", clock("generation"), formats.seconds, formats.DASH, width=1.2),
            Column("Saving", clock("checkpoint"), formats.seconds, formats.DASH),
            Column("Search", search("search_seconds"), formats.seconds, formats.DASH),
            Column("Search FLOPs", search("search_flops"), _flops, formats.DASH, width=1.3),
        ],
    )


def generation_table(comparison: Comparison) -> ReportTable:
    """How fast each method generates summaries."""
    return by_row(
        comparison,
        "generation",
        "Generating the summaries of the test split: time, documents per second in batches, and time for one document "
        "of median length on its own; means over seeds.",
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
