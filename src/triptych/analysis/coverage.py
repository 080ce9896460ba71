"""The share of its corpus that a run used."""

from triptych.results.records import Data

CNN_DAILYMAIL_PAIRS = {"train": 287_113, "validation": 13_368, "test": 11_490}  # pairs in version 3.0.0


def corpus_pairs(data: Data, split: str) -> int | None:
    """Number of pairs in that split of the published corpus; None if the source's name is not that of a known one."""
    return CNN_DAILYMAIL_PAIRS.get(split) if corpus_name(data.source) else None


def corpus_name(source: str) -> str:
    """The published corpus that a source is named after; empty if it is not a known one."""
    letters = "".join(filter(str.isalpha, source.lower()))
    return "CNN/DailyMail 3.0.0" if "cnndailymail" in letters else ""


def subset(data: Data | None) -> str:
    """A sentence if the test scores cover only part of the test set; empty if they cover all of it."""
    counts = data.splits.get("test") if data is not None else None
    if data is None or counts is None:
        return ""
    published = corpus_pairs(data, "test")
    if published is not None and counts.used < published:
        whole, name = published, " of CNN/DailyMail 3.0.0"
    elif counts.not_sampled:
        whole, name = counts.read, ""
    else:
        return ""
    return (
        f"Scored on {counts.used:,} of the {whole:,} test documents{name}: "
        "figures of this subset are not those of the whole test set."
    )
