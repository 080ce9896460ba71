"""Small finished suites, made with the command itself, that the cases copy, damage and compare with."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture import children
from torture_kills import compared
from triptych.storage import files

SMALL = (
    "limits.train_documents=8",
    "limits.validation_documents=2",
    "limits.test_documents=3",
    "limits.document_tokens=64",
    "training.max_epochs=1",
    "training.global_batch_size=4",
    "decoding.max_new_tokens=4",
    "decoding.num_beams=1",
    "search.trials=2",
    "search.validation_documents=2",
)
ROWS = "lead-3,last-layers,lora"


@dataclass(frozen=True)
class Base:
    """A suite: its command and the place of its untouched results.

    Attributes:
        out: the results folder as the command left it.
        options: options of `triptych compare`, except `--out`.
        whole: the result of `torture_kills.compared` for it.
    """

    out: Path
    options: tuple[str, ...]
    whole: dict[str, Any]

    def command(self, out: Path) -> list[str]:
        """The command that runs the same suite into a results folder."""
        return ["compare", *self.options, "--out", str(out)]

    def copy(self, to: Path) -> Path:
        """Copy the results, replacing what is there."""
        shutil.rmtree(to, ignore_errors=True)
        return Path(shutil.copytree(self.out, to))

    def difference(self, out: Path, unread: str | None = None) -> str | None:
        """Where results differ from this suite's; None if they are the same except for times, memory and energy.

        Args:
            out: the results folder.
            unread: a file in it that the command neither reads nor writes, and that may differ.
        """
        try:
            found = compared(out)
        except (OSError, ValueError, KeyError) as error:
            return f"not whole: {error}"
        names = [
            name
            for name in self.whole.keys() | found.keys()
            if self.whole.get(name) != found.get(name) and name != unread
        ]
        return f"differs in {', '.join(sorted(names))}" if names else None


def make(
    out: Path,
    cache: Path,
    rows: str = ROWS,
    seeds: str = "0,1",
    settings: tuple[str, ...] = (),
    data: Path | None = None,
) -> Base:
    """Run a suite to its end.

    Args:
        out: the results folder.
        cache: the cache's folder.
        rows: its methods and baselines, separated by commas.
        seeds: its seeds, separated by commas.
        settings: settings for `--set`, after those that make the suite small.
        data: a table of documents and summaries; None: the built-in data.

    Raises:
        RuntimeError: the suite failed.
    """
    # with a preset, the suite has its name; without one, it would be named after the folder
    options = ("--preset", "demo", "--methods", rows, "--seeds", seeds, "--set", *SMALL, *settings)
    options += ("--data", str(data)) if data is not None else ()
    ended = children.command(["compare", *options, "--out", str(out)], {"TRIPTYCH_CACHE": str(cache)}, 600)
    if ended.status != 0:
        logs = "".join(path.read_text()[-1000:] for path in out.glob("runs/*/*/log.txt"))
        raise RuntimeError(
            f"A suite that nothing happens to ended with status {ended.status}:\n{children.tail(ended)}\n{logs}"
        )
    return Base(out, options, compared(out))


def leftovers(out: Path) -> list[str]:
    """Temporary files in a results folder."""
    return sorted(str(path.relative_to(out)) for path in out.rglob(".*") if files.is_temporary(path))
