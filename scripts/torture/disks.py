"""A full disk, on a small file system: one message, and with more space the same command gives the same results."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from torture import bases, children
from torture.outcomes import BELIEVED, HUNG, REFUSED, RIGHT, UNEXPECTED, Case, Kind

BLOCK = 4096  # block size of tmpfs in bytes
ROOM = 1 << 27  # bytes in addition to those used at the end: checkpoints during training


class Disks(Kind):
    """The results folder, the cache or both are on a tmpfs that is too small."""

    name = "disks"
    title = "a full disk under trunk cache, corpus, OUT (a small tmpfs), and room again"
    cases = 24

    def missing(self) -> str | None:
        """The reason why no file system can be mounted, if so."""
        if sys.platform != "linux" or os.geteuid() != 0:
            return "mounting a tmpfs needs root on Linux"
        try:
            with Mounted(self.folder / "tried", BLOCK * 16):
                return None
        except subprocess.CalledProcessError as error:
            return f"no tmpfs can be mounted here ({error.stderr.decode().strip()})"

    def prepare(self) -> None:
        """Run the suite with enough space, and measure how much it takes."""
        self.base = bases.make(
            self.folder / "whole", self.folder / "cache", "lead-3" if self.small else bases.ROWS, "0"
        )
        self.needed = {"OUT": size(self.folder / "whole"), "cache": size(self.folder / "cache")}
        self.needed["both"] = sum(self.needed.values())

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Try a disk with a part of the space needed."""
        place = ("OUT", "cache", "both")[number % 3]
        part = chance.uniform(0.02, 1.05)
        what = f"{place} on a disk of {part:.0%} of what is needed"
        shutil.rmtree(self.folder / "plain", ignore_errors=True)
        with Mounted(self.folder / "disk", int(self.needed[place] * part) // BLOCK * BLOCK + 2 * BLOCK) as disk:
            out = (disk.folder if place != "cache" else self.folder / "plain") / "out"
            cache = (disk.folder if place != "OUT" else self.folder / "plain") / "cache"
            ended = children.command(self.base.command(out), {"TRIPTYCH_CACHE": str(cache)})
            if ended.status is None:
                return Case(HUNG, what, children.tail(ended))
            if ended.status != 0 and (wrong := children.complaint(ended, (1, 2))):
                return Case(UNEXPECTED, what, wrong)
            if any("SIGBUS" in path.read_text() for path in out.glob("runs/*/*/record.json")):
                return Case(UNEXPECTED, what, "a run died of SIGBUS")
            disk.resize(self.needed["both"] + ROOM)
            again = children.command(self.base.command(out), {"TRIPTYCH_CACHE": str(cache)})
            if failure := children.failure(again, f"{what}, with room again"):
                return failure
            if different := self.base.difference(out):
                return Case(BELIEVED, what, different)
            if left := bases.leftovers(out):
                return Case(UNEXPECTED, what, f"left behind: {', '.join(left)}")
            return Case(REFUSED if ended.status else RIGHT, what, children.message(ended))


class Mounted:
    """A tmpfs that is mounted during the `with` block.

    Args:
        folder: the mount point; created if it is missing.
        size: the size in bytes.

    Raises:
        subprocess.CalledProcessError: it cannot be mounted.
    """

    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size

    def __enter__(self) -> "Mounted":
        self.folder.mkdir(parents=True, exist_ok=True)
        _mount("mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder))
        return self

    def resize(self, size: int) -> None:
        """Change the size of the file system."""
        _mount("mount", "-o", f"remount,size={size}", str(self.folder))

    def __exit__(self, *_: object) -> None:
        _mount("umount", "--lazy", str(self.folder))


def _mount(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def size(folder: Path) -> int:
    """The bytes of all blocks that a folder's files take."""
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in folder.rglob("*") if path.is_file()) + 8 * BLOCK
