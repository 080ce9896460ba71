"""Where prepared data is kept if the user chose no folder and the home folder is not writable."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from triptych.storage.cache_place import cache_place, give_matplotlib_a_folder


@pytest.fixture(autouse=True)
def _no_choice(tmp_path, monkeypatch):
    monkeypatch.delenv("TRIPTYCH_CACHE", raising=False)
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def test_a_chosen_folder_and_the_home_folder_come_first(tmp_path, monkeypatch):
    """`TRIPTYCH_CACHE` is used as given; without it, the home folder is used and the cache created there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = cache_place()
    assert place == (tmp_path / "home" / ".cache" / "triptych", "") and place.folder.is_dir()
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "mine"))
    assert cache_place() == (tmp_path / "mine", "") and not (tmp_path / "mine").exists()


def test_a_home_that_cannot_be_written_is_replaced_and_it_is_said(tmp_path, monkeypatch):
    """A fixed per-user folder for temporary files is used, and the note names the variable."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # nothing can be created below a file, not even by root
    place = cache_place()
    assert place.folder.parent == tmp_path / "temporary" and place.folder.stat().st_mode & 0o777 == 0o700
    assert "TRIPTYCH_CACHE" in place.note and str(place.folder) in place.note
    assert cache_place() == place


@pytest.mark.parametrize("chosen", [False, True])
def test_matplotlib_says_nothing_where_the_home_folder_cannot_be_written(tmp_path, monkeypatch, chosen):
    """A report's modules are imported without output; Matplotlib's files are in the folder of prepared data."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    if chosen:
        monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "mine"))
    code = "import triptych.reporting, matplotlib; print(matplotlib.get_configdir())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "" and Path(done.stdout.strip()) == cache_place().folder / "matplotlib"


def test_a_home_folder_that_can_be_written_is_left_to_matplotlib(tmp_path, monkeypatch):
    """Nothing is set if the home folder is writable or the user has chosen."""
    monkeypatch.setenv("HOME", str(tmp_path / "not/made/yet"))
    give_matplotlib_a_folder()
    assert "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    give_matplotlib_a_folder()
    assert os.environ["MPLCONFIGDIR"] == "mine"


@pytest.mark.parametrize("planted", ["link", "open to others"])
def test_a_folder_that_somebody_planted_is_not_used(planted, tmp_path, monkeypatch):
    """A link, or a folder writable by others, in place of the user's folder is not used."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    own = cache_place().folder
    own.rmdir()
    if planted == "link":
        (tmp_path / "elsewhere").mkdir()
        own.symlink_to(tmp_path / "elsewhere")
    else:
        own.mkdir()
        own.chmod(0o777)
    found = cache_place().folder
    assert found != own and found.parent == own.parent and not found.is_symlink()
    assert Path(found).stat().st_mode & 0o077 == 0
