"""Where prepared data is kept when nobody chose a folder and the home folder cannot be written."""

import tempfile
from pathlib import Path

import pytest

from triptych.storage.cache_place import cache_place


@pytest.fixture(autouse=True)
def _no_choice(tmp_path, monkeypatch):
    monkeypatch.delenv("TRIPTYCH_CACHE", raising=False)
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def test_a_chosen_folder_and_the_home_folder_come_first(tmp_path, monkeypatch):
    """`TRIPTYCH_CACHE` is taken as it is; without it, the home folder, which is then made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = cache_place()
    assert place == (tmp_path / "home" / ".cache" / "triptych", "") and place.folder.is_dir()
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "mine"))
    assert cache_place() == (tmp_path / "mine", "") and not (tmp_path / "mine").exists()


def test_a_home_that_cannot_be_written_is_replaced_and_it_is_said(tmp_path, monkeypatch):
    """A folder of the user's own for temporary files is used, always the same, and the note names the variable."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # nothing can be made below a file, not even by root
    place = cache_place()
    assert place.folder.parent == tmp_path / "temporary" and place.folder.stat().st_mode & 0o777 == 0o700
    assert "TRIPTYCH_CACHE" in place.note and str(place.folder) in place.note
    assert cache_place() == place


@pytest.mark.parametrize("planted", ["link", "open to others"])
def test_a_folder_that_somebody_planted_is_not_used(planted, tmp_path, monkeypatch):
    """A link, or a folder that others can write, in the place of the user's own is left alone."""
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
