"""Characters that no document can contain, in all texts of a results folder, typeset by `triptych report`."""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.made_up import make_results, write_results
from torture import children
from torture.outcomes import BELIEVED, HUNG, RIGHT, UNEXPECTED, Case, Kind
from triptych.results.reading import SavedRun
from triptych.results.records import Record
from triptych.text.characters import whole

CONTROLS = [*map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0))]
NONCHARACTERS = [
    *map(chr, range(0xFDD0, 0xFDF0)),
    *(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)),
]
HALVES = ["\ud800", "\udbff", "\udc00", "\udfff"]
INVISIBLE = list("\u2028\u2029\ufeff\u202e\u200b\u00ad\ue000\U000e0001\U000f0000\u0301\u034f")
MARKUP = ["</script>", "<!--", "]]>", "&#0;", "#let", "$", "`", "\\", "|", "*_~", "\r\n", '"']
ALL = [*CONTROLS, *NONCHARACTERS, *HALVES, *INVISIBLE, *MARKUP]
CASES = 48
# Texts in the files that nothing checks: those of predictions, then those in parts of a record.
FIELDS = (
    "id",
    "prediction",
    "reference",
    "source",
    "cut",
    "command",
    "hardware",
    "commit",
    "model",
    "notes",
    "energy_note",
    "error",
    "metric",
)
PARTS = ("provenance", "data", "notes", "cost")
RAW = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


class Characters(Kind):
    """In the long form, every character of `ALL` is in at least one case."""

    name = "characters"
    title = "characters that no document can hold, typeset"
    cases = CASES

    def prepare(self) -> None:
        """Make up results, including a failed run; the digests in their records are computed with each case's texts."""
        self.results = make_results(("untuned", "lora", "full"), documents=3, failed=(("full", 0),))

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Put a few characters at the beginning, in the middle or at the end of all texts of a run, or of one."""
        drawn = ALL[number % CASES :: CASES] if number < CASES else chance.sample(ALL, 4)
        text = "".join(chance.choice(("a", "", "word ")) + character for character in drawn) + chance.choice(("", "b"))
        everywhere = chance.random() < 0.6
        field = chance.choice(FIELDS)
        out = self.folder / "out"
        what = f"{text!a} in {'every text' if everywhere else field}"
        shutil.rmtree(out, ignore_errors=True)
        ids = self.write(out, lambda name: text if everywhere or name == field else None)
        ended = children.command(["report", str(out)])
        if ended.status is None:
            return Case(HUNG, what)
        if ended.status != 0:
            return Case(UNEXPECTED, what, f"status {ended.status}: {children.tail(ended)}")
        page, paper = (out / "report.html").read_bytes().decode(), (out / "report.pdf").read_bytes()
        if not paper.startswith(b"%PDF"):
            return Case(UNEXPECTED, what, "report.pdf is not a PDF file")
        if RAW.search(page) or (
            bad := next(
                (
                    f
                    for f in ("comparison.csv", "comparison.md", "comparison.json")
                    if RAW.search((out / f).read_bytes().decode())
                ),
                None,
            )
        ):
            return Case(UNEXPECTED, what, f"a raw control character in {'report.html' if RAW.search(page) else bad}")
        found = re.search(r'<script[^>]*id="browser-data"[^>]*>(.*?)</script>', page, re.DOTALL)
        shown = [pair[0] for pair in json.loads(found[1])["documents"]] if found else None
        if shown != [whole(each) for each in ids]:
            return Case(BELIEVED, what, f"the page has the ids {shown!a} for {ids!a}")
        return Case(RIGHT, what)

    def write(self, out: Path, text_of: Callable[[str], str | None]) -> list[str]:
        """Write a results folder with these texts; return the documents' ids as they should be read."""
        runs = [spoilt(run, text_of) for run in self.results.runs]
        write_results(replace(self.results, runs=tuple(runs)), out)
        ids = [line.id for line in next(run.predictions for run in runs if run.done)]
        return [whole(json.loads(json.dumps(each))) for each in ids]


def spoilt(run: SavedRun, text_of: Callable[[str], str | None]) -> SavedRun:
    """A run with changed texts.

    Args:
        text_of: returns the text of a field, or None to keep it.
    """
    content = run.record.model_dump(mode="json")
    content |= {part: changed(content[part], text_of, part) for part in PARTS}
    if content["error"] is not None:
        content["error"] = text_of("error") or content["error"]
    metric = text_of("metric")
    if metric is not None and run.done:
        content["further_scores"] = {f"score {metric}": 0.5}
    lines = []
    for place, line in enumerate(run.predictions):
        scores = line.scores if metric is None else {**line.scores, f"score {metric}": 0.5}
        told = {name: text for name in ("prediction", "reference") if (text := text_of(name)) is not None}
        name = text_of("id")
        lines.append(
            line.model_copy(update={**told, "scores": scores, "id": line.id if name is None else f"{place}{name}"})
        )
    return replace(run, record=Record.model_validate(content), predictions=tuple(lines))


def changed(value: Any, text_of: Callable[[str], str | None], name: str) -> Any:
    """A JSON value with changed texts in the fields that get one, and one more key if such a field is a table."""
    text = text_of(name)
    if isinstance(value, dict):
        inner = {key: changed(item, text_of, key) for key, item in value.items()}
        return inner | {text: text} if text is not None and name in ("hardware", "notes") else inner
    if isinstance(value, list):
        return [changed(item, text_of, name) for item in value]
    return text if isinstance(value, str) and text is not None else value
