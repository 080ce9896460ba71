"""Plan the size that a comparison needs, or the best one for a budget: from pilots, or before any run."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.analysis import chance as chances
from triptych.analysis import costs as costing
from triptych.analysis.chance import ASSUMED
from triptych.config import reading
from triptych.config.schema import ChosenDesign, Suite
from triptych.errors import ConfigError, ResultsError, shorten
from triptych.models.quiet import quietly
from triptych.planning.designs import Known, conclude, own_size
from triptych.planning.pilots import from_pilots
from triptych.results.layout import results_folder
from triptych.results.reading import read_suite
from triptych.results.records import DesignPlan, MeasureChance
from triptych.results.resuming import options_for
from triptych.storage.files import named_path
from triptych.text.measures import units_of
from triptych.text.quantities import SECONDS_OF

if TYPE_CHECKING:  # a plan from pilots needs no torch
    from triptych.run import entries, preflight

STARTUP = 10.0  # seconds that a run takes to start, if not measured
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|d)\s*")


def parse_duration(text: str) -> float:
    """Parse `8h`, `30 min`, `90s` or `2d` into seconds.

    Raises:
        ConfigError: it is none of these, or zero.
    """
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * SECONDS_OF[match[2]] if match else 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--within {shorten(repr(text))} is not a duration above zero, such as 90s, 30min, 8h or 2d.")
    return seconds


def check_difference(detect: float) -> None:
    """Check that a difference to find is above zero.

    Raises:
        ConfigError: it is not.
    """
    if not 0 < detect < float("inf"):
        raise ConfigError(
            f"--detect {detect:g}: the true difference to find must be a number above zero, such as 1.0 points."
        )


def plan(
    suite_file: str | Path | None = None,
    *,
    pilots: Sequence[str | Path] = (),
    detect: float | None = None,
    within: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    methods: str | Sequence[str] | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
) -> DesignPlan:
    """Plan how many test documents and seeds detect a difference, what that costs, and the best design for a budget.

    With finished results folders, no model is loaded and torch is not needed. Without any, a few documents are timed
    with every method, and how scores vary is assumed.

    Args:
        suite_file: a suite in TOML, or `OUT/suite.json`; not together with pilots.
        pilots: results folders of `compare`, or of `score` for how scores vary; the first one's suite is planned.
        detect: the true difference to find, in the primary measure's units; None: 1 ROUGE point, 0.04 nats.
        within: the time for all runs, such as `8h`, `30min`; None: no budget.
        preset: as for `compare`; not together with pilots.
        settings: as for `compare`.
        methods: as for `compare`; with pilots, only methods that they contain.
        device: as for `compare`.
        plugins: as for `compare`.

    Returns:
        The plan; `sentences` has it in words, `command` is the command that runs it.

    Raises:
        InputError: an argument is wrong, the pilots cannot be used, or the budget is below the smallest design.
    """
    settings, methods = reading.nested(settings or {}), reading.parse_labels(methods)
    if isinstance(settings.get("seeds"), int | str):
        settings["seeds"] = reading.parse_seeds(settings["seeds"])
    budget = None if within is None else parse_duration(within)
    if detect is not None:
        check_difference(detect)
    if pilots and (suite_file is not None or preset is not None):
        raise ConfigError("A pilot brings its own suite: give results folders, or a suite file or --preset, not both.")
    if pilots:
        known = from_pilots([named_path(pilot) for pilot in pilots], settings, methods, _flags(settings, methods))
    else:
        known = from_suite(suite_file, preset, settings, methods, device, plugins)
    return conclude(known, detect, budget)


def from_suite(
    suite_file: str | Path | None,
    preset: str | None,
    settings: Mapping[str, Any],
    methods: Sequence[str] | None,
    device: str | None,
    plugins: Sequence[str],
) -> Known:
    """Collect what a plan is based on from a few timed documents per method and assumptions on how scores vary.

    Raises:
        InputError: the suite cannot be run.
    """
    from triptych.plugins import import_plugins
    from triptych.run import entries

    import_plugins(plugins)
    suite, table = entries.resolve(reading.merge_settings(suite_file, preset, settings), methods)
    check_plannable(suite, table)

    from triptych.run import preflight

    with quietly(), preflight.temporary_cache() as cache:
        checked = preflight.check_suite(suite, table, device, cache)
        arguments = ["compare", *([str(suite_file)] if suite_file else []), *(["--preset", preset] if preset else [])]
        arguments += options_for(plugins)
        return from_preflight(checked, device, (*arguments, *_flags(settings, methods)))


def check_plannable(suite: Suite, table: "Sequence[entries.SuiteEntry]") -> None:
    """Make sure that a suite can be planned without a pilot, as far as its settings say.

    Raises:
        ConfigError: fewer than two methods train, or nothing can be assumed about the primary measure.
    """
    if suite.analysis.primary == "loss":
        raise ConfigError(
            "How the test loss varies is not known without a pilot; only ROUGE has assumptions. Give a finished "
            "results folder (triptych plan OUT), or plan for analysis.primary=rouge1."
        )
    trained = sum(row.trains for row in table)
    if trained < 2:
        raise ConfigError(f"A difference needs two methods that train, and the suite has {trained}.")


def from_preflight(checked: "preflight.CheckedSuite", device: str | None, arguments: Sequence[str]) -> Known:
    """Like `from_suite`, for a suite that is already checked, also by `check_plannable`.

    Args:
        checked: the suite.
        device: as for `compare`.
        arguments: arguments of the command that runs the suite as it is.
    """
    from triptych.run.estimate import estimate_runs

    suite = checked.suite
    primary = suite.analysis.primary
    trained = tuple(row.label for row in checked.entries if row.trains)
    costs = {}
    for row, one in zip(checked.entries, estimate_runs(checked, device).values(), strict=True):
        costs[row.label] = costing.RowCost(
            row.trains,
            STARTUP,
            one.search_seconds,
            len(checked.corpus.train) if one.search_seconds else 0,
            one.document_seconds,
            one.loss_seconds,
            one.summary_seconds,
            suite.training.eval_every,
        )
    splits = checked.corpus.data.splits
    available = {name: counts.used + counts.not_sampled for name, counts in splits.items()}
    assumed = MeasureChance(
        measure=primary,
        units=units_of(primary),
        source="assumed, without a pilot",
        pair=[],
        document_sd=chances.ASSUMED_DOCUMENT_SD,
        noise_sd=chances.root(sum(ASSUMED.noise)),
        seed_sd=chances.ASSUMED_SEED_SD,
        seed_sd_low=None,
        seed_sd_high=None,
    )
    notes = (
        f"How {primary} varies is assumed, not measured, from ROUGE-1: documents' differences of two methods have an "
        f"SD of {chances.root(ASSUMED.documents + sum(ASSUMED.noise)):.1f} points under one seed (7.1 to 8.7 between "
        f"tuned methods of SmolLM2-135M on CNN/DailyMail), of which {chances.ASSUMED_DOCUMENT_SD:g} stay however many "
        f"seeds there are, and the mean of a seed has an SD of {chances.ASSUMED_SEED_SD:g}. A pilot of 3 seeds "
        "measures both: triptych plan OUT.",
    )
    return Known(
        suite=suite,
        trained=trained,
        size=own_size(suite, available),
        test_available=available["test"],
        chance={primary: (ASSUMED, assumed)},
        costs=costs,
        costs_from="from a few documents timed with each method on this machine, with an assumed "
        f"start of {STARTUP:g} s a run",
        arguments=tuple(arguments),
        notes=notes,
    )


def kept_settings(out: Path, settings: Mapping[str, Any], budget: float) -> dict[str, Any] | None:
    """Settings overridden by the design in OUT; None if there is no OUT yet.

    Args:
        out: the results folder.
        settings: the settings of the suite.
        budget: the requested seconds; recorded with the design, so that another budget makes another suite.

    Raises:
        ResultsError: OUT has a suite whose design was not chosen for a budget.
    """
    file = out / "suite.json"
    if not file.exists():
        return None
    there = read_suite(file)
    if there.design is None:
        raise ResultsError(
            f"The folder {str(out)!r} holds a suite that was not planned for a budget. Resume it without --within, "
            "give another --out, or --fresh to start over (what is there is kept under another name)."
        )
    return reading.merge_tables(
        dict(settings),
        {
            "seeds": list(there.seeds),
            "limits": {"train_documents": there.limits.train_documents, "test_documents": there.limits.test_documents},
            "training": {"max_epochs": there.training.max_epochs},
            "design": there.design.model_dump() | {"within_seconds": budget},
        },
    )


def chosen_settings(known: Known, made: DesignPlan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings overridden by a plan's best design, with a note that it was chosen for a budget.

    Args:
        known: what the plan was based on.
        made: a plan for a budget.
        settings: the settings of the suite.
    """
    best, limits = made.best, known.suite.limits
    assert best is not None and best.seconds is not None and made.within_seconds is not None
    same = best.train_documents == known.size.train_documents
    return reading.merge_tables(
        dict(settings),
        {
            "seeds": best.seeds,
            "limits": {
                "train_documents": limits.train_documents if same else best.train_documents,
                "test_documents": best.test_documents,
            },
            "training": {"max_epochs": best.max_epochs},
            "design": ChosenDesign(
                within_seconds=made.within_seconds,
                estimated_seconds=round(best.seconds, 1),
                detect=made.detect,
                power=round(best.power, 3),
                train_documents=best.train_documents,
                max_epochs=best.max_epochs,
                test_documents=best.test_documents,
                seeds=len(best.seeds),
            ).model_dump(),
        },
    )


def settings_within(
    within: str,
    settings: Mapping[str, Any],
    methods: Sequence[str] | None,
    out: Path | None,
    device: str | None,
    fresh: bool = False,
    on_plan: Callable[[DesignPlan], None] | None = None,
) -> dict[str, Any]:
    """The settings of a suite with the best design for a budget: the one in OUT, or a new one.

    Args:
        within: the budget, as `parse_duration` reads it.
        settings: the settings of the suite, without a design.
        methods: labels of the methods; None: those of the suite.
        out: the results folder; None: `results/NAME`.
        device: as for `compare`.
        fresh: make a new plan, whatever is in OUT.
        on_plan: called with a plan that was made, before anything runs.

    Raises:
        InputError: the budget or the suite cannot be used, or OUT has one without a design.
    """
    from triptych.run import entries, preflight

    budget = parse_duration(within)
    suite, table = entries.resolve(dict(settings), methods)
    folder = results_folder(out, suite.name)
    if not fresh and (kept := kept_settings(folder, settings, budget)) is not None:
        return kept
    check_plannable(suite, table)
    with preflight.temporary_cache() as cache:
        known = from_preflight(preflight.check_suite(suite, table, device, cache), device, ())
    made = conclude(known, None, budget)
    if on_plan is not None:
        on_plan(made)
    return chosen_settings(known, made, settings)


def _flags(settings: Mapping[str, Any], methods: Sequence[str] | None) -> list[str]:
    """Settings and methods as arguments of `compare`."""
    flags = ["--methods", ",".join(methods)] if methods is not None else []
    left = {key: value for key, value in settings.items() if key not in ("model", "data", "seeds")}
    for key in ("model", "data"):
        if key in settings:
            flags += [f"--{key}", str(settings[key])]
    pairs = [f"{key}={_toml(value)}" for key, value in _leaves(left)]
    return [*flags, *(["--set", *pairs] if pairs else [])]


def _leaves(table: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in table.items():
        found += _leaves(value, f"{before}{key}.") if isinstance(value, Mapping) else [(f"{before}{key}", value)]
    return found


def _toml(value: Any) -> str:
    """Format a value for `--set`."""
    return json.dumps(value, ensure_ascii=False)
