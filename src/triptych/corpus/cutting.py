"""Cut missing splits from the training split, by document and with a seed."""

from array import array
from collections.abc import Collection, Sequence
from hashlib import blake2b

import numpy as np

from triptych.config.schema import Split
from triptych.contracts import SPLITS, Dataset
from triptych.errors import DataError

UNCUT = "all"  # the single split of data without splits


def missing_splits(there: Collection[str]) -> list[str]:
    """Which of validation and test must be cut.

    Args:
        there: the splits that the data has.
    """
    return [name for name in SPLITS[1:] if name not in there]


def shares(missing: Sequence[str], split: Split) -> dict[str, float]:
    """The relative sizes of the training split and the missing splits."""
    fractions = dict(zip(SPLITS, split.fractions, strict=True))
    return {name: fractions[name] for name in ("train", *missing)}


def cut(documents: np.ndarray, missing: Sequence[str], split: Split) -> np.ndarray:
    """The split of each row, as an index into `SPLITS`; all copies of a document get the same split.

    The result depends only on the documents and the seed, not on the order of the rows.

    Args:
        documents: uint64 [rows], `document_hash` of each row.
        missing: the splits to cut, from `missing_splits`.
        split: seed and fractions.
    """
    unique, of_row = np.unique(documents, return_inverse=True)
    key = f"triptych split {split.seed}".encode()
    order = np.argsort([hash64(str(value), key) for value in unique.tolist()], kind="stable")
    assigned = np.zeros(len(unique), np.int8)
    parts, start = shares(missing, split), 0
    whole = sum(parts.values())
    for name in missing:
        size = max(1, round(len(unique) * parts[name] / whole))
        assigned[order[start : start + size]] = SPLITS.index(name)
        start += size
    return assigned[of_row]


def check_training(data: Dataset, source: str) -> None:
    """Check that there is a training split, or data to cut one from.

    Args:
        data: the data set.
        source: the name of the data set, for the message.

    Raises:
        DataError: there is neither.
    """
    there = data.splits()
    if "train" not in there and UNCUT not in there:
        problem = f"{source} has no training split, only {', '.join(there)}. Add one, or give a single file to be cut."
        raise DataError(" ".join([problem, *data.notes()]))


def count_cut(data: Dataset, split: Split, source: str) -> dict[str, int]:
    """The number of rows of training and each missing split before duplicates and limits; empty if nothing is cut.

    Reads all rows of the split that is cut.

    Args:
        data: the data set.
        split: seed and fractions.
        source: the name of the data set, for messages.

    Raises:
        DataError: see `check_training`, `Dataset.splits` and `Dataset.examples`.
    """
    check_training(data, source)
    there = data.splits()
    missing = missing_splits(there)
    if not missing:
        return {}
    documents, empty = array("Q"), 0
    for example in data.examples("train" if "train" in there else UNCUT):
        if example.document.strip() and example.summary.strip():
            documents.append(document_hash(example.document))
        else:
            empty += 1
    numbers = np.bincount(cut(np.array(documents, np.uint64), missing, split), minlength=len(SPLITS))
    return {name: int(numbers[SPLITS.index(name)]) + empty * (name == "train") for name in ("train", *missing)}


def document_hash(document: str) -> int:
    """A hash of a document's words, the same for copies that differ only in spaces and capitalization."""
    return hash64(" ".join(document.casefold().split()))


def hash64(text: str, key: bytes = b"") -> int:
    """A keyed 64-bit hash of a text, as an integer."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little")
