"""Find the documents of stored predictions, if this machine can read them."""

from dataclasses import replace
from pathlib import Path

from triptych.datasets import open_dataset
from triptych.datasets.hub import Hub
from triptych.errors import InputError
from triptych.results.reading import Results


def documents_of(results: Results) -> dict[str, str]:
    """The test documents by id, if this machine can read them and their references match the runs'.

    Nothing is downloaded. The result is empty if a document is missing or has a different reference.
    """
    suite = results.suite
    wanted = {line.id: line.reference for run in results.runs if run.done for line in run.predictions}
    if results.files is not None:
        return {}
    try:
        data = open_dataset(
            suite.data, data_config=suite.data_config, data_revision=suite.data_revision, columns=suite.columns
        )
        if isinstance(data, Hub) and not Path(data.name).exists():
            return {}
        splits = data.splits()
        found = {
            example.id: example.document.strip()
            for split in (["test"] if "test" in splits else splits)
            for example in data.examples(split)
            if wanted.get(example.id) == example.summary.strip()
        }
    except InputError:
        return {}
    return found if found.keys() == wanted.keys() else {}


def with_documents(results: Results) -> Results:
    """The results with their test documents, if these can be read."""
    return replace(results, documents=documents_of(results))
