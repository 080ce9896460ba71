"""Print plans, designs, what is registered, what a data folder contains, and summaries."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from triptych.config.keys import SuiteKey, sections, toml_value
from triptych.config.reading import presets
from triptych.config.schema import Suite, make_suite
from triptych.errors import ConfigError, shorten
from triptych.foreign_names import meant_by
from triptych.results.records import DesignPlan
from triptych.run.plan import SuitePlan
from triptych.text import formats
from triptych.text.characters import for_terminal
from triptych.text.measures import name_of, short_unit_of

if TYPE_CHECKING:  # what a data folder contains is printed without torch
    from triptych.api import DataDescription, Registered
    from triptych.datasets.tables import SplitDescription
    from triptych.suite.dry_run import DryRun
    from triptych.use.summarizers import Summary, Trained


def show_settings(console: Console, suite: Suite, preset: str, out: str, remark: str = "") -> None:
    """Print what a suite compares, which preset its settings began from, and where its results go."""
    stored = "" if suite.model_quantization == "none" else f" in 4 bits ({suite.model_quantization})"
    print_text(
        console, f"Suite {suite.name!r}: model {suite.model}{stored}, data {suite.data}; results in {out}{remark}"
    )
    t, d, s = suite.training, suite.decoding, suite.search
    epochs, beams = formats.number_of(t.max_epochs, "epoch"), formats.number_of(d.num_beams, "beam")
    batch = formats.number_of(t.global_batch_size, "document")
    rates = f"a search over {s.trials} learning rates per method" if s.trials > 1 else "no search"
    print_text(
        console,
        f"{_from_preset(suite, preset)}  settings: seeds {', '.join(map(str, suite.seeds))}; up to {epochs}, "
        f"{batch} per step, patience {t.patience}, schedule {t.schedule}; {rates}; documents of up to "
        f"{suite.limits.document_tokens} tokens; {beams}, up to {formats.number_of(d.max_new_tokens, 'token')}",
    )


def _from_preset(suite: Suite, preset: str) -> str:
    """The preset that the settings started from, with its description if it gives the model and data."""
    if not preset:
        return ""
    started = make_suite(presets()[preset].settings)
    as_described = (suite.model, suite.data) == (started.model, started.data)
    return f"  from the preset {preset!r}{f': {presets()[preset].summary}' if as_described else ''}\n"


def show_plan(console: Console, plan: SuitePlan) -> None:
    """Print a plan without its settings: the data as it is read, methods with runs, disk; then the smaller suites.

    `show_settings` prints the settings before it.
    """
    _show_counts(console, plan)
    commits = ((plan.suite.model, plan.model_commit), (plan.suite.data, plan.data.commit))
    if found := [f"{name} at commit {commit}" for name, commit in commits if commit is not None]:
        print_text(console, f"  on the Hub: {', '.join(found)}")
    for sentence in plan.data.sentences():
        print_text(console, f"data: {sentence}")
    for sentence in plan.notes:
        print_text(console, f"note: {sentence}")
    if plan.columns:
        print_text(console, f"  columns: {', '.join(f'{role} = {name}' for role, name in plan.columns.items())}")
    pair = plan.example
    print_text(console, f"  example {pair.id}, of which {pair.document_tokens:,} tokens are read: {pair.document}")
    print_text(console, f"    its summary, {formats.number_of(pair.summary_tokens, 'token')}: {pair.summary}")
    print_text(console, f"  {plan.language}")
    _show_rows(console, plan)
    for smaller in plan.smaller:
        suite = smaller.suite
        print_text(console, f"Suite {suite.name!r}: model {suite.model}, on fewer documents; results in {smaller.out}")
        _show_counts(console, smaller)
        _show_rows(console, smaller)


def _show_counts(console: Console, plan: SuitePlan) -> None:
    """Print how many documents of each split are used, dropped and truncated."""
    for name, counts in plan.data.splits.items():
        reasons = {
            "empty": counts.dropped_empty,
            "duplicate": counts.dropped_duplicate,
            f"with a summary above {plan.suite.limits.summary_tokens} tokens": counts.dropped_long_summary,
        }
        why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)
        dropped = f"{sum(reasons.values()):,} dropped" + (f" ({why})" if why else "")
        line = f"  {name}: {counts.used:,} of {counts.read:,} documents used, {dropped}, {counts.truncated:,} truncated"
        print_text(console, line)


def _show_rows(console: Console, plan: SuitePlan) -> None:
    """Print the methods with their runs, parameters and disk."""
    numbers = [Column(header=header, justify="right") for header in ("runs", "done", "trainable", "added", "stored")]
    table = Table(Column("method", overflow="fold"), *numbers)
    for row in plan.rows:
        label = row.label if row.kind == row.label else f"{row.label} ({row.kind})"
        counted = [formats.count(n) for n in (row.num_trainable_parameters, row.num_added_parameters)]
        stored = f"{row.stored_bytes * len(row.seeds) / 1e6:,.1f} MB"
        table.add_row(label, str(len(row.seeds)), str(row.done), *counted, stored)
    console.print(table)
    for row in plan.rows:
        if row.targets:
            print_text(console, f"  {row.label} adapts these matrices: {', '.join(row.targets)}")
    more = f", and up to {plan.checkpoint_bytes / 1e6:,.1f} MB more while a run is unfinished (its checkpoints)"
    base = f" of {plan.num_base_parameters:,} parameters" if plan.num_base_parameters is not None else ""
    print_text(
        console,
        f"{formats.number_of(plan.num_runs, 'run')} on {plan.suite.model}{base}; about {plan.stored_bytes / 1e6:,.1f} "
        f"MB of trained parameters in {plan.out}{more if plan.checkpoint_bytes else ''}.",
    )


def show_times(console: Console, found: "DryRun") -> None:
    """Print the total time of a dry run's runs, and of those of the suites of its data-size curve."""
    if found.seconds is None:
        return
    print_text(
        console,
        f"At most about {found.seconds / 60:,.1f} minutes for all runs one after another: a few timed documents of "
        "each method, scaled to all epochs and full-length summaries.",
    )
    for smaller in found.smaller:
        if smaller.seconds is not None:
            number = formats.number_of(smaller.suite.limits.train_documents, "training document")
            print_text(console, f"  on {number}: about {smaller.seconds / 60:,.1f} minutes more")


def show_design(console: Console, made: DesignPlan) -> None:
    """Print a plan: what each number of seeds needs, the designs, and the sentences."""
    asked = f"{made.detect:g} {short_unit_of(made.primary, made.detect)} of {name_of(made.primary)}"
    needs = Table(
        "seeds",
        *(Column(header=h, justify="right") for h in ("test documents needed", "takes")),
        title=f"Needed to detect {asked} with 80% power",
    )
    for need in made.needs:
        documents = "no number is enough" if need.documents is None else f"{need.documents:,}"
        beyond = "" if need.available or need.documents is None else " (more than there are)"
        needs.add_row(str(need.seeds), documents + beyond, formats.seconds(need.seconds, formats.DASH))
    console.print(needs)
    designs = Table(
        "design",
        *(Column(header=h, justify="right") for h in ("train", "epochs", "test", "seeds", "power", "detects", "takes")),
        title=f"Designs, and the {short_unit_of(made.primary)} that each detects with 80% power",
    )
    for name, one in {"suite": made.own, "needed": made.needed, "within": made.best}.items():
        if one is not None:
            training = (f"{one.train_documents:,}", str(one.max_epochs)) if one.max_epochs else (formats.DASH,) * 2
            designs.add_row(
                name,
                *training,
                f"{one.test_documents:,}",
                str(len(one.seeds)),
                f"{one.power:.0%}",
                f"{one.detectable:.3g}",
                formats.seconds(one.seconds, formats.DASH),
            )
    console.print(designs)
    for sentence in made.sentences:
        print_text(console, sentence)
    if made.command:
        print_text(console, f"To run it:\n  {made.command}")


def show_registered(console: Console, found: "Registered") -> None:
    """Print what is registered, with every option, the keys of a suite file and the presets."""
    for contract, classes in found.plugins.items():
        if not classes:
            continue
        console.print(f"\n{contract}s", style="bold")
        for name, cls in classes.items():
            console.print(f"  {name}: {cls.summary_line()}", markup=False, highlight=False, soft_wrap=True)
            for option, information in cls.model_fields.items():
                value = information.get_default(call_default_factory=True)
                default = "" if information.is_required() else f" (default {value!r})"
                text = f"      {option}{default}: {information.description or ''}"
                console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print("\nvariants of methods, by a label alone", style="bold")
    for label, options in found.variants.items():
        shown = ", ".join(f"{name} = {toml_value(value)}" for name, value in options.items())
        console.print(f"  {label}: {shown}", markup=False, highlight=False, soft_wrap=True)
    console.print("\nkeys of a suite file", style="bold")
    for key in found.keys:
        text = f"  {key.name} (default {key.default!r}): {key.description}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print("\npresets", style="bold")
    for name, summary in found.presets.items():
        console.print(f"  {name}: {summary}", markup=False, highlight=False, soft_wrap=True)


def show_keys(console: Console, keys: Sequence[SuiteKey], parts: Sequence[str]) -> None:
    """Print keys with their defaults, allowed values and meaning.

    Args:
        console: where to print.
        keys: all keys.
        parts: only keys whose names contain one of these; none: every key.

    Raises:
        ConfigError: no key matches.
    """
    wanted = [key for key in keys if not parts or any(part.lower() in key.name for part in parts)]
    if not wanted:
        named = " or ".join(map(repr, parts))
        raise ConfigError(
            f"No key has {named} in its name.{meant_by(parts[0])} `triptych list keys` shows all of them."
        )
    purposes, before = sections(), ""
    for key in wanted:
        section = key.name.rpartition(".")[0]
        if section != before:
            console.print(f"\n[{section}]  {purposes.get(section, '')}".rstrip(), style="bold", markup=False)
            before = section
        default = "not set" if key.default is None else toml_value(key.default)
        print_text(console, f"  {key.name} (default {default}): {key.description}\n      {key.allowed}")


def show_data(console: Console, found: "DataDescription") -> None:
    """Print what a data folder contains and how it would be read, with a pair of its first split."""
    splits = found.tables.splits
    for split in splits:
        files = ", ".join(str(file) for file in split.files[:5])
        more = f" and {n} more" if (n := len(split.files) - 5) > 0 else ""
        roles = split.roles
        print_text(
            console,
            f"{split.split}: {formats.number_of(split.rows, 'row')} in {files}{more}\n  columns: "
            f"{', '.join(split.columns)}\n"
            f"  document = {roles.document}, summary = {roles.summary}, "
            f"id = {_made_id(split) if roles.id is None else roles.id}",
        )
    example = next((split.first for split in splits if split.first is not None), None)
    if example is not None:
        print_text(console, f"example: {shorten(example.id, 60)}")
        for role, text in (("document", example.document), ("summary", example.summary)):
            print_text(console, f"  {role} ({len(text):,} characters): {shorten(text, 160)}")
    missing = [name for name in found.cut if name != "train"]
    them = "it" if len(missing) == 1 else "them"
    parts = ", ".join(f"{number:,} {name}" for name, number in found.cut.items())
    cut = (
        f"There is no {' and no '.join(missing)} split: compare cuts {them} by [split], {parts} of "
        f"{sum(found.cut.values()):,}."
    )
    for sentence in [*found.tables.notes, *([cut] if missing else [])]:
        print_text(console, f"data: {sentence}")
    print_text(console, found.language.reason)


def _made_id(split: "SplitDescription") -> str:
    """The text shown for a split without a column of ids."""
    others = set(split.columns) - {split.roles.document, split.roles.summary}
    return f"(made from split and row{'; columns.id=NAME uses a column' if others else ''})"


def print_text(console: Console, text: str) -> None:
    """Print text from a file, without anything that a terminal would interpret."""
    console.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)


class SummaryPrinter:
    """Prints summaries as they are generated, and at the end how many documents were truncated.

    Control characters are escaped on a terminal; a pipe or a file gets the text as it was generated.

    Args:
        headings: print the document and the run above each summary.
        as_json: print JSON lines instead.
    """

    def __init__(self, headings: bool, as_json: bool):
        self._headings, self._as_json = headings, as_json
        self._cut: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def __call__(self, row: "Trained", name: str, summary: "Summary") -> None:
        """Print one summary."""
        self.count(row, summary)
        if self._as_json:
            facts = {
                "id": name,
                "label": row.label,
                "run": str(row.folder),
                "summary": summary.text,
                "num_tokens": summary.num_tokens,
                "at_cap": summary.at_cap,
                "document_tokens": summary.document_tokens,
                "read_tokens": summary.read_tokens,
            }
            print(json.dumps(facts, ensure_ascii=False), flush=True)
        else:
            text = f"== {name}, {row.label} ({row.folder})\n{summary.text}\n" if self._headings else summary.text
            print(for_terminal(text) if sys.stdout.isatty() else text, flush=True)

    def count(self, row: "Trained", summary: "Summary") -> None:
        """Count a summary without printing it."""
        self._all[str(row.folder)] += 1
        self._cut[str(row.folder)] += summary.truncated

    def close(self) -> None:
        """Report on standard error which documents were cut."""
        for run, cut in self._cut.items():
            if cut:
                print(
                    f"{run}: {cut} of {formats.number_of(self._all[run], 'document')} "
                    f"{formats.verb(cut, 'was too long: its end was', 'were too long: their ends were')} not read.",
                    file=sys.stderr,
                )
