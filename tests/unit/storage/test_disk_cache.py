"""The bounded cache: entries in use stay, vanished and damaged ones are made again, and a full disk gives one
message."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import CHECKOUT
from triptych.storage import files
from triptych.storage.disk_cache import DiskCache

MEGABYTE = 10**6


def maker(content: bytes, made: list | None = None):
    """Write an entry with one file and its seal."""

    def make(folder: Path) -> None:
        (folder / "data").write_bytes(content)
        (folder / "seal").write_text(str(len(content)))
        if made is not None:
            made.append(folder)

    return make


def read(folder: Path) -> bytes | None:
    """The entry's file; None if its length differs from its seal."""
    content = (folder / "data").read_bytes() if (folder / "data").is_file() else b""
    return content if (folder / "seal").read_text() == str(len(content)) else None


def keys(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = [{source!r}]
from triptych.storage.disk_cache import DiskCache
def make(folder):
    (folder / "data").write_bytes(b"x" * 1000)
    {meanwhile}
    (folder / "seal").write_text("1000")
found, hold = DiskCache(Path({folder!r}), 1000, "seal").entry({key!r}, make, lambda folder: folder.name)
print("ready", flush=True)
sys.stdin.read()
"""


def child(folder: Path, key: str, meanwhile: str = "pass") -> subprocess.Popen:
    """A process without torch that makes an entry and uses it until its input ends."""
    code = CHILD.format(source=str(CHECKOUT / "src"), folder=str(folder), key=key, meanwhile=meanwhile)
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_an_entry_is_made_once_and_read_again(tmp_path):
    """An existing entry is found; a damaged or missing one is made again."""
    cache, made = DiskCache(tmp_path, MEGABYTE, "seal"), []
    assert cache.entry("a", maker(b"1", made), read)[0] == cache.entry("a", maker(b"1", made), read)[0] == b"1"
    (tmp_path / "a" / "data").write_bytes(b"123")
    assert cache.entry("a", maker(b"1", made), read)[0] == b"1" and len(made) == 2
    (tmp_path / "a" / "seal").unlink()
    assert cache.entry("a", maker(b"1", made), read)[0] == b"1" and len(made) == 3
    assert keys(tmp_path) == {"a"}


def test_an_entry_that_vanishes_before_it_is_read_is_made_again(tmp_path):
    """Emptying the folder between making and reading costs the work, not the run."""
    made = []

    def vanishing(folder: Path) -> bytes | None:
        if len(made) == 1:
            (folder / "data").unlink()
            return None
        return read(folder)

    assert DiskCache(tmp_path, MEGABYTE, "seal").entry("a", maker(b"1", made), vanishing)[0] == b"1" and len(made) == 2


def test_what_cannot_be_read_back_is_an_error(tmp_path):
    """A disk that never returns what was written is reported, after a bounded number of attempts."""
    with pytest.raises(OSError, match="cannot be read back"):
        DiskCache(tmp_path, MEGABYTE, "seal").entry("a", maker(b"1"), lambda folder: None)


def test_an_entry_in_use_by_another_process_stays(tmp_path):
    """With a full cache two processes both keep their entries; when one has ended, its entry may be removed."""
    other = child(tmp_path, "theirs")
    assert other.stdout.readline() == "ready\n"
    cache = DiskCache(tmp_path, 1000, "seal")
    found, hold = cache.entry("mine", maker(b"y" * 1000), read, num_bytes=1000)
    assert found == b"y" * 1000 and keys(tmp_path) == {"theirs", "mine"}
    other.communicate("")
    cache.entry("mine", maker(b""), read)
    assert keys(tmp_path) == {"mine"} and hold.is_of(tmp_path / "mine" / "seal")


def test_an_entry_being_made_by_another_process_stays_and_a_dead_ones_goes(tmp_path):
    """What a living process is making is left alone, however full the cache; if it is killed, its remains are
    removed."""
    other = child(tmp_path, "theirs", "print('making', flush=True); time.sleep(600)")
    assert other.stdout.readline() == "making\n"
    cache = DiskCache(tmp_path, 1, "seal")
    _, hold = cache.entry("mine", maker(b"y"), read)
    assert any(name.startswith("building-") for name in keys(tmp_path)) and "mine" in keys(tmp_path)
    other.kill()
    other.communicate()
    cache.evict(tmp_path / "mine", 1)
    assert keys(tmp_path) == {"mine"} and hold.is_of(tmp_path / "mine" / "seal")


def test_one_makes_while_others_wait(tmp_path):
    """If two processes request one entry exclusively, one makes it; no lock is left."""
    first, second = (child_alone(tmp_path) for _ in range(2))
    said = first.communicate("")[0] + second.communicate("")[0]
    assert sorted(said.split()) == ["made", "ready", "ready"] and keys(tmp_path) == {"a"}


def child_alone(folder: Path) -> subprocess.Popen:
    """A process that requests the entry `a` exclusively, and says whether it made it."""
    code = CHILD.format(
        source=str(CHECKOUT / "src"),
        folder=str(folder),
        key="a",
        meanwhile="print('made', flush=True); time.sleep(0.5)",
    )
    code = code.replace("lambda folder: folder.name)", "lambda folder: folder.name, alone=True)")
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_failure_leaves_nothing(tmp_path):
    """If making an entry fails, what was written of it is removed."""

    def full(folder: Path) -> None:
        (folder / "data").write_bytes(b"1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        DiskCache(tmp_path, MEGABYTE, "seal").entry("a", full, read, alone=True)
    assert not keys(tmp_path)


@pytest.mark.parametrize("way", ["reserved", "not supported", "no such function"])
def test_space_is_reserved(way, tmp_path, monkeypatch):
    """A file has its size and blocks before anything is written into it, also if the system cannot reserve."""

    def refuse(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if way == "not supported":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    elif way == "no such function":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    size = 2**20 + 12345
    with (tmp_path / "file").open("w+b") as file:
        files.reserve(file, size)
        files.reserve(file, 0)
        assert file.tell() == 0
    stat = (tmp_path / "file").stat()
    assert stat.st_size == size and stat.st_blocks * 512 >= size


def test_a_full_disk_shows_when_space_is_reserved(tmp_path):
    """On a real full file system, reserving fails with its own message, and works once there is room."""
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        (place / "filler").write_bytes(bytes(900_000))
        with (place / "file").open("w+b") as file:
            with pytest.raises(OSError, match="No space left"):
                files.reserve(file, 500_000)
            (place / "filler").unlink()
            files.reserve(file, 500_000)
            file.write(b"x" * 500_000)
    finally:
        subprocess.run(["umount", str(place)], check=True)
