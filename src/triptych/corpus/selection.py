"""Assign rows to splits: cut missing splits, drop duplicates, apply limits and take a seeded sample."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from triptych.config.schema import Limits, Split
from triptych.contracts import SPLITS
from triptych.corpus import cutting
from triptych.corpus.survey import Survey
from triptych.results.records import SplitCounts

_CODES = {name: code for code, name in enumerate(SPLITS)}  # one byte of memory per row
_UNUSED = -1
_Codes = Mapping[str, np.ndarray]  # for each source split, the code of every row's split: int8 [rows]


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The rows of every source split that are used.

    Attributes:
        counts: the numbers of rows read, dropped and used, by split.
        cut: a sentence about the splits that were cut, if any.
    """

    counts: dict[str, SplitCounts]
    cut: str | None
    _codes: dict[str, np.ndarray]

    def num_rows(self, source: str) -> int:
        """The number of rows of a source split."""
        return len(self._codes[source])

    def is_used(self, source: str, row: int) -> bool:
        """Whether a row of a source split is used in any split."""
        return bool(self._codes[source][row] != _UNUSED)

    def splits_of_used(self, source: str) -> list[str]:
        """The split of every used row of a source split, in file order."""
        codes = self._codes[source]
        return [SPLITS[code] for code in codes[codes != _UNUSED].tolist()]


def select(surveys: Mapping[str, Survey], limits: Limits, split: Split, room: int | None) -> SelectedRows:
    """Select rows for the splits. The result depends only on the texts, not on their order.

    Args:
        surveys: the survey of each source split.
        limits: how many documents and tokens are used.
        split: how data without splits is cut.
        room: number of tokens in the window for document and summary together; None: no window.
    """
    membership, cut = _cut(surveys, split)
    documents = {name: _gather(surveys, membership, name, attrgetter("documents")) for name in SPLITS}
    empty = {name: _gather(surveys, membership, name, attrgetter("empty")) for name in SPLITS}
    filled = {name: documents[name][~empty[name]] for name in SPLITS}
    elsewhere = {  # duplicates of these are dropped: test takes precedence over validation, and both over training
        "train": np.concatenate([filled["validation"], filled["test"]]),
        "validation": filled["test"],
        "test": filled["test"][:0],
    }
    longest = {"train": limits.summary_tokens}
    requested = {
        "train": limits.train_documents,
        "validation": limits.validation_documents,
        "test": limits.test_documents,
    }
    used = {source: np.full(len(survey), _UNUSED, np.int8) for source, survey in surveys.items()}
    counts = {}
    for name in SPLITS:
        lengths = _gather(surveys, membership, name, attrgetter("summary_tokens"))
        duplicate = ~empty[name] & np.isin(documents[name], elsewhere[name])
        too_long = np.zeros(len(lengths), bool)
        if name in longest:
            too_long |= lengths > longest[name]
        if room is not None:
            too_long |= lengths >= room
        too_long &= ~empty[name] & ~duplicate
        eligible = np.flatnonzero(~empty[name] & ~duplicate & ~too_long)
        ranks = _gather(surveys, membership, name, attrgetter("ranks"))[eligible]
        size = min(requested[name] or len(eligible), len(eligible))
        chosen = eligible[np.argsort(ranks, kind="stable")[:size]]
        counts[name] = SplitCounts(
            read=len(lengths),
            dropped_empty=int(empty[name].sum()),
            dropped_duplicate=int(duplicate.sum()),
            dropped_long_summary=int(too_long.sum()),
            not_sampled=len(eligible) - size,
            used=size,
            requested=requested[name],
        )
        _mark(used, membership, name, chosen)
    return SelectedRows(counts, cut, used)


def _cut(surveys: Mapping[str, Survey], split: Split) -> tuple[dict[str, np.ndarray], str | None]:
    """The split of each row, by source split, and a sentence about what was cut, if anything.

    Missing splits are cut from the training split (or from all rows) by document, so that all copies of a document are
    in the same split. Rows without text stay in training, where they are counted.
    """
    pool = "train" if "train" in surveys else cutting.UNCUT
    missing = cutting.missing_splits(surveys)
    membership = {
        source: np.full(len(survey), _CODES.get(source, _CODES["train"]), np.int8) for source, survey in surveys.items()
    }
    if not missing:
        return membership, None
    survey = surveys[pool]
    membership[pool][~survey.empty] = cutting.cut(survey.documents[~survey.empty], missing, split)
    shares = cutting.shares(missing, split)
    whole = sum(shares.values())
    parts = " / ".join(f"{name} {share / whole:.4g}" for name, share in shares.items())
    lacking, cut = " and no ".join(missing), "its training split" if pool == "train" else "all of it"
    return membership, (
        f"The source has no {lacking} split: {cut} was cut by document into {parts} (split.seed {split.seed})."
    )


def _gather(
    surveys: Mapping[str, Survey], membership: _Codes, name: str, values: Callable[[Survey], np.ndarray]
) -> np.ndarray:
    """One array of the surveys, for the rows of a split, concatenated over the source splits."""
    code = _CODES[name]
    return np.concatenate([values(survey)[membership[source] == code] for source, survey in surveys.items()])


def _mark(used: dict[str, np.ndarray], membership: _Codes, name: str, chosen: np.ndarray) -> None:
    """Assign the rows `chosen`, numbered as in `_gather`, to a split."""
    start = 0
    for source, codes in membership.items():
        rows = np.flatnonzero(codes == _CODES[name])
        here = chosen[(chosen >= start) & (chosen < start + len(rows))] - start
        used[source][rows[here]] = _CODES[name]
        start += len(rows)
