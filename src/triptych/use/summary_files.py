"""Write summaries to a file: a line per document with its id, its own columns and a summary by each run."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError, ResultsError
from triptych.storage.files import replacing, sweep_of
from triptych.use.documents import Documents, GivenDocument
from triptych.use.summarizers import CHUNK, Summary, Trained

ID = "id"


def check_file(file: Path, overwrite: bool = False) -> None:
    """Check that summaries can be written to a file, before a model is loaded.

    Raises:
        ConfigError: its name does not end with .csv or .jsonl.
        ResultsError: it exists and must not be replaced, or is a folder.
    """
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise ConfigError(f"--out {str(file)!r}: a file that ends with .csv or .jsonl is needed.")
    if file.is_dir() or (file.exists() and not overwrite):
        remedy = "give another name" if file.is_dir() else "give another name, or --overwrite"
        raise ResultsError(f"{str(file)!r} already exists: {remedy}.")


def write_summary_file(
    loaded: Sequence[Trained],
    documents: Documents,
    file: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    each: Callable[[Trained, Summary], None] = lambda trained, summary: None,
) -> None:
    """Write a line per document, in order; the file is complete or absent.

    The columns are `id`, those of the documents' tables, and for each run the summary, whether it was cut at the cap
    of new tokens (`at_cap`) and whether the end of the document was not read (`truncated`). Names that a table already
    uses are prefixed with `generated_`, as is `id` if a table has an `id` column that is not used for its documents'
    ids; with several runs, names end with the run's label.

    Args:
        loaded: the loaded runs.
        documents: the documents, opened with their cells.
        file: .csv or .jsonl; replaced if it exists.
        progress: called with the number of documents done and the total.
        each: called with every summary.

    Raises:
        ResultsError: the file cannot be written.
    """
    key = _id_name(documents)
    names = _names(loaded, [key, *documents.columns])
    own = [name for name in documents.columns if name != key]
    header = [key, *own, *(name for of_run in names for name in of_run)]
    sweep_of(file)
    with replacing(file) as stream:
        if file.suffix.lower() == ".csv":
            stream.write(_csv_line(header))
        for done, (document, summaries) in enumerate(_summarized(loaded, documents), 1):
            line = {key: document.id, **{name: document.cells.get(name) for name in own}}
            for trained, summary, (text, at_cap, truncated) in zip(loaded, summaries, names, strict=True):
                each(trained, summary)
                line |= {text: summary.text, at_cap: summary.at_cap, truncated: summary.truncated}
            if file.suffix.lower() == ".csv":
                stream.write(_csv_line([_cell(line[name]) for name in header]))
            else:
                stream.write(f"{json.dumps(line, ensure_ascii=False, default=str)}\n".encode(errors="replace"))
            progress(done, documents.number)


def _summarized(loaded: Sequence[Trained], documents: Documents) -> Iterator[tuple[GivenDocument, list[Summary]]]:
    """Yield each document with a summary by every run; memory does not grow with the documents."""
    source = iter(documents)
    while chunk := list(islice(source, CHUNK)):
        texts = [document.text for document in chunk]
        found = [dict(trained.stream(texts)) for trained in loaded]
        for index, document in enumerate(chunk):
            yield document, [by_run[index] for by_run in found]


def _id_name(documents: Documents) -> str:
    """The name of the id column: `id`, unless a table has an `id` column that is not used for its ids."""
    name = ID
    while any(name in source.names and name != source.key for source in documents.sources):
        name = f"generated_{name}"
    return name


def _names(loaded: Sequence[Trained], taken: Sequence[str]) -> list[list[str]]:
    """The columns of each run, with names that are not taken."""
    labels = Counter(trained.label for trained in loaded)
    places = Counter[str]()
    made: list[list[str]] = []
    used = set(taken)
    for trained in loaded:
        places[trained.label] += 1
        ending = f"_{trained.label}" if len(loaded) > 1 else ""
        ending += f"_{places[trained.label]}" if labels[trained.label] > 1 else ""
        names = [f"{name}{ending}" for name in ("summary", "at_cap", "truncated")]
        while set(names) & used:
            names = [f"generated_{name}" for name in names]
        used.update(names)
        made.append(names)
    return made


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _csv_line(cells: Sequence[str]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerow(cells)  # its own line end makes it quote cells with a carriage return
    return (stream.getvalue().removesuffix("\r\n") + "\n").encode(errors="replace")
