"""Two suites at the same time with one full cache: both end with the right results."""

import random
import shutil
import time
from pathlib import Path

from torture import bases, children
from torture.outcomes import BELIEVED, HUNG, LOST, RIGHT, UNEXPECTED, Case, Kind

# Gigabytes: nothing fits; one entry of trunk states but not two; the prepared data of one suite, not two; everything.
LIMITS = (1e-9, 0.0002, 0.00005, 1.0)
ROWS = "lead-3,last-layers"


class Caches(Kind):
    """Suites with different data, so that their cache entries differ."""

    name = "caches"
    title = "two suites at once at a full cache"
    cases = 12

    def prepare(self) -> None:
        """Nothing: the results of a suite depend on the limit and are made when needed."""
        self.bases: dict[tuple[float, int], bases.Base] = {}

    def base(self, limit: float, data: int) -> bases.Base:
        """A suite with a cache limit, run alone with its own cache."""
        if (limit, data) not in self.bases:
            name = f"{limit}-{data}"
            rows = "lead-3" if self.small else ROWS
            settings = (f"cache.max_gigabytes={limit}", f"limits.train_documents={8 + data}")
            out, cache = (self.folder / f"{place}-{name}" for place in ("out", "cache"))
            self.bases[limit, data] = bases.make(out, cache, rows, "0", settings)
        return self.bases[limit, data]

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Run two suites, started together or a moment apart, on different data or the same."""
        limit = LIMITS[number % len(LIMITS)]
        same = chance.random() < 0.25
        pair = [self.base(limit, 0), self.base(limit, 0 if same else 1)]
        pause = chance.choice((0.0, 0.0, chance.uniform(0, 3)))
        what = f"limit {limit:g} GB, {'the same' if same else 'other'} data, {pause:.1f} s apart"
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        outs, started = [self.folder / f"case-{i}" for i in range(2)], []
        for base, out in zip(pair, outs, strict=True):
            shutil.rmtree(out, ignore_errors=True)
            started.append(children.start(base.command(out), {"TRIPTYCH_CACHE": str(cache)}))
            time.sleep(pause)
        ended = [child.end() for child in started]
        for base, out, end in zip(pair, outs, ended, strict=True):
            if end.status is None:
                return Case(HUNG, what, children.tail(end))
            if end.status != 0:
                logs = "".join(path.read_text()[-800:] for path in out.glob("runs/*/*/log.txt"))
                return Case(LOST, what, f"{children.tail(end)} {logs}")
            if different := base.difference(out):
                return Case(BELIEVED, what, different)
        left = [path for path in Path(cache).rglob("*") if path.name.startswith("building-") or path.suffix == ".lock"]
        return Case(UNEXPECTED, what, f"left behind: {left}") if left else Case(RIGHT, what)
