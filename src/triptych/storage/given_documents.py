"""Documents given as Python objects: their place in a results folder, also after the folder was moved."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONTENT = re.compile(r"[0-9a-f]{32}")


def data_folder(out: Path) -> Path:
    """`OUT/data`: documents given as Python objects, each set in a folder named after its hash."""
    return out / "data"


def is_data_folder(path: Path) -> bool:
    """Whether a folder is `OUT/data` and contains only such documents."""
    if path.name != "data" or not path.is_dir():
        return False
    return all(_CONTENT.fullmatch(each.name) or each.name.startswith(".objects.") for each in path.iterdir())


def are_given(data: str) -> bool:
    """Whether a data path has the form of documents given as Python objects."""
    return _below_folder(data) is not None


def name_in_folder(data: str) -> str:
    """`data/DIGEST` for documents in a results folder, wherever that is; other data unchanged."""
    return _below_folder(data) or data


def find_documents(settings: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Update the path of documents in a results folder that may have been moved.

    Args:
        settings: keys of a suite, from a suite file or a record; `data` is a path as seen from the folder in which
            the suite was started.
        place: the folder of that file: OUT or a folder in it.

    Returns:
        The settings, with the current path in `data` if it names such documents and they are found.
    """
    data = settings.get("data")
    name = _below_folder(data) if isinstance(data, str) else None
    if name is None:
        return dict(settings)
    above = (place, *place.parents, *place.absolute().parents)
    return {**settings, "data": next((str(each / name) for each in above if (each / name).is_dir()), data)}


def _below_folder(data: str) -> str | None:
    """`data/DIGEST` if a path ends in that, else None."""
    parts = Path(data).parts
    ours = parts[-2:-1] == ("data",) and _CONTENT.fullmatch(parts[-1])
    return f"data/{parts[-1]}" if ours else None
