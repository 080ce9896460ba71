"""Claim a results folder for one suite: lock it, and refuse one that belongs to another suite."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych.config.schema import Suite
from triptych.errors import ResultsError
from triptych.results import json_files, layout, reading
from triptych.results.lock import LOCK, Lock, locked
from triptych.storage.files import is_temporary, leads_out, make_folder, sweep
from triptych.storage.given_documents import data_folder, find_documents, is_data_folder
from triptych.suite.growth import Growth, Unlike, grow


@contextmanager
def claim_folder(out: Path, suite: Suite, fresh: bool = False) -> Iterator[Lock]:
    """Lock OUT for this suite: OUT is new, or has the same suite, perhaps with fewer methods and seeds.

    An existing `suite.json` stays as it is: `write_suite` adds methods and seeds once it is known that they can be
    carried out.

    Args:
        out: the results folder.
        suite: the resolved suite, as `check_claim` returned it.
        fresh: rename an existing OUT first, unless a suite is at work there.

    Raises:
        ResultsError: OUT has another suite or other files, another process is using it, or it cannot be written.
    """
    check_claim(out, suite, fresh)
    kept = _set_aside(out) if fresh and out.exists() else None
    make_folder(out)
    if kept is not None:
        _bring_data(kept, out, suite)
    with locked(out) as lock:
        if check_claim(out, suite, fresh=False).suite != suite:
            raise ResultsError(f"Methods or seeds were added to the comparison in {str(out)!r} meanwhile. Start again.")
        if not (out / "suite.json").exists():
            write_suite(out, suite)
        sweep(out)
        yield lock


def _set_aside(out: Path) -> Path:
    """Rename a results folder that no suite is using; returns its new name."""
    with locked(out):
        number = 1
        while (kept := out.with_name(f"{out.name}.before-{number}")).exists():
            number += 1
        try:
            out.rename(kept)
        except OSError as error:
            raise ResultsError(f"The folder {str(out)!r} cannot be renamed: {error.strerror}.") from error
    return kept


def _bring_data(kept: Path, out: Path, suite: Suite) -> None:
    """Copy the suite's documents into a new OUT, if they are in the one that was set aside."""
    data = Path(suite.data).absolute()
    if not data.is_relative_to(data_folder(out).absolute()):
        return
    try:
        shutil.copytree(kept / data.relative_to(out.absolute()), data)
    except (OSError, shutil.Error) as error:
        raise ResultsError(f"The documents of the suite cannot be copied to {str(data)!r}: {error}.") from error


def write_suite(out: Path, suite: Suite) -> None:
    """Write `suite.json` into a folder whose lock is held, unless the same one is there; it may add methods and seeds.

    Raises:
        ResultsError: another suite or other files are there.
    """
    grown = check_claim(out, suite, fresh=False).suite
    file = out / "suite.json"
    there = reading.read_suite(file) if file.exists() else None
    if there != grown:
        json_files.write_json(file, grown.model_dump(mode="json"))
    adds = there is not None and (there.methods, there.seeds) != (grown.methods, grown.seeds)
    if adds and layout.command_file(out).exists():
        note_command(out, adds=True)


def note_command(out: Path, adds: bool = False) -> None:
    """Save the command that this process runs, if any, in a folder whose lock is held; the report shows it.

    The first command is kept: later ones resume what it began.

    Args:
        out: the folder.
        adds: the command adds methods or seeds, so it is appended to those before it.
    """
    if Path(sys.argv[0]).name not in ("triptych", "__main__.py"):
        return
    file, command = layout.command_file(out), shlex.join(["triptych", *sys.argv[1:]])
    if not file.exists():
        json_files.write_json(file, {"command": command})
    elif adds and (kept := str(json_files.read_object(file).get("command"))) != command:
        json_files.write_json(file, {"command": f"{kept} && {command}"})


def check_claim(out: Path, suite: Suite, fresh: bool) -> Growth:
    """Make sure that OUT can be claimed, without writing anything.

    Args:
        out: the results folder.
        suite: the requested suite, resolved.
        fresh: an existing OUT will be renamed.

    Returns:
        The suite that OUT will have: the requested one, with the methods and seeds that OUT already has.

    Raises:
        ResultsError: OUT cannot be claimed; `claim_folder` would raise the same error.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; --out needs a folder.")
    if fresh and out.exists() and Path.cwd().is_relative_to(out.resolve()):
        raise ResultsError(
            f"--fresh renames {str(out)!r}, which is the current folder or holds it: start from a folder outside it."
        )
    if fresh or not out.exists():
        return Growth(suite)
    for path in out.rglob("*"):
        if path.is_symlink() and leads_out(path, out):
            raise ResultsError(
                f"The link {str(path)!r} leads out of the results folder; nothing is written there: remove it."
            )
    if not (out / "suite.json").exists():
        if not all(path.name == LOCK or is_temporary(path) or is_data_folder(path) for path in out.iterdir()):
            raise ResultsError(f"The folder {str(out)!r} holds other files; give --out an empty or a new folder.")
        return Growth(suite)
    wanted = suite.model_copy(update={"data": find_documents({"data": suite.data}, out)["data"]})
    found = grow(reading.read_suite(out / "suite.json"), wanted)
    if isinstance(found, Unlike):
        raise ResultsError(
            f"The folder {str(out)!r} holds another suite: {found.key} is {found.there!r} there and {found.wanted!r} "
            "here. Methods and seeds may be added to it, and nothing else may differ. Give another --out, or --fresh "
            "to start over (what is there is kept under another name)."
        )
    return found
