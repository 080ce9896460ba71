"""What a plan learns from finished results folders: how scores vary, and what runs cost. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.analysis import chance as chances
from triptych.analysis import costs as costing
from triptych.analysis.chance import Chance
from triptych.analysis.comparison import matrices, refuse_incomparable, refuse_repeated
from triptych.analysis.inference import Array
from triptych.analysis.planning import USUAL_SEEDS, enough_pairs
from triptych.config import reading
from triptych.config.schema import Suite, make_suite
from triptych.errors import ConfigError, ResultsError, nearest
from triptych.planning.designs import Known, own_size
from triptych.results.reading import Results, SavedRun, read_results
from triptych.results.records import MeasureChance
from triptych.results.resuming import plugin_options
from triptych.text import formats
from triptych.text.measures import units_of


def from_pilots(
    outs: Sequence[Path], settings: Mapping[str, Any], methods: Sequence[str] | None, flags: Sequence[str]
) -> Known:
    """Collect what a plan is based on from finished results folders; nothing is measured.

    Args:
        outs: results folders of `compare`, or of `score` for how scores vary; the first one's suite is planned.
        settings: keys of a suite, which override it.
        methods: its methods to plan for; None: all.
        flags: settings and methods as arguments of `compare`.

    Raises:
        InputError: a folder cannot be used or was given twice, or the folders use different measures.
    """
    several = [read_results(out) for out in outs]
    refuse_repeated(several)
    for results in several:
        refuse_incomparable(results)
    suite = _suite_of_pilots(several, settings, methods)
    chance, notes = _chance_of_pilots(several, suite)
    costs: dict[str, costing.RowCost] = {}
    for results in reversed(several):
        costs |= costing.measured(results)
    first = next((results for results in several if results.files is None), several[0])
    runs = [run for run in first.runs if run.done]
    trained = tuple(label for label in suite.methods if first.files is not None or _trains(several, label))
    if len(trained) < 2:
        raise ResultsError(
            f"A difference needs two methods that train, and {str(first.out)!r} has {len(trained)}. Give a pilot with "
            "two of them."
        )
    costs = {label: costs[label] for label in suite.methods if label in costs}
    if costs and (lacking := [label for label in suite.methods if label not in costs]):
        raise ResultsError(
            f"No pilot has a finished run of {', '.join(lacking)}: leave it out with --methods, or run it."
        )
    available = {split: max(costing.available(run, split) for run in runs) for split in ("train", "validation", "test")}
    available["test"] = max(available["test"], len(runs[0].predictions))
    machine = _machine(runs[0])
    if costs and any(costing.on_shared_device(run) for run in runs):
        notes.append(
            "Other jobs used the device while the pilot ran: its times, and so all times here, are probably too long."
        )
    return Known(
        suite=suite,
        trained=trained,
        size=own_size(suite, available)
        if first.files is None
        else costing.Size(0, 0, available["test"], 0, len(suite.seeds)),
        test_available=available["test"],
        chance=chance,
        costs=costs,
        costs_from=f"as measured in {_names(several)}{f' ({machine})' if machine else ''}",
        arguments=("compare", str(first.out), *plugin_options(first.out), *flags) if first.files is None else (),
        enough=_enough(first, suite),
        notes=tuple(notes),
    )


def _suite_of_pilots(several: Sequence[Results], settings: Mapping[str, Any], methods: Sequence[str] | None) -> Suite:
    """The suite of the first folder of runs, overridden by settings; all must share the primary measure and ROUGE."""
    first = next((results for results in several if results.files is None), several[0])
    for results in several:
        for what, of in (("analysis.primary", lambda one: one.suite.analysis.primary), ("ROUGE", _signature)):
            if of(results) != of(first):
                raise ResultsError(
                    f"The pilots use different measures: {what} is {of(first)!r} in {str(first.out)!r} and "
                    f"{of(results)!r} in {str(results.out)!r}. Plan from one of them."
                )
    if unknown := settings.keys() & {"model", "data"}:
        raise ConfigError(
            f"A pilot has its own {' and '.join(sorted(unknown))}: its scores say nothing about another one."
        )
    merged = reading.merge_tables(first.suite.model_dump(mode="json"), {**settings, "design": None})
    if methods is not None:
        if absent := [label for label in methods if label not in first.suite.methods]:
            hint = nearest(absent[0], first.suite.methods)
            raise ConfigError(f"The pilot {str(first.out)!r} has no method {absent[0]!r}.{hint}")
        chosen = {label: options for label, options in merged["method"].items() if label in methods}
        merged |= {"methods": list(methods), "method": chosen}
    return make_suite(merged)


def _signature(results: Results) -> str | None:
    return next((run.record.rouge.signature for run in results.runs if run.record.rouge is not None), None)


def _trains(several: Sequence[Results], label: str) -> bool:
    return any(runs[0].trained for results in several if (runs := results.of(label)))


def _chance_of_pilots(
    several: Sequence[Results], suite: Suite
) -> tuple[dict[str, tuple[Chance, MeasureChance]], list[str]]:
    """The variances on the primary measure and on the test loss, for the pair that varies most."""
    primary: str = suite.analysis.primary
    by_measure: dict[str, list[tuple[Results, dict[str, Array]]]] = {}
    for results in several:
        rows: dict[str, dict[str, Array]] = {}
        for label in results.labels:
            runs = results.of(label)
            known = results.files is not None or label in suite.methods
            if runs and known and (runs[0].trained or results.files is not None):
                rows[label] = matrices(runs)
        for measure in (primary, "loss"):
            there = {label: values[measure] for label, values in rows.items() if measure in values}
            if there and next(iter(there.values())).shape[1] > 1:
                by_measure.setdefault(measure, []).append((results, there))
    # one method alone shows how its seeds vary; a pair needs two on the same documents
    by_measure = {measure: parts for measure, parts in by_measure.items() if any(len(rows) > 1 for _, rows in parts)}
    if primary not in by_measure:
        what = "" if primary == "rouge1" else f" with {primary} of every document"
        raise ResultsError(
            f"{_names(several)} cannot be planned from: two methods that train, of the suite of "
            f"{str(several[0].out)!r}, scored on two documents or more{what}, are needed in one folder."
        )
    found, notes = {}, []
    for measure, parts in by_measure.items():
        seeds = chances.seed_variance([values for _, rows in parts for values in rows.values()])
        if seeds is None:
            assumed = chances.ASSUMED_SEED_SD * (
                suite.analysis.loss_margin / suite.analysis.margin if measure == "loss" else 1
            )
            notes.append(
                f"The pilot has one seed of every method and cannot say how {measure} varies from seed to seed: an SD "
                f"of {assumed:.2g} is assumed. All variation between documents is assumed to remain with more "
                "seeds."
            )
        seed_variance = seeds.variance if seeds is not None else assumed**2
        pairs = [found for _, rows in parts for found in chances.pairs_of(rows, seed_variance).items()]
        pair, chance = chances.widest(pairs, USUAL_SEEDS)
        found[measure] = (
            chance,
            MeasureChance(
                measure=measure,
                units=units_of(measure),
                source=_names([results for results, _ in parts]),
                pair=list(pair),
                document_sd=chances.root(chance.documents),
                noise_sd=chances.root(sum(chance.noise)),
                seed_sd=chances.root(seed_variance),
                seed_sd_low=chances.root(seeds.low) if seeds is not None else None,
                seed_sd_high=chances.root(seeds.high) if seeds is not None else None,
            ),
        )
    return found, notes


def _enough(results: Results, suite: Suite) -> int | None:
    """The training pairs that are enough, from the pilot's data-size curve on the primary measure."""
    parts = {**results.scaled}
    whole = next((costing.used(run, "train") for run in results.runs if run.done and run.trained), 0)
    if not parts or not whole:
        return None
    parts[whole] = results
    curves: dict[str, dict[int, float]] = {}
    for size, part in parts.items():
        for label in part.labels:
            runs = part.of(label)
            if runs and runs[0].trained and label in suite.methods:
                curves.setdefault(label, {})[size] = _mean(runs, suite.analysis.primary)
    return enough_pairs(curves, suite.analysis.margin_of(suite.analysis.primary))


def _mean(runs: Sequence[SavedRun], measure: str) -> float:
    """A method's mean, negated for the loss so that higher is better."""
    if measure == "loss":
        return -sum(run.record.loss.test or 0.0 for run in runs) / len(runs)
    return sum(getattr(run.record.rouge, measure) for run in runs) / len(runs)


def _names(several: Sequence[Results]) -> str:
    return formats.listed([str(results.out) for results in several])


def _machine(run: SavedRun) -> str:
    """The machine that a run used, in words."""
    provenance = run.record.provenance
    if provenance is None:
        return ""
    device = provenance.hardware.get("gpu") or provenance.hardware.get("processor") or provenance.device
    return str(device)
