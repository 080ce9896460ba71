"""Find the columns with documents, summaries and ids, and read their cells."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.config.reading import as_setting
from triptych.config.schema import Columns
from triptych.errors import DataError, shorten

DOCUMENT_NAMES = (
    "document",
    "article",
    "text",
    "dialogue",
    "source",
    "content",
    "body",
    "story",
    "description",
    "main_text",
    "full_text",
    "article_text",
)
SUMMARY_NAMES = ("summary", "highlights", "abstract", "target", "tldr", "abstract_text")
ID_NAMES = ("id", "guid", "uid", "document_id", "article_id", "dialogue_id")
_LONGEST = 100  # characters; longer names are neither recognized nor suggested
_QUOTED = 40  # maximum characters of a name or cell in a message
MAX_COLUMNS = 10_000  # more cannot be a table, and comparing their names would take hours
_NOT_TEXT = frozenset(
    (  # last words of column names that identify, locate or date a document
        "id",
        "ids",
        "guid",
        "uid",
        "uuid",
        "key",
        "url",
        "uri",
        "link",
        "href",
        "doi",
        "isbn",
        "index",
        "idx",
        "no",
        "nr",
        "num",
        "number",
        "count",
        "len",
        "length",
        "hash",
        "md",
        "sha",
        "date",
        "time",
        "timestamp",
        "year",
        "author",
        "authors",
        "file",
        "filename",
        "fname",
        "path",
        "lang",
        "language",
        "split",
        "label",
        "category",
        "unnamed",
    )
)
_MARKED = re.compile(r"\s*<S>(.*)</S>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column is read as what; without `id`, ids are made from split and row number."""

    id: str | None
    document: str
    summary: str

    def as_names(self) -> dict[str, str]:
        """The columns by role; no id if there is no id column."""
        found = {"document": self.document, "summary": self.summary}
        return found if self.id is None else {**found, "id": self.id}


def recognize(names: Sequence[str], columns: Columns, where: str, remark: str = "") -> Roles:
    """Find the document and summary columns by the given names, else by their usual names.

    Usual names match regardless of spaces, hyphens, underscores and case.

    Args:
        names: the existing columns.
        columns: names given by the user, which must match exactly.
        where: the file or data set, for messages.
        remark: what else may be wrong with a file of this format; shown if a column is missing and none is likely.

    Raises:
        DataError: a column is absent, ambiguous or duplicated; the message lists the columns.
    """
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{where}: {len(names):,} columns are more than the {MAX_COLUMNS:,} that are read. Drop some.")
    document = _pick("document", columns.document, DOCUMENT_NAMES, names, where, taken=columns.summary)
    summary = _pick("summary", columns.summary, SUMMARY_NAMES, names, where, taken=document)
    if document is None or summary is None:
        raise DataError(_missing(names, document, summary, where, remark))
    if document == summary:
        raise DataError(f"{where}: column {document!r} cannot be both document and summary.")
    key: str | None
    if columns.id is not None:
        key = _pick("id", columns.id, ID_NAMES, names, where, taken=None)
    else:
        key = usual_id(names, (document, summary))
    check_single(names, [name for name in (document, summary, key) if name is not None], where)
    return Roles(key, document, summary)


def usual_id(names: Sequence[str], taken: Sequence[str]) -> str | None:
    """The id column by its usual name: the first of `ID_NAMES` that exists and has no other role."""
    known = {_plain(name): name for name in reversed(usual(names, ID_NAMES)) if name not in taken}
    return next((known[_plain(name)] for name in ID_NAMES if _plain(name) in known), None)


def usual(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names that are among the usual ones, such as `DOCUMENT_NAMES`, in their given order."""
    plain = {_plain(name) for name in known}
    return [name for name in names if len(name) <= _LONGEST and _plain(name) in plain]


def check_single(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Check that each column to read exists only once.

    Raises:
        DataError: several columns have the same name.
    """
    for name in wanted:
        if list(names).count(name) > 1:
            raise DataError(f"{where}: there are several columns named {shorten(name, _QUOTED)!r}. Rename all but one.")


def text_cell(value: Any, column: str, where: str, option: str) -> str:
    """A cell as text; null becomes the empty string, and a list of texts is joined (see `joined`).

    Args:
        value: the cell.
        column: the name of its column, for the message.
        where: the file and row, for the message.
        option: the option that names another column, for the message.

    Raises:
        DataError: the cell contains something other than text.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    text = joined(value)
    if text is None:
        raise DataError(
            f"{where}: column {column!r} holds {shorten(repr(value), _QUOTED)} ({type(value).__name__}), but text is "
            f"needed. Convert it to a string, or name another column with {option}=NAME."
        )
    return text


def summary_cell(value: Any, document: Any, column: str, where: str, option: str) -> str:
    """A summary cell as text, read like `text_cell`, except that several references of a document are not joined.

    Args:
        value: the cell.
        document: the document's cell in the same row. If it is also a list, the table stores texts as lists.
        column: see `text_cell`.
        where: see `text_cell`.
        option: see `text_cell`.

    Raises:
        DataError: the cell contains something other than text, or several texts while the document is one text.
    """
    if isinstance(value, list | tuple) and isinstance(document, str):
        entries = [item for item in value if item is not None]
        if len(entries) > 1:
            raise DataError(
                f"{where}: column {column!r} holds a list of {len(entries)}, and the document is one text. One "
                "summary for each document is needed: if these are several references, keep one (the first, say) as "
                f"a text in a separate column, named with {option}=NAME; if they are one summary cut into "
                "sentences, join them with line breaks."
            )
    return text_cell(value, column, where, option)


def joined(value: Any) -> str | None:
    """Join a list of texts into one text; None if the value is something else.

    Sentences or paragraphs are joined by line breaks and words (texts without spaces) by spaces; a list of words is a
    sentence. `<S>` and `</S>` around every text, as in the arXiv and PubMed data sets, are removed.
    """
    made = _join(value)
    return made[0] if made else None


def _join(value: Any) -> tuple[str, str] | None:
    """A list of texts as one text, and the separator that joins its parts."""
    if not isinstance(value, list | tuple):
        return None
    items = [item for item in value if item is not None]
    if items and all(isinstance(item, list | tuple) for item in items):
        if not all(isinstance(word, str) for item in items for word in item):
            return None
        return "\n".join(" ".join(item) for item in items), "line breaks"
    if not all(isinstance(item, str) for item in items):
        return None
    marked = [_MARKED.fullmatch(item) for item in items]
    texts = [match[1].strip() for match in marked if match] if all(marked) else items
    words = len(texts) > 1 and not any(re.search(r"\s", text) for text in texts)
    return (" " if words else "\n").join(texts), "spaces" if words else "line breaks"


def list_notes(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    """Sentences about columns that contain lists.

    Args:
        pairs: column names, each with its cell in the first row.
    """
    columns: dict[str, list[str]] = {}
    for column, value in pairs:
        made = _join(value)
        if made:
            columns.setdefault(made[1], []).append(repr(shorten(column, _QUOTED)))
    return [
        f"Lists in {' and '.join(names)} are read as one text each, their parts joined by {joint}; a list of several "
        "summaries to choose from is not supported."
        for joint, names in columns.items()
    ]


def id_cell(value: Any, split: str, row: int, where: str) -> str:
    """A cell as an id; if it is empty, an id is made from the split and the row number, counted from 1.

    Raises:
        DataError: the cell is neither text nor a whole number.
    """
    if value is None or value == "":
        return f"{split}-{row}"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: the id is {shorten(repr(value), _QUOTED)}; text or a whole number is needed.")
    return str(value)


def _pick(
    role: str, given: str | None, known: Sequence[str], names: Sequence[str], where: str, taken: str | None
) -> str | None:
    """The column for a role; None if none is known."""
    if given is not None:
        if given not in names:
            close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DataError(f"{where}: there is no column {given!r} (columns.{role}).{hint} {_listed(names)}")
        return given
    candidates = [name for name in usual(names, known) if name != taken]
    if len(set(candidates)) > 1:
        raise DataError(
            f"{where}: the {role} could be any of {', '.join(map(repr, candidates))}. "
            f"Say which: --set {as_setting(f'columns.{role}', candidates[0])}. {_listed(names)}"
        )
    return candidates[0] if candidates else None


def _missing(names: Sequence[str], document: str | None, summary: str | None, where: str, remark: str) -> str:
    """The message for missing columns: all of them at once, with the most likely names."""
    settings, guessed = [], True
    free = [
        name for name in names if name not in (document, summary) and len(name) <= _LONGEST and not _is_no_text(name)
    ]
    suggestions: dict[str, str | None] = {}
    for role, present, known, other in (
        ("summary", summary, SUMMARY_NAMES, DOCUMENT_NAMES),
        ("document", document, DOCUMENT_NAMES, SUMMARY_NAMES),
    ):
        if present is None:
            suggestions[role] = _likeliest(free, known, other)
            free = [name for name in free if name != suggestions[role]]
    for role in ("document", "summary"):
        if role in suggestions:
            if suggestions[role] is None and len(free) == 1:
                suggestions[role] = free.pop()
            guessed = guessed and suggestions[role] is not None
            settings.append(as_setting(f"columns.{role}", suggestions[role] or "NAME"))
    missing = "document, and none to hold the summary" if len(suggestions) == 2 else next(iter(suggestions))
    remedy = _separated_otherwise(names)
    if not remedy:
        remedy = f"Name {'them' if len(suggestions) == 2 else 'it'}: --set {' '.join(settings)}."
        remedy += f" {remark}" if remark and not guessed else ""
    return f"{where}: no column is known to hold the {missing}. {_listed(names)} {remedy}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return f"Its columns: {', '.join(shorten(name, _QUOTED) for name in names[:20])}{more}."


def _separated_otherwise(names: Sequence[str]) -> str:
    """The message for a header with a single column, if its columns use another separator."""
    if len(names) != 1:
        return ""
    if "\t" in names[0]:
        return "Its columns are separated by tabs: name the file .tsv."
    if names[0].casefold().startswith("sep="):
        return "Its first line is a note of Excel's on separators, not the header: delete that line."
    for sign in ";|":
        if sign in names[0]:
            return (
                f'Columns must be separated by commas, not by {sign!r}. Convert the file: python -c "import pandas; '
                f"pandas.read_csv('OLD.csv', sep='{sign}', dtype=str, keep_default_na=False).to_csv('NEW.csv', "
                'index=False)".'
            )
    return "Its columns are separated by commas: name the file .csv." if "," in names[0] else ""


def _likeliest(free: Sequence[str], known: Sequence[str], other: Sequence[str]) -> str | None:
    """The name that is most likely meant: one of its words is a usual name, or it is spelled almost like one."""
    scores = {name: _likeness(name, known) - 0.5 * (_likeness(name, other) >= 1) for name in free}
    likeliest = max(scores, key=lambda name: scores[name], default=None)
    if likeliest is None or scores[likeliest] < 0.6 or list(scores.values()).count(scores[likeliest]) > 1:
        return None
    return likeliest


def _likeness(name: str, known: Sequence[str]) -> float:
    words = _words(name)
    hits = sum(word in known for word in words)
    return hits or max(difflib.SequenceMatcher(None, _plain(name)[:40], _plain(usual)).ratio() for usual in known)


def _is_no_text(name: str) -> bool:
    """Whether a column name says that the column identifies, locates or dates a document."""
    words = _words(name)
    if not words:
        return not name.strip()
    things = (*DOCUMENT_NAMES, *SUMMARY_NAMES, "doc", "news")
    glued = any(words[-1] == f"{thing}{ending}" for thing in things for ending in ("id", "url"))
    return glued or words[-1] in _NOT_TEXT


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()) if word]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())
