"""File locks: shared or exclusive, released with the object, and a clear error on systems without them."""

import errno
import subprocess
import sys

import pytest

from triptych.storage.locks import FileLock


@pytest.mark.parametrize(("first", "second", "free"), [(True, True, True), (True, False, False), (False, True, False)])
def test_shared_locks_exclude_only_exclusive_ones(first, second, free, tmp_path):
    """Two shared locks can be held together; an exclusive one waits until all others are closed."""
    path = tmp_path / "file"
    path.touch()
    held = FileLock(path, shared=first)
    if free:
        FileLock(path, shared=second, wait=False).close()
    else:
        with pytest.raises(BlockingIOError):
            FileLock(path, shared=second, wait=False)
    held.close()
    FileLock(path, shared=second, wait=False).close()


def test_a_lock_knows_its_file(tmp_path):
    """A lock belongs to the file it was taken on, also under a new name, and to no file that replaced it."""
    held = FileLock(tmp_path / "file", create=True)
    assert held.is_of(tmp_path / "file")
    (tmp_path / "file").rename(tmp_path / "moved")
    assert held.is_of(tmp_path / "moved") and not held.is_of(tmp_path / "file")
    (tmp_path / "file").touch()
    assert not held.is_of(tmp_path / "file")


def test_a_system_without_locks_can_import_the_package_and_says_what_is_missing(tmp_path):
    """Without what Windows lacks, the command and the storage modules can be imported, a lock fails with a message, and
    files can still be written."""
    code = (
        "import os, signal, sys\n"
        "for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'): sys.modules[name] = None\n"
        "for name in ('SIGHUP', 'SIGKILL', 'SIGALRM', 'SIGUSR1'): delattr(signal, name)\n"
        "for name in ('O_NOFOLLOW', 'fork', 'killpg', 'posix_fallocate', 'sched_getaffinity'): delattr(os, name)\n"
        "from pathlib import Path\n"
        "import triptych.cli.commands, triptych.suite.processes\n"
        "from triptych.results import lock, reading\n"
        "from triptych.storage import disk_cache, files, locks\n"
        "from triptych.errors import ResultsError\n"
        "folder = Path(sys.argv[1])\n"
        "files.write_bytes(folder / 'a.json', b'1')\n"
        "try:\n"
        "    with lock.locked(folder): pass\n"
        "except ResultsError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "this system cannot lock files" in done.stdout and (tmp_path / "a.json").read_bytes() == b"1"


def test_what_is_not_a_regular_file_is_not_locked(tmp_path):
    """A folder in place of the lock file is refused at once."""
    with pytest.raises(OSError) as caught:
        FileLock(tmp_path)
    assert caught.value.errno == errno.EINVAL
