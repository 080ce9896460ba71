"""The first pass over a source split: hash its texts, count the summary tokens and find empty rows."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from triptych.contracts import Example
from triptych.corpus.cutting import document_hash, hash64
from triptych.models.tokens import RunningText

_SAMPLE_SEED = b"triptych sample 0"
_BATCH_ROWS, _BATCH_CHARACTERS = 512, 2**21


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known about every row of a source split, in file order.

    Attributes:
        documents: uint64 [rows], a hash of the document's words.
        ranks: uint64 [rows], a keyed hash of document and summary; the rows with the lowest ranks are sampled.
        empty: bool [rows], whether document or summary has no text.
        summary_tokens: int32 [rows].
    """

    documents: np.ndarray
    ranks: np.ndarray
    empty: np.ndarray
    summary_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.documents)


def survey(examples: Iterable[Example], text: RunningText) -> Survey:
    """Hash the documents of a source split and measure its summaries, a batch at a time.

    Args:
        examples: the examples of the source split, in file order.
        text: tokenizes the summaries.
    """
    # 64 bits: among ten million documents, the probability that two different ones share a hash is 3e-6.
    documents, ranks, empty, lengths = array("Q"), array("Q"), array("B"), array("i")
    for batch in in_batches(examples):
        for example in batch:
            document, summary = example.document.strip(), example.summary.strip()
            documents.append(document_hash(document))
            ranks.append(hash64(f"{document}\0{summary}", _SAMPLE_SEED))
            empty.append(not (document and summary))
        lengths.extend(len(ids) for ids in text.summary_ids([example.summary for example in batch]))
    return Survey(
        np.array(documents, np.uint64), np.array(ranks, np.uint64), np.array(empty, bool), np.array(lengths, np.int32)
    )


def in_batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Examples in batches of at most 512 rows, fewer if their texts are long."""
    batch: list[Example] = []
    characters = 0
    for example in examples:
        batch.append(example)
        characters += len(example.document) + len(example.summary)
        if len(batch) == _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
