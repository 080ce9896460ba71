"""Read predictions written by other tools from tables or plain text, and join them by document.

Formats, recognized by their columns:

    a table (CSV, TSV, JSON lines, Parquet)   id, prediction, reference, document, or other usual names for these
    lm-evaluation-harness, `--log_samples`    doc_id, doc, target, filtered_resps
    LLaMA-Factory, generated_predictions      prompt, predict, label
    `triptych summarize --json`               id, label, run, summary
    anything else, such as `generated_predictions.txt` of transformers: one prediction per line
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triptych.config.schema import Section
from triptych.datasets import tables
from triptych.errors import DataError, nearest, shorten
from triptych.storage.files import digest, expand_path
from triptych.text import formats

PREDICTION_NAMES = (
    "prediction",
    "predictions",
    "predicted",
    "predict",
    "pred",
    "preds",
    "predicted_summary",
    "summary_pred",
    "pred_summary",
    "generated",
    "generated_text",
    "generated_summary",
    "generation",
    "hypothesis",
    "hyp",
    "candidate",
    "candidate_summary",
    "output",
    "model_output",
    "system_output",
    "system_summary",
    "summary_text",
    "response",
    "completion",
)
REFERENCE_NAMES = (
    "reference",
    "references",
    "ref",
    "reference_summary",
    "reference_text",
    "label",
    "labels",
    "target",
    "target_text",
    "target_summary",
    "gold",
    "gold_summary",
    "gold_standard",
    "ground_truth",
    "highlights",
    "summary",
    "abstract",
    "tldr",
)
PREDICTION_ID_NAMES = (*tables.ID_NAMES, "doc_id", "example_id", "sample_id")
HARNESS = {"doc_id", "doc", "target", "filtered_resps"}
SUMMARIZE = {"id", "label", "run", "summary"}
_NUMBER = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?%?\s*")


class PredictionColumns(Section):
    """Columns by role; a role without a name, or whose column a file lacks, is recognized by usual names."""

    id: str | None = None
    prediction: str | None = None
    reference: str | None = None
    document: str | None = None


USUAL = PredictionColumns()


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a file; None if there is no such column, or its cell is empty and not a prediction."""

    where: str
    id: str | None
    prediction: str
    reference: str | None
    document: str | None


@dataclass(frozen=True, slots=True)
class Lines:
    """A file's rows in order, with notes for the reader.

    Attributes:
        digest: SHA-256 of the file.
        columns: its column names; empty for plain text.
        notes: full sentences on how it was read, if that is not obvious.
    """

    path: Path
    digest: str
    rows: tuple[Line, ...]
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_ids(self) -> bool:
        """Whether every row has an id."""
        return self.rows[0].id is not None

    @property
    def has_references(self) -> bool:
        """Whether any row has a reference."""
        return any(row.reference is not None for row in self.rows)


@dataclass(frozen=True, slots=True)
class Joined:
    """The same documents for every system.

    Attributes:
        ids, references: one for each document.
        documents: their texts; all None if no file has all of them.
        predictions: by system, for each set of its predictions (a seed, a run), the text for each document.
        notes: full sentences on what was left out or does not agree.
        by_order: whether the files were joined by the order of their rows.
    """

    ids: tuple[str, ...]
    references: tuple[str, ...]
    documents: tuple[str | None, ...]
    predictions: dict[str, list[tuple[str, ...]]]
    notes: tuple[str, ...]
    by_order: bool


def read_prediction_file(
    source: str, columns: PredictionColumns = USUAL, *, references: bool = False, elsewhere: bool = False
) -> Lines:
    """Read a file of predictions or references.

    Args:
        source: the file.
        columns: column names other than the usual ones; columns that the file lacks are sought by usual names.
        references: whether the file holds references, so that predictions are not needed.
        elsewhere: whether references come from another file.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or malformed; or lacks a required column, has duplicate or
            missing ids, or cells that are not text.
    """
    path = expand_path(source)
    if path.is_dir():
        raise DataError(f"{source!r} is a folder: name a file in it.")
    if not path.is_file():
        raise DataError(f"There is no file {source!r}.")
    notes: list[str] = []
    names: list[str] = []
    if tables.is_table(path):
        names = tables.column_names(path)
        rows = tuple(_table(path, names, columns, references, elsewhere, notes))
    else:
        rows = tuple(_text(path, references))
    if not rows:
        raise DataError(f"{path} has column names but no rows: there is nothing to score.")
    _check_ids(path, rows)
    if not references:
        _check_texts(path, rows)
    return Lines(path, digest(path), rows, tuple(names), tuple(notes))


def check_named(columns: PredictionColumns, systems: Sequence[Lines], references: Lines | None) -> None:
    """Check that each named column is in at least one file; for predictions, in a file of a system.

    Raises:
        DataError: a named column is in none.
    """
    for role, given in columns:
        files = [*systems, *([references] if references is not None and role != "prediction" else [])]
        names = dict.fromkeys(name for lines in files for name in lines.columns)
        if given is not None and given not in names:
            raise DataError(
                f"No file has a column {shorten(repr(given))} (--columns {role}).{nearest(given, list(names)[:20])}"
            )


# One file


def _text(path: Path, references: bool) -> Iterator[Line]:
    """One text per line. An empty line is an empty text; a final line end does not start another."""
    for number, line in enumerate(tables.read_lines(path), 1):
        text = line.rstrip("\r\n")
        yield Line(
            f"{path}, line {number}", None, "" if references else text, (text or None) if references else None, None
        )


@dataclass(frozen=True, slots=True)
class _Roles:
    """The column of each role."""

    prediction: str | None
    reference: str | None
    id: str | None
    document: str | None


_HARNESS_ROLES = _Roles("filtered_resps", "target", "doc_id", "doc")


def _named(roles: _Roles, columns: PredictionColumns, names: Sequence[str]) -> _Roles:
    """The roles of a known layout, with those columns in their place that the user named and the file has."""
    own = {role: name for role in ("reference", "id", "document") if (name := getattr(columns, role)) in names}
    return replace(roles, **own)


def _table(
    path: Path, names: Sequence[str], columns: PredictionColumns, references: bool, elsewhere: bool, notes: list[str]
) -> Iterator[Line]:
    harness = set(names) >= HARNESS and columns.prediction not in names
    roles = _named(_HARNESS_ROLES, columns, names) if harness else None
    roles = roles or _roles(path, names, columns, references, elsewhere, notes)
    wanted = {role: name for role in ("prediction", "reference", "id", "document") if (name := getattr(roles, role))}
    tables.check_single(names, list(wanted.values()), str(path))
    for number, (where, found) in enumerate(tables.read_cells(path, list(wanted.values())), 1):
        cells = dict(zip(wanted, found, strict=True))
        document = cells.get("document")
        if harness:
            cells["prediction"] = "" if references else _single_response(cells["prediction"], where)
            document = document if columns.document in names else _document_in(document)
        yield Line(
            where,
            tables.id_cell(key, "row", number, where) if (key := cells.get("id")) not in (None, "") else None,
            _cell(cells.get("prediction"), "prediction", roles.prediction, where),
            _cell(cells.get("reference"), "reference", roles.reference, where) or None,
            (document or None) if isinstance(document, str) else None,
        )


def _cell(value: Any, role: str, column: str | None, where: str) -> str:
    if isinstance(value, list):
        several = "an n-best list" if role == "prediction" else "several references"
        raise DataError(
            f"{where}: column {column!r} holds a list ({several}), but one text is needed. Choose one for each "
            "document before it is scored, the same way for every system."
        )
    return tables.text_cell(value, column or "", where, f"--columns {role}")


def _single_response(value: Any, where: str) -> Any:
    """The text in `filtered_resps`, which is a list with an answer to each request for a document."""
    if not isinstance(value, list):
        return value
    if len(value) == 1:
        return value[0]
    raise DataError(
        f"{where}: filtered_resps holds {len(value)} answers, but a generated summary is one. Is this a "
        "multiple-choice task? Score the samples file of a task that generates text."
    )


def _document_in(value: Any) -> Any:
    """The document in the harness's `doc`, by its usual names, if there is only one."""
    if not isinstance(value, dict):
        return None
    found = [text for name, text in value.items() if _plain(name) in tables.DOCUMENT_NAMES and isinstance(text, str)]
    return found[0] if len(found) == 1 else None


def _roles(
    path: Path, names: Sequence[str], columns: PredictionColumns, references: bool, elsewhere: bool, notes: list[str]
) -> _Roles:
    usual = any(_plain(name) in PREDICTION_NAMES for name in names)
    if set(names) >= SUMMARIZE and not usual and not references and columns.prediction not in names:
        return _named(_Roles("summary", None, "id", None), columns, names)
    prediction = None if references else _pick("prediction", columns.prediction, PREDICTION_NAMES, names, (), path)
    reference = _pick("reference", columns.reference, REFERENCE_NAMES, names, (prediction,), path)
    if not references and prediction is None and elsewhere and reference is not None and columns.reference != reference:
        # `id, summary` next to a file of references: the summaries are those of the system.
        notes.append(
            f"{path.name}: the column {reference!r} was read as the predictions, since there is no other and "
            "references come from another file."
        )
        prediction, reference = reference, None
    needed, role = (reference, "reference") if references else (prediction, "prediction")
    if needed is None:
        known = REFERENCE_NAMES if references else PREDICTION_NAMES
        given = columns.reference if references else columns.prediction
        if given is not None:
            raise DataError(
                f"{path}: there is no column {given!r} (--columns {role}), and none with a usual name."
                f"{nearest(given, names[:20])} If files name it differently, call it {known[0]!r} in one of them."
            )
        raise DataError(
            f"{path}: no column is known to hold the {role}s. Its columns: {_listed(names)}. Name it: --columns "
            f"{role}=NAME. Usual names: {', '.join(known[:8])}, ..."
        )
    taken = (prediction, reference)
    key = _pick("id", columns.id, PREDICTION_ID_NAMES, names, taken, path, first=True)
    document = _pick("document", columns.document, tables.DOCUMENT_NAMES, names, (*taken, key), path, first=True)
    return _Roles(prediction, reference, key, document)


def _pick(
    role: str,
    given: str | None,
    known: Sequence[str],
    names: Sequence[str],
    taken: Sequence[str | None],
    path: Path,
    first: bool = False,
) -> str | None:
    """The column of a role: the named one, else the one with the plainest name, else the only one with a usual name.

    A named column that is missing here belongs to another file: `check_named` makes sure of that.

    Args:
        role: prediction, reference, document or id.
        given: the column named by the user, or None.
        known: its usual names.
        names: the columns of the file.
        taken: columns of other roles.
        path: the file, for the message.
        first: take the first of several usual names instead of refusing them.
    """
    if given in names:
        return given
    found = [name for usual in known for name in names if _plain(name) == usual and name not in taken]
    if len(found) > 1 and not first and _plain(found[0]) != known[0]:
        absent = f"there is no column {given!r} (--columns {role}), and " if given is not None else ""
        remedy = f"Call the right one {known[0]!r}." if absent else f"Say which: --columns {role}={found[0]}."
        raise DataError(f"{path}: {absent}the {role} could be any of {', '.join(map(repr, found))}. {remedy}")
    return found[0] if found else None


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().casefold())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shorten(name) for name in names[:20])


def _check_ids(path: Path, rows: Sequence[Line]) -> None:
    """Check that all or no rows have ids, and that no two are equal."""
    without = next((row for row in rows if row.id is None), None)
    if without is not None:
        with_id = next((row for row in rows if row.id is not None), None)
        if with_id is not None:
            raise DataError(f"{without.where}: there is no id, but {with_id.where} has one. Give all rows one or none.")
        return
    seen: dict[str | None, str] = {}
    for row in rows:
        if row.id in seen:
            raise DataError(
                f"{row.where}: the id {shorten(repr(row.id))} is also that of {seen[row.id]}. One prediction for each "
                "document is needed: keep one of several filters, runs or beams (another run is another NAME=FILE with "
                "the same NAME)."
            )
        seen[row.id] = row.where


def _check_texts(path: Path, rows: Sequence[Line]) -> None:
    """Refuse predictions that are all numbers or lists: the wrong column, or wrongly written."""
    texts = [row.prediction for row in rows if row.prediction.strip()]
    if texts and all(_NUMBER.fullmatch(text) for text in texts):
        raise DataError(
            f"{path}: every prediction is a number, such as {texts[0].strip()[:40]!r}. Token ids or scores are not "
            "texts: name the column of the texts with --columns prediction=NAME."
        )
    if texts and all(text.strip().startswith(("['", '["')) and text.strip().endswith("]") for text in texts):
        raise DataError(
            f"{path}: every prediction is written as a list, such as {texts[0].strip()[:40]!r}... (an n-best list): "
            "one text for each document is needed. Choose one before it is scored."
        )


# Several files


def join_predictions(
    systems: Mapping[str, Sequence[Lines]], references: Lines | None, by_order: bool = False
) -> Joined:
    """Align all systems on the same documents in the same order.

    Files are joined by id if all have ids, on the ids that all share; else by order, if all have the same number of
    rows. All systems are scored against the same references: those in `references`, else in the first file with any.

    Args:
        systems: by name, a file for each set of its predictions.
        references: the file with references, if there is one.
        by_order: join by order even if there are ids.

    Raises:
        DataError: the files have no document in common, cannot be matched, or have no references.
    """
    everything = [*(lines for files in systems.values() for lines in files), *([references] if references else [])]
    source = references or next((lines for lines in everything if lines.has_references), None)
    if source is None or not source.has_references:
        raise DataError(
            "There are no references: "
            f"{'the reference file is empty' if references else 'no file has a column of them'}. Give --references "
            "FILE, or a column named reference, or name it with --columns reference=NAME."
        )
    notes: list[str] = [sentence for lines in everything for sentence in lines.notes]
    ordered = by_order or not all(lines.has_ids for lines in everything)
    matched = _by_order(everything, by_order, notes) if ordered else _by_id(everything, source, notes)
    rows = matched[everything.index(source)]
    kept = [place for place, row in enumerate(rows) if row.reference is not None and row.reference.strip()]
    if len(kept) < len(rows):
        empty = len(rows) - len(kept)
        what = formats.verb(empty, "has an empty reference and is", "have an empty reference and are")
        notes.append(f"{empty:,} of {len(rows):,} documents {what} left out.")
    matched = [[lines[place] for place in kept] for lines in matched]
    rows = matched[everything.index(source)]
    _compare_references(everything, matched, source, ordered, notes)
    ids = next(
        (lines for lines, found in zip(matched, everything, strict=True) if found.has_ids and not by_order), None
    )
    queue = iter(matched)
    predictions = {
        name: [tuple(row.prediction for row in next(queue)) for _ in files] for name, files in systems.items()
    }
    holder = max((rows, *matched), key=lambda lines: sum(row.document is not None for row in lines))
    known = sum(row.document is not None for row in holder)
    if 0 < known < len(holder):
        what = formats.verb(
            len(holder) - known, "has no text, so copying from it", "have no text, so copying from them"
        )
        notes.append(f"{len(holder) - known:,} of {len(holder):,} documents {what} is not measured.")
    return Joined(
        tuple(str(row.id) for row in ids) if ids else tuple(str(place + 1) for place in kept),
        tuple(str(row.reference) for row in rows),
        tuple(row.document if known == len(holder) else None for row in holder),
        predictions,
        tuple(notes),
        ordered,
    )


def _by_order(everything: Sequence[Lines], asked: bool, notes: list[str]) -> list[list[Line]]:
    first = everything[0]
    for lines in everything[1:]:
        if len(lines.rows) != len(first.rows):
            how = "--by-order was given" if asked else "not all files have ids"
            raise DataError(
                f"{first.path} has {len(first.rows):,} rows and {lines.path} has {len(lines.rows):,}, and {how}, so "
                "the rows cannot be matched. Give every file a column id. (A line break within a prediction of a "
                "plain text file splits it in two.)"
            )
    with_ids = [lines for lines in everything if lines.has_ids]
    for lines in with_ids[1:] if not asked else []:
        if any(a.id != b.id for a, b in zip(with_ids[0].rows, lines.rows, strict=True)):
            without = next(other for other in everything if not other.has_ids)
            raise DataError(
                f"{with_ids[0].path} and {lines.path} have different ids in the same rows, and {without.path} has "
                "none, so its rows cannot be matched. Give it a column id."
            )
    if len(everything) > 1:
        why = "as asked" if asked else "not all have ids"
        notes.append(f"The files were joined by the order of their rows ({why}; all have {len(first.rows):,}).")
    return [list(lines.rows) for lines in everything]


def _by_id(everything: Sequence[Lines], source: Lines, notes: list[str]) -> list[list[Line]]:
    tables_by_id = [{row.id: row for row in lines.rows} for lines in everything]
    common = set(tables_by_id[0]).intersection(*tables_by_id[1:])
    if not common:
        a, b = _strangers(everything, tables_by_id)
        raise DataError(
            f"{a.path} and {b.path} have no id in common: the first ids are {shorten(repr(a.rows[0].id))} and "
            f"{shorten(repr(b.rows[0].id))}. Give both the same documents under the same ids; if their rows are in the "
            "same order, use --by-order."
        )
    order = [row.id for row in source.rows if row.id in common]
    for lines in everything:
        left = len(lines.rows) - len(common)
        if left:
            notes.append(
                f"{lines.path.name} has {formats.number_of(len(lines.rows), 'document')}, of which {left:,} "
                f"{formats.verb(left, 'is', 'are')} not in every file: only documents that all files have "
                f"({len(common):,}) are scored and tested."
            )
    return [[found[key] for key in order] for found in tables_by_id]


def _strangers(everything: Sequence[Lines], tables_by_id: Sequence[Mapping[Any, Line]]) -> tuple[Lines, Lines]:
    """Two files that share no id; the first and the last if every two share some."""
    for place, first in enumerate(tables_by_id):
        for other in range(place + 1, len(tables_by_id)):
            if first.keys().isdisjoint(tables_by_id[other]):
                return everything[place], everything[other]
    return everything[0], everything[-1]


def _compare_references(
    everything: Sequence[Lines], matched: Sequence[Sequence[Line]], source: Lines, ordered: bool, notes: list[str]
) -> None:
    """Note files with other references; if most differ, refuse them as not being about the same documents.

    Raises:
        DataError: most references of a file differ from those used.
    """
    used = [" ".join(str(row.reference).split()) for row in matched[everything.index(source)]]
    for lines, rows in zip(everything, matched, strict=True):
        if lines is source or not lines.has_references:
            continue
        own = [" ".join((row.reference or "").split()) for row in rows]
        different = [place for place, pair in enumerate(zip(own, used, strict=True)) if pair[0] != pair[1]]
        if len(different) > len(used) / 2:
            why = (
                "joined by order, these files are not of the same documents in the same order. Give both a column id."
                if ordered
                else "the same ids are not the same documents, or one file has references of another kind. Give both "
                f"the same ids, or leave the column of references out of {lines.path.name}."
            )
            raise DataError(
                f"{rows[different[0]].where}: the reference is not that of "
                f"{matched[everything.index(source)][different[0]].where}, and the same is true in "
                f"{len(different):,} of {len(used):,} {'rows' if ordered else 'documents'}: {why}"
            )
        if different:
            notes.append(
                f"The references of {lines.path.name} differ from those of {source.path.name} in {len(different):,} of "
                f"{len(used):,} documents (first: {rows[different[0]].where}); all systems are scored against those of "
                f"{source.path.name}."
            )
