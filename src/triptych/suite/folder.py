"""Claim a results folder for one suite: lock it, and refuse what belongs to another suite."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych.config.schema import Suite
from triptych.errors import ResultsError
from triptych.results import json_files, reading
from triptych.results.lock import LOCK, Lock, locked
from triptych.storage.files import is_temporary, leads_out, sweep
from triptych.suite.growth import Growth, Unlike, grow


@contextmanager
def claim_folder(out: Path, suite: Suite, fresh: bool = False) -> Iterator[Lock]:
    """Lock OUT and make it ready for this suite: new, or holding the same suite or fewer rows and seeds of it.

    A `suite.json` that is there stays as it is: `write_suite` adds rows and seeds once it is known that they can be
    carried out.

    Args:
        out: the results folder.
        suite: the resolved suite, as `check_claim` returned it.
        fresh: move what OUT holds to another name first, unless a suite is at work there.

    Raises:
        ResultsError: OUT holds another suite or other files, another process works there, or it cannot be written.
    """
    check_claim(out, suite, fresh)
    if fresh and out.exists():
        _set_aside(out)
    make_folder(out)
    with locked(out) as lock:
        if check_claim(out, suite, fresh=False).suite != suite:
            raise ResultsError(f"Rows or seeds were added to the comparison in {str(out)!r} meanwhile. Start again.")
        if not (out / "suite.json").exists():
            write_suite(out, suite)
        sweep(out)
        yield lock


def _set_aside(out: Path) -> None:
    """Rename a results folder that no suite is using."""
    with locked(out):
        number = 1
        while (kept := out.with_name(f"{out.name}.before-{number}")).exists():
            number += 1
        try:
            out.rename(kept)
        except OSError as error:
            raise ResultsError(f"The folder {str(out)!r} cannot be renamed: {error.strerror}.") from error


def make_folder(out: Path) -> None:
    """Make a results folder and those above it.

    Raises:
        ResultsError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"The folder {str(out)!r} cannot be made: {error.strerror}.") from error


def write_suite(out: Path, suite: Suite) -> None:
    """Write `suite.json` into a folder whose lock is held, unless the same suite is there; rows and seeds may be added.

    Raises:
        ResultsError: another suite or other files are there.
    """
    grown = check_claim(out, suite, fresh=False).suite
    file = out / "suite.json"
    if not file.exists() or reading.read_suite(file) != grown:
        json_files.write_json(file, grown.model_dump(mode="json"))


def check_claim(out: Path, suite: Suite, fresh: bool) -> Growth:
    """Make sure that OUT can be claimed, without writing anything.

    Args:
        out: the results folder.
        suite: the resolved suite that is asked for.
        fresh: what OUT holds will be moved to another name.

    Returns:
        The suite that OUT will have: the one asked for, with the rows and seeds that OUT has already.

    Raises:
        ResultsError: it cannot; `claim_folder` would say the same.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; --out needs a folder.")
    if fresh or not out.exists():
        return Growth(suite)
    for path in out.rglob("*"):
        if path.is_symlink() and leads_out(path, out):
            raise ResultsError(
                f"The link {str(path)!r} leads out of the results folder; nothing is written there: remove it."
            )
    if not (out / "suite.json").exists():
        if any(path.name != LOCK and not is_temporary(path) for path in out.iterdir()):
            raise ResultsError(f"The folder {str(out)!r} holds other files; give --out an empty or a new folder.")
        return Growth(suite)
    found = grow(reading.read_suite(out / "suite.json"), suite)
    if isinstance(found, Unlike):
        raise ResultsError(
            f"The folder {str(out)!r} holds another suite: {found.key} is {found.there!r} there and {found.wanted!r} "
            "here. Rows and seeds may be added to it, and nothing else may differ. Give another --out, or --fresh to "
            "start over (what is there is kept under another name)."
        )
    return found
