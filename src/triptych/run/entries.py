"""The entries of a suite: labels with their method or baseline and its options, validated and resolved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triptych.config.schema import Scaling, Suite, make_suite
from triptych.contracts import Baseline, Method
from triptych.errors import ConfigError, nearest, shorten
from triptych.methods.low_rank import LowRankMethod
from triptych.registry import build, registered
from triptych.results.records import Record

# Labels that need no kind: common variants of a method.
VARIANTS: dict[str, dict[str, Any]] = {
    "last-head": {"kind": "last-layers", "num_blocks": 0, "final_norm": False, "head": "untied"},
    "lora-all": {"kind": "lora", "target_modules": "all-linear"},
}


@dataclass(frozen=True)
class SuiteEntry:
    """A participant in a comparison: a method or baseline with its options, under a label.

    Attributes:
        label: its name in the suite.
        kind: the registered name of the method or baseline.
        plugin: the method or baseline, with its options.
    """

    label: str
    kind: str
    plugin: Method | Baseline

    @property
    def trains(self) -> bool:
        """Whether anything is trained; an entry without training runs once, with the first seed."""
        return isinstance(self.plugin, Method) and self.plugin.trains

    @property
    def options(self) -> dict[str, Any]:
        """The resolved options as JSON values."""
        return self.plugin.model_dump(mode="json")


def make_entry(label: str, options: dict[str, Any]) -> SuiteEntry:
    """Build the entry of a label.

    Args:
        label: its name; if the options have no `kind`, the name of a method, a baseline or one of `VARIANTS`.
        options: `kind` and the options of the method or baseline.

    Raises:
        ConfigError: an unknown kind, an unknown option or a bad value.
    """
    known = registered(Method) | registered(Baseline)
    variant = VARIANTS.get(label, {}) if "kind" not in options and label not in known else {}
    options = {**variant, **options}
    kind = options.pop("kind", label)
    if not isinstance(kind, str) or kind not in known:
        if kind != label:
            raise ConfigError(
                f"[method.{label}] has the unknown kind {shorten(repr(kind))}.{nearest(str(kind)[:100], known)}"
            )
        raise ConfigError(
            f"Unknown method {label!r}.{nearest(label, [*known, *VARIANTS])} A label of your own needs its kind: "
            f"--set method.{label}.kind=lora; a method in a file of your own needs --plugin FILE.py."
        )
    return SuiteEntry(label, kind, build(known[kind], options, f"method.{label}"))


def recorded_entry(record: Record) -> SuiteEntry:
    """The entry of a finished run; targets chosen by default are taken from its notes.

    Raises:
        ConfigError: its kind or an option is unknown.
    """
    options = {"kind": record.kind, **record.options}
    entry, noted = make_entry(record.label, options), record.notes.get("target_modules")
    if isinstance(entry.plugin, LowRankMethod) and entry.plugin.target_modules is None and noted:
        return make_entry(record.label, {**options, "target_modules": noted})
    return entry


def resolve(settings: dict[str, Any], only: Sequence[str] | None = None) -> tuple[Suite, list[SuiteEntry]]:
    """Resolve settings from presets, files and flags into a suite with every key set, and its entries.

    A section `[method.LABEL]` with a `kind` adds an entry even if `methods` does not list it.

    Args:
        settings: the settings as in a suite file.
        only: labels given on the command line; they replace `methods` and any added entries.

    Raises:
        ConfigError: an unknown key, name or value.
    """
    for name in (registered(Method) | registered(Baseline)).keys() & settings.keys() - Suite.model_fields.keys():
        raise ConfigError(
            f"Unknown key {name!r}. Options of a method are in its section, [method.{name}], or given as "
            f"--set method.{name}.KEY=VALUE."
        )
    suite = make_suite(settings if only is None else {**settings, "methods": list(only)})
    sections = {label: make_entry(label, options) for label, options in suite.method.items()}
    further = [label for label, options in suite.method.items() if "kind" in options and only is None]
    labels = dict.fromkeys([*suite.methods, *further])
    entries = [sections.get(label) or make_entry(label, {}) for label in labels]
    methods = {entry.label: {"kind": entry.kind, **entry.options} for entry in entries}
    written = {**suite.model_dump(mode="json"), "methods": list(labels), "method": methods}
    return make_suite(written if is_as_designed(suite) else {**written, "design": None}), entries


def is_as_designed(suite: Suite) -> bool:
    """Whether the sizes are still those in `design`; otherwise `design` no longer describes the suite."""
    design, limits = suite.design, suite.limits
    return design is None or (
        (len(suite.seeds), limits.test_documents, suite.training.max_epochs)
        == (design.seeds, design.test_documents, design.max_epochs)
        and (limits.train_documents == 0 or limits.train_documents >= design.train_documents)
    )


def runs_in_order(suite: Suite, entries: Sequence[SuiteEntry]) -> list[tuple[SuiteEntry, int]]:
    """The runs of a suite: each entry with each seed, entries without training only with the first seed."""
    return [(entry, seed) for entry in entries for seed in (suite.seeds if entry.trains else suite.seeds[:1])]


def smaller_suite(suite: Suite, entries: Sequence[SuiteEntry], train_documents: int) -> Suite:
    """The suite for one point of the data-size curve: the entries that train, on fewer documents, otherwise unchanged.

    Raises:
        ConfigError: no entry trains.
    """
    labels = tuple(entry.label for entry in entries if entry.trains)
    if not labels:
        raise ConfigError(
            "scaling.train_documents shows how methods improve with data, but no method of the suite is trained."
        )
    limits = suite.limits.model_copy(update={"train_documents": train_documents})
    method = {label: options for label, options in suite.method.items() if label in labels}
    changes = {"methods": labels, "method": method, "limits": limits, "scaling": Scaling(), "design": None}
    return suite.model_copy(update=changes)


def suite_entries(suite: Suite) -> list[SuiteEntry]:
    """The entries of a resolved suite."""
    return [make_entry(label, suite.method.get(label, {})) for label in suite.methods]


def find_entry(entries: Sequence[SuiteEntry], label: str) -> SuiteEntry:
    """The entry with this label.

    Raises:
        ConfigError: the suite has none.
    """
    for entry in entries:
        if entry.label == label:
            return entry
    raise ConfigError(f"The suite has no method {label!r}.{nearest(label, [entry.label for entry in entries])}")


def choose_seeds(suite: Suite, entry: SuiteEntry, asked: Sequence[int] | None) -> Sequence[int]:
    """The seeds to run an entry with: those requested, otherwise all that the suite plans for it.

    Raises:
        ConfigError: a requested seed is not in the suite, or is given twice.
    """
    if asked is not None and len(set(asked)) != len(asked):
        raise ConfigError(f"A seed is given twice: {', '.join(map(str, asked))}. Give each once.")
    for seed in asked or ():
        if seed not in suite.seeds:
            raise ConfigError(f"The suite has no seed {seed}; it has {', '.join(map(str, suite.seeds))}.")
    return asked or [seed for _, seed in runs_in_order(suite, [entry])]
