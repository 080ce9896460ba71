"""Print the costs of results folders as Markdown tables, for `docs/cost-full-size.md`.

    python benchmarks/cost_table.py OUT               every cost, one column per method
    python benchmarks/cost_table.py OUT OUT ...       the cost of a step, one line per method and folder

All numbers are from the first seed's `record.json`; below the table are the reasons why something was not measured.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from triptych.results.reading import SavedRun, read_results
from triptych.results.records import Cost
from triptych.text import formats

Show = Callable[[SavedRun], str]


def seconds(name: str) -> Show:
    """A measured time; a dash if it is zero."""
    return lambda run: formats.seconds(getattr(run.record.cost, name) or None, formats.DASH)


def parameters(name: str, show: Callable[..., str] = formats.count) -> Show:
    """A number of parameters or bytes; a dash if there is no model."""
    return lambda run: formats.DASH if run.record.parameters is None else show(getattr(run.record.parameters, name))


def trained(show: Callable[[Cost], str]) -> Show:
    """A cost of training; a dash if nothing is trained."""
    return lambda run: show(run.record.cost) if run.trained else formats.DASH


def size(count: float | None) -> str:
    """A number of bytes as text."""
    return formats.quantity(count, "bytes")


def flops(name: str) -> Show:
    """A number of operations as text."""
    return trained(lambda cost: formats.quantity(getattr(cost, name), "flops"))


def utilization(cost: Cost) -> str:
    """The mean share of time that the device was busy."""
    if cost.busy_seconds is None or not cost.device_seconds:
        return formats.NOT_MEASURED
    return formats.share(cost.busy_seconds / cost.device_seconds)


def energy(cost: Cost) -> str:
    """Joules and how they were measured."""
    if cost.energy_joules is None:
        return formats.NOT_MEASURED
    return f"{formats.quantity(cost.energy_joules, 'joules')} ({cost.energy_kind})"


def rate(value: float | None) -> str:
    """A rate per second with three digits."""
    return formats.DASH if value is None else f"{float(f'{value:.3g}'):,.10g}"


LINES: tuple[tuple[str, Show], ...] = (
    ("Trainable parameters", parameters("num_trainable_parameters")),
    ("Added parameters", parameters("num_added_parameters")),
    ("Total parameters", parameters("num_total_parameters")),
    ("Stored", lambda run: parameters("stored_bytes", size)(run) if run.trained else formats.DASH),
    ("Start, model loaded", seconds("startup_seconds")),
    ("Data", seconds("preparation_seconds")),
    ("Compilation", seconds("compile_seconds")),
    ("Learning-rate search", seconds("search_seconds")),
    ("Search, executed", trained(lambda cost: formats.quantity(cost.search_flops or None, "flops", formats.DASH))),
    ("Training steps", seconds("train_seconds")),
    ("Device-seconds", trained(lambda cost: rate(cost.device_seconds))),
    ("Mean utilization", trained(utilization)),
    ("Training, executed", flops("train_flops")),
    ("Training, plain", flops("plain_flops")),
    ("Tokens a second", trained(lambda cost: rate(cost.tokens_per_second))),
    ("Peak memory of training", trained(lambda cost: f"{size(cost.peak_memory_bytes)} ({cost.peak_memory_kind})")),
    (
        "Reserved at the peak",
        trained(lambda cost: formats.quantity(cost.reserved_peak_memory_bytes, "bytes", "only measured on CUDA")),
    ),
    ("Energy of training", trained(energy)),
    ("Evaluation", seconds("evaluation_seconds")),
    ("Generation", seconds("generation_seconds")),
    ("Documents a second", lambda run: rate(run.record.cost.documents_per_second)),
    ("One document alone", seconds("generation_latency_seconds")),
    ("Saving", seconds("checkpoint_seconds")),
    ("Wall clock of the process", seconds("wall_seconds")),
)


def per_step(name: str, show: Callable[[float | None], str]) -> Show:
    """A cost of training per optimizer step."""

    def shown(run: SavedRun) -> str:
        if not run.trained or run.record.training is None:
            return formats.DASH
        value = getattr(run.record.cost, name)
        return show(None if value is None else value / run.record.training.steps)

    return shown


OF_A_STEP: tuple[tuple[str, Show], ...] = (
    ("Steps", lambda run: formats.count(run.record.training.steps) if run.record.training else formats.DASH),
    ("Time of a step", per_step("train_seconds", formats.seconds)),
    ("Tokens a second", trained(lambda cost: rate(cost.tokens_per_second))),
    ("Executed in a step", per_step("train_flops", lambda value: formats.quantity(value, "flops"))),
    ("Plain", per_step("plain_flops", lambda value: formats.quantity(value, "flops"))),
    ("Peak memory", trained(lambda cost: size(cost.peak_memory_bytes))),
    ("Energy of training", trained(energy)),
    ("Documents a second", lambda run: rate(run.record.cost.documents_per_second)),
)


def table(runs: Sequence[SavedRun]) -> str:
    """A table of all costs of each run."""
    names = [run.record.label for run in runs]
    lines = ["| |" + "|".join(f" {name} " for name in names) + "|", "|---|" + "---:|" * len(names)]
    lines += [f"| {title} |" + "|".join(f" {show(run)} " for run in runs) + "|" for title, show in LINES]
    return "\n".join([*lines, *missing(runs), machine(runs)])


def table_of_steps(several: Sequence[Sequence[SavedRun]]) -> str:
    """A table of the cost per step, with the same method of all folders on adjacent lines."""
    lines = [
        "| Method | Model |" + "|".join(f" {title} " for title, _ in OF_A_STEP) + "|",
        "|---|---|" + "---:|" * len(OF_A_STEP),
    ]
    for label in dict.fromkeys(run.record.label for runs in several for run in runs):
        for run in (run for runs in several for run in runs if run.record.label == label):
            model = f"{run.record.parameters.num_base_parameters:,}" if run.record.parameters else formats.DASH
            lines.append(f"| {label} | {model} |" + "|".join(f" {show(run)} " for _, show in OF_A_STEP) + "|")
    every = [run for runs in several for run in runs]
    return "\n".join([*lines, *missing(every), *dict.fromkeys(machine(runs) for runs in several)])


def missing(runs: Sequence[SavedRun]) -> list[str]:
    """The reasons why something was not measured."""
    costs = [run.record.cost for run in runs if run.trained]
    notes = [("Energy", cost.energy_note) for cost in costs] + [("Utilization", cost.busy_note) for cost in costs]
    return [f"\n{title}: {note}." for title, note in dict.fromkeys(notes) if note]


def machine(runs: Sequence[SavedRun]) -> str:
    """The machine, versions and commits."""
    known = [run.record.provenance for run in runs if run.record.provenance is not None]
    made = known[0]
    hardware = made.hardware
    device = hardware.get("gpu") or f"{hardware['processor']}, {hardware['cores']} cores, {hardware['threads']} threads"
    versions = ", ".join(
        f"{name} {made.versions[key]}"
        for name, key in (("torch", "torch"), ("transformers", "transformers"), ("Python", "python"))
    )
    commits = dict.fromkeys(formats.commit(one.commit, one.dirty) for one in known)
    return f"\n{device}; {made.precision}; {versions}; commit {formats.listed(list(commits))}."


if __name__ == "__main__":
    several = [
        [results.of(label)[0] for label in results.labels] for results in map(read_results, map(Path, sys.argv[1:]))
    ]
    print(table(several[0]) if len(several) == 1 else table_of_steps(several))
