"""Kills between creating a temporary file and renaming it: the same command resumes and leaves nothing behind."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torture import bases, children
from torture.outcomes import BELIEVED, HUNG, RIGHT, UNEXPECTED, Case, Kind
from triptych.submission import bundle

CACHE = "TRIPTYCH_CACHE"


class FirstWrites(Kind):
    """All files that a suite, its report and its bundle write, with one kill per sync and per rename."""

    name = "first-writes"
    title = "kills between a temporary file and its rename"
    cases = 0  # the number of writes

    def prepare(self) -> None:
        """Run the suite without interruption, with a list of its writes."""
        rows = "lead-3" if self.small else "lead-3,lora"
        self.base = bases.make(self.folder / "whole", self.folder / "cache-whole", rows, "0")
        self.entries = sorted(bundle.gather(self.base.out).entries)
        self.commands: dict[str, Callable[[Path], list[str]]] = {
            "compare": self.base.command,
            "report": lambda out: ["report", str(out)],
            "bundle": lambda out: ["bundle", str(out), str(out.parent / "case.zip")],
        }
        self.writes = []
        for name, arguments in [*self.commands.items()][: 1 if self.small else None]:
            log = self.folder / f"{name}.writes"
            out = self._ready(name)
            cache = {CACHE: str(self.folder / "cache")}
            ended = children.command(arguments(out), cache, before=partial(interrupt, log, None))
            if ended.status != 0:
                raise RuntimeError(children.tail(ended))
            self.writes += [(name, place, line) for place, line in enumerate(log.read_text().splitlines())]

    def _ready(self, name: str) -> Path:
        """The folder as it was before a command, with an empty cache."""
        out = self.folder / "case"
        for path in (out, self.folder / "cache"):
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / "case.zip").unlink(missing_ok=True)
        return out if name == "compare" else self.base.copy(out)

    def count(self) -> int:
        """The number of writes: one kill for each."""
        return len(self.writes)

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Kill everything, or only the suite, at one of the writes; then run the same command again."""
        name, place, line = self.writes[number]
        everything = name != "compare" or chance.random() < 0.5
        what = f"{name} killed at {line}, {'everything' if everything else 'the suite alone'}"
        out, log = self._ready(name), self.folder / "writes"
        log.unlink(missing_ok=True)
        environment, arguments = {CACHE: str(self.folder / "cache")}, self.commands[name](out)
        ended = children.command(arguments, environment, before=lambda: interrupt(log, place, everything))
        if ended.status is None or ended.orphans:
            return Case(HUNG, what, children.tail(ended))
        if ended.status != -signal.SIGKILL:
            return Case(UNEXPECTED, what, f"status {ended.status} where it was to be killed: {children.tail(ended)}")
        again = children.command(arguments, environment)
        if failure := children.failure(again, f"{what}, resumed"):
            return failure
        if different := self.base.difference(out):
            return Case(BELIEVED, what, different)
        if name == "report":  # a report never sweeps, because the folder may be in use; the next suite in it does
            again = children.command(self.base.command(out), environment)
        # empty folders are removed after a day
        unfinished = (self.folder / "cache").glob("**/building-*/**/*")
        left = [*bases.leftovers(out), *(str(path) for path in unfinished if path.is_file() and path.stat().st_size)]
        if name == "bundle":
            left += [path.name for path in self.folder.glob(".case.zip*")]
        if left:
            return Case(UNEXPECTED, what, f"left behind: {', '.join(left)}")
        if sorted(bundle.gather(out).entries) != self.entries:
            return Case(BELIEVED, what, "the bundle holds other files")
        return Case(RIGHT, what)


def interrupt(log: Path, place: int | None, everything: bool = True) -> None:
    """In a child: log each sync of a file and each rename, and die before the one with this number.

    Args:
        log: the log file, with a line for each write of this process and its runs.
        place: the number; None: do not die.
        everything: whether all processes of the command die; otherwise only the command does.
    """
    leader = os.getpid()

    def before(what: str) -> None:
        with log.open("a+") as file:
            file.seek(0)
            number = len(file.read().splitlines())
            file.write(f"{what}\n")
        if number == place:
            os.kill(leader, signal.SIGKILL) if not everything else os.killpg(leader, signal.SIGKILL)
            signal.pause()  # a run ends when its suite is gone

    def named(act: Callable[..., None], verb: str) -> Callable[..., None]:
        def wrapped(*given: object, **more: object) -> None:
            before(
                f"the {verb} of {short(given[-1] if verb == 'rename' else os.readlink(f'/proc/self/fd/{given[0]}'))}"
            )
            act(*given, **more)

        return wrapped

    os.fsync = named(os.fsync, "sync")
    os.replace, os.rename = named(os.replace, "rename"), named(os.rename, "rename")


def short(path: object) -> str:
    """The last two names of a path."""
    return "/".join(Path(os.fsdecode(path)).parts[-2:])  # type: ignore[arg-type]
