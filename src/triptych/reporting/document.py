"""The report as plain data: claims, tables, examples and provenance. The templates only lay it out."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import matplotlib
from matplotlib.ft2font import FT2Font

from triptych.analysis.coverage import corpus_name, corpus_pairs
from triptych.reporting import rows
from triptych.reporting.authors_text import NOT_WRITTEN, AuthorsText
from triptych.reporting.claims import claims
from triptych.reporting.drawing import Drawing
from triptych.reporting.examples import examples, examples_rule
from triptych.reporting.figures import figures
from triptych.reporting.lines import all_flags
from triptych.reporting.tables.cost import clocks_table, compute_table, generation_table, training_table
from triptych.reporting.tables.outputs import checks_table, shape_table
from triptych.reporting.tables.quality import (
    further_scores_table,
    loss_table,
    quality_table,
    scaling_table,
    tests_caption,
    tests_table,
)
from triptych.reporting.tables.record import record_tables
from triptych.reporting.tables.scored import scored_record_tables, scored_tables
from triptych.reporting.tables.settings import hyper_parameters_table, runs_table, settings_table, splits_table
from triptych.reporting.tables.table import ReportTable
from triptych.results.reading import Results, SavedRun
from triptych.results.records import Comparison
from triptych.storage.given_documents import are_given
from triptych.text import formats, measures
from triptych.text.characters import map_texts, showable, to_json, unshowable

_GIVEN = "documents given in Python"


@dataclass(frozen=True)
class ReportContent:
    """The content shared by the printed report and the web page; each part is computed once, on first use.

    Attributes:
        results: the runs.
        comparison: the comparison of the same runs.
        words: the author's own texts, from `read_authors_text`.
    """

    results: Results
    comparison: Comparison
    words: AuthorsText = NOT_WRITTEN

    @cached_property
    def document(self) -> dict[str, Any]:
        """The texts and tables."""
        return report_data(self.results, self.comparison, self.words)

    @cached_property
    def drawings(self) -> dict[str, Drawing]:
        """The figures by name."""
        return figures(self.results, self.comparison)


def report_data(results: Results, comparison: Comparison, words: AuthorsText = NOT_WRITTEN) -> dict[str, Any]:
    """Everything the templates show, except the figures.

    Args:
        results: the loaded results.
        comparison: the comparison of the same results.
        words: the author's own texts, from `read_authors_text`.
    """
    given, comparison = comparison, _with_names(comparison)

    def own(text: str) -> str:
        return _typeset_apostrophes(text, (comparison.suite, comparison.model, comparison.data))

    made = claims(results, comparison)
    topics: dict[str, list[dict[str, str]]] = {}
    for claim in made:
        topics.setdefault(claim.topic, []).append({"name": claim.name, "text": own(claim.text)})
    device, num_devices = _device(results)
    files = rows.of_files(comparison)
    tables = (
        _tables_of_scored_files(results, comparison) if files else _tables(results, comparison, device, num_devices)
    )
    whole = scored_record_tables(comparison) if files else record_tables(comparison)
    document: dict[str, Any] = {
        "source": comparison.source,
        "suite": comparison.suite,
        "model": comparison.model,
        "data": comparison.data,
        "synthetic": comparison.synthetic,
        "notice": rows.synthetic_notice(comparison),
        "signature": comparison.signature or "",
        "claims": topics,
        "flags": [own(flag) for flag in all_flags(comparison)],
        "reductions": [own(sentence) for sentence in reductions(results)],
        "report": results.suite.report.model_dump(),
        "words": {"discussion": list(words.discussion), "theory": list(words.theory)},
        "examples": examples(results),
        "examples-rule": own(examples_rule(results)),
        "tables": {table.name: table.data() | {"caption": own(table.caption)} for table in tables},
        "whole": [table.data() | {"caption": own(table.caption)} for table in whole],
        "notes": _notes(results),
        "provenance": _provenance_of_files(results, given) if files else _provenance(results, given),
        "withheld": any(run.done for run in results.runs) and not any(run.predictions for run in results.runs),
    }
    replaced: set[str] = set()

    def shown(text: str) -> str:
        replaced.update(unshowable(text))
        return showable(text)

    document = map_texts(shown, document)
    document["replaced"] = _code_points(replaced)
    names = [showable(name) for name in (comparison.suite, comparison.model, comparison.data, *comparison.rows)]
    document = _isolated(document, sorted(set(filter(_is_right_to_left, names)), key=len, reverse=True))
    document["settings"] = to_json(results.suite.model_dump(mode="json"), indent=1)
    document["unprintable"] = _code_points(
        {character for character in json.dumps(document, ensure_ascii=False) if not _printable(character)}
    )
    return document


def _with_names(comparison: Comparison) -> Comparison:
    """The comparison, with the paths of model and data replaced by names."""
    data = _GIVEN if are_given(comparison.data) else corpus_name(comparison.data) or _name_of(comparison.data)
    names = {"model": _name_of(comparison.model), "data": data}
    return comparison.model_copy(update=names)


def _name_of(path: str) -> str:
    """The last part of what can only be a path; a Hub name, which also contains a slash, stays as it is."""
    if not path.startswith(("/", "./", "../", "~")) and not re.match(r"[A-Za-z]:[\\/]|\.\.?\\", path):
        return path
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def _code_points(characters: set[str]) -> str:
    return " ".join(f"U+{ord(character):04X}" for character in sorted(characters)[:12])


def reductions(results: Results) -> list[str]:
    """Sentences about how much of the data was left unused, and whether training may last ten epochs."""
    data = next((run.record.data for run in results.runs if run.record.data is not None), None)
    if data is None:
        return []
    sentences = data.sentences()
    sampled = {name: counts for name, counts in data.splits.items() if counts.not_sampled}
    if sampled:
        of = [f"{counts.used:,} of {counts.read:,} {name} pairs" for name, counts in sampled.items()]
        what = "a seeded sample" if len(of) == 1 else "seeded samples"
        sentences.append(f"{formats.listed(of)} were used: {what}, the same for every method and seed.")
    for name, counts in data.splits.items():
        if name == "train" and counts.dropped_long_summary:
            sentences.append(
                f"{counts.dropped_long_summary:,} of the {counts.read:,} {name} pairs "
                f"{formats.verb(counts.dropped_long_summary, 'was dropped because its', 'were dropped because their')} "
                f"summary is longer than {results.suite.limits.summary_tokens} tokens."
            )
        known = corpus_pairs(data, name)
        if known and counts.read < known:
            sentences.append(f"The {name} file contains {counts.read:,} of the {known:,} pairs of CNN/DailyMail 3.0.0.")
        if counts.truncated:
            sentences.append(
                f"{counts.truncated:,} of the {counts.used:,} {name} documents "
                f"{formats.verb(counts.truncated, 'was', 'were')} cut to the limit "
                f"({results.suite.limits.document_tokens} tokens, or fewer where the context window has less room)."
            )
        if counts.shortened_for_loss:
            cut = formats.number_of(counts.shortened_for_loss, f"{name} document")
            were, whose, summaries = (
                formats.verb(counts.shortened_for_loss, *forms)
                for forms in (("was", "were"), ("its", "their"), ("summary is", "summaries are"))
            )
            sentences.append(
                f"For the loss, {cut} {were} cut further, so that {whose} whole reference fits into the window; "
                f"{whose} {summaries} generated without this cut."
            )
    epochs = results.suite.training.max_epochs
    if epochs < 10 and any(run.trained for run in results.runs):
        sentences.append(
            f"Training lasts at most {formats.number_of(epochs, 'epoch')} instead of the assignment's ten."
        )
    return sentences


def _tables(results: Results, comparison: Comparison, device: str, num_devices: int) -> list[ReportTable]:
    made = [
        quality_table(comparison),
        loss_table(comparison),
        training_table(comparison),
        compute_table(comparison, device, num_devices),
        clocks_table(comparison),
        generation_table(comparison),
        shape_table(comparison),
        *([sheet] if (sheet := checks_table(comparison)) else []),
        hyper_parameters_table(results),
        settings_table(results),
        runs_table(results),
    ]
    made += [
        sheet
        for sheet in (
            splits_table(results),
            scaling_table(comparison),
            further_scores_table(comparison),
        )
        if sheet
    ]
    return made + _test_tables(comparison)


def _tables_of_scored_files(results: Results, comparison: Comparison) -> list[ReportTable]:
    further = further_scores_table(comparison)
    return [*scored_tables(results, comparison), *([further] if further else []), *_test_tables(comparison)]


def _test_tables(comparison: Comparison) -> list[ReportTable]:
    """Tables of the paired tests on the primary and second measures, and on the secondary ones; empty without tests."""
    tested = {test.metric for test in comparison.tests}
    primary = comparison.primary_measure
    first = [measure for measure in dict.fromkeys((primary, "rouge1", "loss")) if measure in tested]
    others = [measure for measure in measures.HEADINGS if measure in tested and measure not in first]
    made = [tests_table(comparison, first, "tests", tests_caption(comparison, first))] if first else []
    if others:
        made.append(tests_table(comparison, others, "tests-others", tests_caption(comparison, others, secondary=True)))
    return made


def _device(results: Results) -> tuple[str, int]:
    for run in results.runs:
        if run.record.provenance is not None and run.trained:
            number = run.record.provenance.hardware.get("num_processes", 1)
            return run.record.provenance.device.split(":")[0], number if isinstance(number, int) and number > 0 else 1
    return "cpu", 1


def _notes(results: Results) -> list[dict[str, str]]:
    """The methods' own notes, from the first finished run of each method."""
    return [
        {"label": label, "text": text}
        for label in results.labels
        for run in results.of(label)[:1]
        if (text := "; ".join(line for name, value in run.record.notes.items() if (line := _note(name, value))))
    ]


def _note(name: str, value: Any) -> str:
    """A note in words; empty if other sentences say it."""
    if name == "trunk_cache" and isinstance(value, dict):  # its cost is reported with the costs
        return (
            f"the output of the first {value['first_block']} blocks is read from a cache"
            if value.get("first_block")
            else ""
        )
    if name in ("sharding", "prompt", "warnings"):  # among the limits of the results and the method's options
        return ""
    if name in ("recomputed_blocks", "restarted"):
        return str(value)
    if name == "target_modules" and isinstance(value, list):
        kinds = Counter(str(target).rpartition(".")[2] for target in value)
        return "adapted weights: " + ", ".join(f"{number} × {kind}" for kind, number in kinds.items())
    if name == "nearest_tokens" and isinstance(value, list):
        return "vocabulary items nearest to the virtual tokens: " + " ".join(f"“{token}”" for token in value)
    if name in ("distance_moved", "initial_norm") and isinstance(value, (int, float)):
        what = (
            "mean distance moved by a virtual token"
            if name == "distance_moved"
            else "mean initial norm of a virtual token"
        )
        return f"{what}: {value:.3g}"
    return f"{name.replace('_', ' ')}: {_plain(value)}"


def _typeset_apostrophes(text: str, names: Sequence[str]) -> str:
    """Use typographic apostrophes, except in external names, which stay as they are."""
    pieces = re.split("(" + "|".join(map(re.escape, sorted(filter(None, names), key=len, reverse=True))) + ")", text)
    return "".join(piece if place % 2 else re.sub(r"(?<=\w)'", "’", piece) for place, piece in enumerate(pieces))


def _command(run: SavedRun) -> str:
    """A run's command with placeholders for its label and seed, so that all runs of a suite have the same command."""
    record = run.record
    command = record.provenance.command if record.provenance is not None else ""
    return command.replace(f" train {record.label} ", " train LABEL ").replace(
        f"--seeds {record.seed} ", "--seeds SEED "
    )


_MEMORY_KINDS = {
    "allocated": "memory handed out by the device's allocator",
    "anonymous": "memory of the process not backed by files (RssAnon + RssShmem)",
    "unique": "pages of the process not shared with others (USS)",
    "resident": "all resident pages of the process, including mapped files (RSS)",
}


def _provenance(results: Results, comparison: Comparison) -> list[dict[str, str]]:
    """What the numbers depend on; each item is given once, with all its values if runs differ."""
    known = [run.record.provenance for run in results.runs if run.record.provenance is not None]
    data = dict.fromkeys(run.record.data.fingerprint for run in results.runs if run.record.data is not None)
    commits = [run.record.data.commit for run in results.runs if run.record.data and run.record.data.commit]
    kinds = dict.fromkeys(run.record.cost.peak_memory_kind for run in results.runs if run.record.cost.peak_memory_kind)
    energy = dict.fromkeys(
        run.record.cost.energy_note for run in results.runs if run.trained and run.record.cost.energy_note
    )

    def every(values: Any) -> str:
        found = dict.fromkeys(_plain(value) for value in values)
        return "; ".join(found) or "not recorded"

    pairs = [
        *([("Command", results.command)] if results.command else []),
        ("A single run", every(_command(run) for run in results.runs if run.record.provenance is not None)),
        (
            "Commit",
            every(formats.commit(one.commit, one.dirty) for one in known),
        ),
        ("Model", every(one.model for one in known) + _quantized(results)),
        ("Model fingerprint", every(one.model_fingerprint for one in known if one.model_fingerprint)),
        ("Data", comparison.data),
        *([("Data commit", every(commits))] if commits else []),
        ("Data fingerprint", every(data)),
        ("Device and precision", every(f"{one.device}, {one.precision}" for one in known)),
        ("Hardware", every(_hardware(one.hardware) for one in known)),
        ("Versions", every(one.versions for one in known)),
        ("ROUGE", comparison.signature or "not recorded"),
        ("Peak memory is", every(_MEMORY_KINDS.get(kind, kind) for kind in kinds)),
        ("Energy", every(energy) if energy else "see the table"),
    ]
    return [{"key": key, "text": text} for key, text in pairs]


def _hardware(hardware: dict[str, Any]) -> str:
    """The machine in words: sizes in GB."""
    return ", ".join(
        f"{name.removesuffix('_bytes').removeprefix('num_').replace('_', ' ')} "
        f"{formats.quantity(value, 'bytes') if name.endswith('_bytes') else _plain(value)}"
        for name, value in hardware.items()
    )


def _quantized(results: Results) -> str:
    """How the base model is stored if it is quantized."""
    kind = results.suite.model_quantization
    return "" if kind == "none" else f", model_quantization = {kind}"


def _provenance_of_files(results: Results, comparison: Comparison) -> list[dict[str, str]]:
    assert results.files is not None
    scored = results.files
    signatures = {name: text for run in results.runs for name, text in run.record.signatures.items() if name != "rouge"}
    pairs = [
        ("Command", scored.command),
        ("Time", scored.time),
        ("Joined by", scored.joined_by),
        ("Versions", _plain(scored.versions)),
        ("ROUGE", comparison.signature or "not recorded"),
        *signatures.items(),
    ]
    return [{"key": key, "text": text} for key, text in pairs]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def _is_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)


def _isolated(value: Any, names: list[str]) -> Any:
    """Isolate right-to-left names within a sentence, so that numbers after them stay in place."""
    if isinstance(value, str):
        for name in names if value not in names else ():
            value = value.replace(name, f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}")
        return value
    if isinstance(value, dict):
        return {key: _isolated(item, names) for key, item in value.items()}
    return [_isolated(item, names) for item in value] if isinstance(value, list) else value


def _printable(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf") or ord(character) in _glyphs()


@cache
def _glyphs() -> frozenset[int]:
    """The characters that the printed report can show: the glyphs of its last fallback font."""
    return frozenset(FT2Font(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf").get_charmap())
