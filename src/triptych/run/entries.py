"""The rows of a suite: each label with its kind and its options, checked against the registered classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triptych.config.schema import Scaling, Suite, make_suite
from triptych.contracts import Baseline, Method
from triptych.errors import ConfigError, nearest, shorten
from triptych.registry import build, registered


@dataclass(frozen=True)
class Row:
    """One row of a comparison."""

    label: str
    kind: str
    plugin: Method | Baseline

    @property
    def trains(self) -> bool:
        """Rows without training run once, under the first seed."""
        return isinstance(self.plugin, Method) and self.plugin.trains

    @property
    def options(self) -> dict[str, Any]:
        """The resolved options, as JSON holds them."""
        return self.plugin.model_dump(mode="json")


def make_row(label: str, options: dict[str, Any]) -> Row:
    """A label and its options become a row.

    Raises:
        ConfigError: an unknown kind, an unknown option or a bad value.
    """
    options = dict(options)
    kind = options.pop("kind", label)
    known = registered(Method) | registered(Baseline)
    if not isinstance(kind, str) or kind not in known:
        if kind != label:
            raise ConfigError(
                f"[method.{label}] has the unknown kind {shorten(repr(kind))}.{nearest(str(kind)[:100], known)}"
            )
        raise ConfigError(
            f"Unknown method {label!r}.{nearest(label, known)} A label of your own needs its kind: "
            f"--set method.{label}.kind=lora; a method in a file of your own needs --plugin FILE.py."
        )
    return Row(label, kind, build(known[kind], options, f"method.{label}"))


def resolve(settings: dict[str, Any], only: Sequence[str] | None = None) -> tuple[Suite, list[Row]]:
    """Settings from presets, files and flags become a suite whose every key is written out, and its rows.

    A section `[method.LABEL]` with a `kind` is a further row even where `methods` does not list it.

    Args:
        settings: as a suite file gives them.
        only: labels named on the command line; they replace `methods` and further rows alike.

    Raises:
        ConfigError: an unknown key, name or value.
    """
    suite = make_suite(settings if only is None else {**settings, "methods": list(only)})
    sections = {label: make_row(label, options) for label, options in suite.method.items()}
    further = [label for label, options in suite.method.items() if "kind" in options and only is None]
    labels = dict.fromkeys([*suite.methods, *further])
    rows = [sections.get(label) or make_row(label, {}) for label in labels]
    methods = {row.label: {"kind": row.kind, **row.options} for row in rows}
    written = {**suite.model_dump(mode="json"), "methods": list(labels), "method": methods}
    return make_suite(written if _is_as_chosen(suite) else {**written, "design": None}), rows


def _is_as_chosen(suite: Suite) -> bool:
    """The sizes are those that `design` notes; where one was changed since, the note is no longer true."""
    design, limits = suite.design, suite.limits
    return design is None or (
        (len(suite.seeds), limits.test_documents, suite.training.max_epochs)
        == (design.seeds, design.test_documents, design.max_epochs)
        and (limits.train_documents == 0 or limits.train_documents >= design.train_documents)
    )


def planned_runs(suite: Suite, rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """The runs of a suite in order: each row under each seed, rows without training under the first alone."""
    return [(row, seed) for row in rows for seed in (suite.seeds if row.trains else suite.seeds[:1])]


def smaller_suite(suite: Suite, rows: Sequence[Row], train_documents: int) -> Suite:
    """The suite of a point of the data-size curve: the rows that train, on fewer documents; all else is the same.

    Raises:
        ConfigError: no row trains.
    """
    labels = tuple(row.label for row in rows if row.trains)
    if not labels:
        raise ConfigError("scaling.train_documents asks how rows gain with data, and no row of the suite trains.")
    limits = suite.limits.model_copy(update={"train_documents": train_documents})
    method = {label: options for label, options in suite.method.items() if label in labels}
    changes = {"methods": labels, "method": method, "limits": limits, "scaling": Scaling(), "design": None}
    return suite.model_copy(update=changes)


def suite_rows(suite: Suite) -> list[Row]:
    """The rows of a resolved suite."""
    return [make_row(label, suite.method.get(label, {})) for label in suite.methods]


def find_row(rows: Sequence[Row], label: str) -> Row:
    """The row of that label.

    Raises:
        ConfigError: the suite has none.
    """
    for row in rows:
        if row.label == label:
            return row
    raise ConfigError(f"The suite has no row {label!r}.{nearest(label, [row.label for row in rows])}")


def choose_seeds(suite: Suite, row: Row, asked: Sequence[int] | None) -> Sequence[int]:
    """The seeds to run a row under: those asked for, else all that the suite plans for it.

    Raises:
        ConfigError: a seed is asked for that the suite does not have.
    """
    for seed in asked or ():
        if seed not in suite.seeds:
            raise ConfigError(f"The suite has no seed {seed}; it has {', '.join(map(str, suite.seeds))}.")
    return asked or [seed for planned, seed in planned_runs(suite, [row]) if planned is row]
