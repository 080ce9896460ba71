"""What the runs of a row keep for each other (the search, its trials, the micro-batch that fits), and what it was made
with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from triptych.errors import ResultsError
from triptych.results import store

MADE_WITH = "made_with"

Content = TypeVar("Content", bound=BaseModel)
Tell = Callable[[str], None]


def keep(path: Path, content: BaseModel, made_with: Mapping[str, Any]) -> None:
    """Write something for the row's other runs, together with everything that it depends on.

    Raises:
        ResultsError: it cannot be written.
    """
    store.write_json(path, {**content.model_dump(mode="json"), MADE_WITH: dict(made_with)})


def find(
    path: Path, kind: type[Content], name: str, made_with: Mapping[str, Any] | None, tell: Tell = lambda message: None
) -> Content | None:
    """What an earlier run kept, unless it was made with other settings, data, weights or versions.

    Args:
        path: the file; there may be none.
        kind: what it contains.
        name: what to call it in a message.
        made_with: what this run works with; None: anything will do.
        tell: receives a sentence where the file is there and does not belong to this run.

    Returns:
        The content, or None where there is none that belongs to this run.

    Raises:
        ResultsError: the file is unreadable or contains something else.
    """
    if not path.exists():
        return None
    content = store.read_json(path)
    if not isinstance(content, dict):
        raise ResultsError(f"{str(path)!r} is not a {name}. Delete it to make it again.")
    found = content.pop(MADE_WITH, None)
    if made_with is not None and found != made_with:
        known = found if isinstance(found, dict) else {}
        differing = [key for key in made_with if known.get(key) != made_with[key]] or ["circumstances"]
        tell(f"{path.name} was made with other {', '.join(differing)} than this run's: it is made again")
        return None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise ResultsError(f"{str(path)!r} is not a {name}: {problem}. Delete it to make it again.") from None
