"""Files of a results folder swapped with those of another run or suite, emptied or truncated: refused or remade."""

import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torture import bases, children
from torture.outcomes import BELIEVED, HUNG, REFUSED, RIGHT, UNEXPECTED, Case, Kind
from triptych.analysis.comparison import compare_results
from triptych.analysis.curves import AXES, loss_curves, validation_curves
from triptych.config.reading import read_suite_file
from triptych.datasets.newswire import Newswire
from triptych.errors import TriptychError
from triptych.reporting import document, examples
from triptych.results import reading
from triptych.run import entries, experiment
from triptych.run.events import Event, RunId, StepEvent
from triptych.run.search import first_rates
from triptych.submission import bundle
from triptych.use import evaluate

LABELS = ("lora", "last-layers")
RUN_FILES = (
    "history.jsonl",
    "predictions.jsonl",
    "record.json",
    "adapter",
    "adapter/triptych.json",
    "adapter/*.safetensors",
)
ROW_FILES = ("search.json", "micro_batch.json", "trials")
AUTO = "training.micro_batch_size=auto"  # so that every method has a micro_batch.json
SOURCES = ("another seed", "another method", "other data", "other settings")
HARM = (*SOURCES, *SOURCES, "emptied", "cut at a line", "cut anywhere", "a line twice", "a byte flipped")
READERS = ("report", "report", "report", "bundle", "bundle", "evaluate", "evaluate", "resumed")


class _CutOff(Exception):
    """Raised to end a run after a checkpoint."""


class Swaps(Kind):
    """Three finished suites with the same methods; two of them differ from the first in data or settings."""

    name = "swaps"
    title = "histories, predictions, adapters, searches, trials, checkpoints swapped, emptied, cut"
    cases = 240

    def prepare(self) -> None:
        """Make the suites, and what each run leaves when it is interrupted: a checkpoint and finished trials."""
        os.environ["TRIPTYCH_CACHE"] = str(self.folder / "cache")
        table = self.folder / "others.jsonl"
        stories = Newswire(train_documents=40, data_seed=5).examples("train")
        lines = [{"id": story.id, "document": story.document, "summary": story.summary} for story in stories]
        table.write_text("".join(json.dumps(line) + "\n" for line in lines))
        cache = self.folder / "cache"
        self.base = bases.make(self.folder / "base", cache, "lora" if self.small else bases.ROWS, settings=(AUTO,))
        if not list(self.base.out.glob("runs/*/micro_batch.json")):
            raise RuntimeError("No method of the suite keeps a micro_batch.json: cases of it would try nothing.")
        self.page = page(self.base.out)
        self.entries = bundle_entries(self.base.out)
        self.scores: dict[Path, tuple[float, int | None, float | None]] = {}
        self.others: dict[str, bases.Base] = {}
        if self.small:
            return
        self.others = {
            "other data": bases.make(self.folder / "data", cache, settings=(AUTO,), data=table),
            "other settings": bases.make(
                self.folder / "settings", cache, settings=(AUTO, "training.max_grad_norm=0.5", "method.lora.rank=4")
            ),
        }
        self.scores = {
            folder: scores(folder) for folder in sorted(self.base.out.glob("runs/*/*")) if (folder / "adapter").is_dir()
        }
        for each in (self.base, *self.others.values()):
            self._cut_off(each)

    def _cut_off(self, base: bases.Base) -> None:
        """Make what a suite's runs leave when they are interrupted, next to the suite's results."""
        shutil.rmtree(f"{base.out}-cut", ignore_errors=True)
        ended = children.Child(lambda: cut_off(base.out, Path(f"{base.out}-cut"))).end(600)
        if ended.status != 0:
            raise RuntimeError(children.tail(ended))

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Try one file, one kind of harm and one reader."""
        reader = chance.choice(READERS[:5] if self.small else READERS) if number % 8 or self.small else "unfinished"
        label, seed = "lora" if self.small else chance.choice(LABELS), chance.choice((0, 1))
        unfinished = reader == "unfinished"
        out = self.base.copy(self.folder / "case")
        file = chance.choice(
            (*ROW_FILES, "checkpoint")
            if unfinished
            else (*RUN_FILES, *RUN_FILES, "search.json", "suite.json", "comparison.json", "micro_batch.json")
        )
        if unfinished:
            seed = 0 if file in ROW_FILES else seed  # the run that does the search
            self._undo(out, label, seed, file)
        harm = chance.choice(
            [each for each in HARM if each == "another seed" or each not in SOURCES] if self.small else HARM
        )
        path = locate(out, label, seed, file)
        what = f"{path.relative_to(out)}: {harm}, {reader}"
        if harm in SOURCES:
            source = self.source(harm, label, seed, file)
            if not source.exists():
                return Case(RIGHT, f"{what}: the source has no such file")
            replace(path, source)
        else:
            damage(path, harm, chance)
        return self.judge(reader, out, label, seed, what)

    def _undo(self, out: Path, label: str, seed: int, file: str) -> None:
        """Reset a run to a point at which it reads this file next: a checkpoint, a search or its trials."""
        place, left = out / "runs" / label / str(seed), self._cut_folder(self.base, label, seed)
        shutil.rmtree(place)
        if file == "checkpoint":
            shutil.copytree(left, place)
        if file == "trials":
            (place.parent / "search.json").unlink()
            shutil.copytree(left.parent / "trials", place.parent / "trials")

    def _cut_folder(self, base: bases.Base, label: str, seed: int) -> Path:
        return Path(f"{base.out}-cut") / "runs" / label / str(seed)

    def source(self, harm: str, label: str, seed: int, file: str) -> Path:
        """The file that replaces another."""
        base = self.others.get(harm, self.base)
        label = LABELS[1 - LABELS.index(label)] if harm == "another method" else label
        seed = 1 - seed if harm == "another seed" else seed
        if file == "checkpoint":
            return self._cut_folder(base, label, seed) / file
        if file == "trials":
            return self._cut_folder(base, label, 0).parent / file
        return locate(base.out, label, seed, file)

    def judge(self, reader: str, out: Path, label: str, seed: int, what: str) -> Case:
        """Judge what a reader does with the folder."""
        run = out / "runs" / label / str(seed)
        if reader in ("resumed", "unfinished"):
            ended = children.command(self.base.command(out), {"TRIPTYCH_CACHE": str(self.folder / "cache")})
            if ended.status is None:
                return Case(HUNG, what, children.tail(ended))
            if ended.status == 1:  # a run was refused: it is recorded as failed with its message
                failed = [line for line in ended.err.splitlines() if line.startswith("triptych: failed")]
                unclear = "triptych: unexpected " in ended.err or "Traceback" in ended.err or not failed
                return Case(UNEXPECTED if unclear else REFUSED, what, children.tail(ended))
            if ended.status != 0:
                wrong = children.complaint(ended)
                return Case(UNEXPECTED, what, wrong) if wrong else Case(REFUSED, what, children.message(ended))
            # A resumed suite keeps the adapter of a finished run without opening it; whatever opens it refuses it.
            tensors = next(run.glob("adapter/*.safetensors"), run) if reader == "resumed" else run
            different = self.base.difference(out, str(tensors.relative_to(out)))
            return Case(BELIEVED, what, different) if different else Case(RIGHT, what)
        read, whole = {
            "report": (lambda: page(out), self.page),
            "bundle": (lambda: bundle_entries(out), self.entries),
            "evaluate": (lambda: restored(run), self.scores.get(self.base.out / run.relative_to(out))),
        }[reader]
        return watched(read, whole, what)


def watched(read: Callable[[], Any], whole: Any, what: str, seconds: float = children.SECONDS) -> Case:
    """The outcome of reading in a child with a watchdog.

    Args:
        read: reads the results.
        whole: the expected result for untouched files.
        what: the case, in words.
        seconds: the time after which it has hung.
    """

    def judged() -> tuple[str, str]:
        try:
            found = read()
        except TriptychError as error:
            clear = error.exit_status == 2 and str(error).strip() and len(str(error)) < 3000
            return REFUSED if clear else UNEXPECTED, str(error)[:1000]
        except Exception as error:
            return UNEXPECTED, f"{type(error).__name__}: {error}"[:1500]
        return (RIGHT, "") if found == whole else (BELIEVED, "the result is another one, without a word")

    def call() -> int:
        print(f"\n{json.dumps(judged())}")
        return 0

    ended = children.Child(call).end(seconds)
    if ended.status is None:
        return Case(HUNG, what, children.tail(ended))
    if ended.status != 0:
        return Case(UNEXPECTED, what, f"status {ended.status}: {children.tail(ended)}")
    outcome, detail = json.loads(ended.out.splitlines()[-1])
    return Case(outcome, what, detail)


def scores(run: Path) -> tuple[float, int | None, float | None]:
    """The result of `restored` in a child with one thread, as in the cases."""

    def call() -> int:
        print(f"\n{json.dumps(restored(run))}")
        return 0

    ended = children.Child(call).end(600)
    if ended.status != 0:
        raise RuntimeError(children.tail(ended))
    loss, identical, recorded = json.loads(ended.out.splitlines()[-1])
    return loss, identical, recorded


def cut_off(out: Path, to: Path) -> int:
    """In a child: restart each run of a suite elsewhere, keep its trials, and end it after its first checkpoint."""
    suite, table = entries.resolve(read_suite_file(out / "suite.json"))
    for label in LABELS:
        row = entries.find_entry(table, label)
        for rate in first_rates(suite, row.plugin):  # type: ignore[arg-type]
            experiment.run_trial(suite, row, rate, to, "cpu", lambda run, event: None)
        trials = to / "runs" / label / "trials"
        shutil.copytree(trials, to / "kept-trials" / label)
        for seed in (0, 1):

            def listen(run: RunId, event: Event, folder: Path = to / "runs" / label / str(seed)) -> None:
                if isinstance(event, StepEvent) and list(folder.glob("checkpoint/*.json")):
                    raise _CutOff

            with suppress(_CutOff):
                experiment.run_experiment(suite, row, seed, to, "cpu", listen)
            assert list((to / "runs" / label / str(seed)).glob("checkpoint/*.json")), "no checkpoint was written"
        shutil.copytree(to / "kept-trials" / label, trials)
    return 0


def locate(out: Path, label: str, seed: int, file: str) -> Path:
    """The path of a file or folder of a run, a method or a suite."""
    if file in ("suite.json", "comparison.json"):
        return out / file
    if file in ROW_FILES:
        return out / "runs" / label / file
    run = out / "runs" / label / str(seed)
    return next(iter(sorted(run.glob(file))), run / file.replace("*", "adapter_model"))


def replace(path: Path, source: Path) -> None:
    """Replace a file or folder with a copy of another."""
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, path) if source.is_dir() else shutil.copyfile(source, path)


def damage(path: Path, harm: str, chance: random.Random) -> None:
    """Empty or truncate a file, or a file in a folder."""
    if path.is_dir():
        path = chance.choice(sorted(each for each in path.rglob("*") if each.is_file()))
    content = path.read_bytes() if path.is_file() else b"{}\n"
    lines, at = content.splitlines(keepends=True) or [b"\n"], chance.randrange(max(1, len(content)))
    if harm == "a byte flipped":
        content = (
            content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :] if content else b"x"
        )
    else:
        content = {
            "emptied": b"",
            "cut at a line": b"".join(lines[: -chance.randrange(1, len(lines) + 1)]),
            "cut anywhere": content[:at],
            "a line twice": b"".join([*lines, lines[-1]]),
        }[harm]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def page(out: Path) -> str:
    """Everything that a report on the folder is made from."""
    results = reading.read_results(out, partial=True)
    comparison = compare_results(results)
    parts = [
        comparison.model_dump(mode="json"),
        document.report_data(results, comparison),
        loss_curves(results),
        [validation_curves(results, axis) for axis in AXES],
        examples.browser_data(results),
    ]
    return json.dumps(parts, sort_keys=True, default=str)


def bundle_entries(out: Path) -> dict[str, bytes]:
    """Entries of the bundle of a folder, without the package's source."""
    found = bundle.gather(out).entries
    return {
        name: each.encode() if isinstance(each, str) else each.read_bytes()
        for name, each in found.items()
        if not name.startswith("src/")
    }


def restored(run: Path) -> tuple[float, int | None, float | None]:
    """The result of `evaluate`: test loss, number of summaries that match the record, and recorded loss."""
    result = evaluate.evaluate_run(run, "cpu", {})
    return round(result.test_loss, 6), result.identical_predictions, result.recorded_test_loss
