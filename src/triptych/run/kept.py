"""Files shared by the runs of a method (search, trials, micro-batch size), with the settings they were made with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from triptych.results import json_files

MADE_WITH = "made_with"

Content = TypeVar("Content", bound=BaseModel)
Note = Callable[[str], None]


def keep(path: Path, content: BaseModel, made_with: Mapping[str, Any]) -> None:
    """Write content for the entry's other runs, together with everything it depends on.

    Args:
        path: the file.
        content: the content to write.
        made_with: everything the content depends on.

    Raises:
        ResultsError: it cannot be written.
    """
    json_files.write_json(path, {**content.model_dump(mode="json"), MADE_WITH: dict(made_with)})


def find_kept(
    path: Path, kind: type[Content], name: str, made_with: Mapping[str, Any] | None, note: Note = lambda message: None
) -> Content | None:
    """Read content kept by an earlier run, unless it was made with other settings, data, weights or versions.

    Args:
        path: the file, which may not exist.
        kind: the type of its content.
        name: its name in messages.
        made_with: everything this run depends on; None: anything is accepted.
        note: called with a sentence if the file exists but does not belong to this run.

    Returns:
        The content; None if there is none for this run.

    Raises:
        ResultsError: the file is unreadable or contains something else.
    """
    if not path.exists():
        return None
    again = "delete it to make it again"
    content = json_files.read_object(path, again)
    found = content.pop(MADE_WITH, None)
    if made_with is not None and found != made_with:
        known = found if isinstance(found, dict) else {}
        differing = [key for key in made_with if known.get(key) != made_with[key]] or ["circumstances"]
        note(f"{path.name} was made with other {', '.join(differing)} than this run's: it is made again")
        return None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        json_files.refuse(path, f"is not a {name}: {error.errors()[0]['msg']}", again)
