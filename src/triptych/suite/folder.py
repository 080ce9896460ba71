"""Claim a results folder for one suite: lock it, and refuse what belongs to another suite."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triptych.config.schema import Suite
from triptych.errors import ResultsError
from triptych.results import json_files, reading
from triptych.results.lock import LOCK, Lock, locked
from triptych.storage.files import is_temporary, leads_out, sweep


@contextmanager
def claim_folder(out: Path, suite: Suite, fresh: bool = False) -> Iterator[Lock]:
    """Lock OUT and make it ready for this suite: new, or holding the same suite, which is then resumed.

    Args:
        out: the results folder.
        suite: the resolved suite.
        fresh: move what OUT holds to another name first, unless a suite is at work there.

    Raises:
        ResultsError: OUT holds another suite or other files, another process works there, or it cannot be written.
    """
    check_claim(out, suite, fresh)
    if fresh and out.exists():
        _set_aside(out)
    make_folder(out)
    with locked(out) as lock:
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
    """Write `suite.json` into a folder whose lock is held, unless the same suite is there."""
    check_claim(out, suite, fresh=False)
    if not (out / "suite.json").exists():
        json_files.write_json(out / "suite.json", suite.model_dump(mode="json"))


def check_claim(out: Path, suite: Suite, fresh: bool) -> None:
    """Make sure that OUT can be claimed, without writing anything.

    Raises:
        ResultsError: it cannot; `claim_folder` would say the same.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; --out needs a folder.")
    if fresh or not out.exists():
        return
    for path in out.rglob("*"):
        if path.is_symlink() and leads_out(path, out):
            raise ResultsError(
                f"The link {str(path)!r} leads out of the results folder; nothing is written there: remove it."
            )
    if not (out / "suite.json").exists():
        if any(path.name != LOCK and not is_temporary(path) for path in out.iterdir()):
            raise ResultsError(f"The folder {str(out)!r} holds other files; give --out an empty or a new folder.")
        return
    there, wanted = (one.model_dump(mode="json") for one in (reading.read_suite(out / "suite.json"), suite))
    different = _difference(there, wanted)
    if different:
        key, old, new = different
        raise ResultsError(
            f"The folder {str(out)!r} holds another suite: {key} is {old!r} there and {new!r} here. "
            "Give another --out, or --fresh to start over (what is there is kept under another name)."
        )


def _difference(there: Any, wanted: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first place where two settings differ."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*there, *wanted]):
            place = f"{key}.{name}" if key else str(name)
            if found := _difference(there.get(name), wanted.get(name), place):
                return found
        return None
    return None if there == wanted else (key, there, wanted)
