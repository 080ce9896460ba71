"""Documents given as Python objects: where a results folder holds them, and where they are once it was moved."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONTENT = re.compile(r"[0-9a-f]{32}")


def data_folder(out: Path) -> Path:
    """`OUT/data`: documents that were given as Python objects, each set in a folder named after its content."""
    return out / "data"


def is_data_folder(path: Path) -> bool:
    """Whether a folder is `OUT/data` and holds nothing but such documents."""
    if path.name != "data" or not path.is_dir():
        return False
    return all(_CONTENT.fullmatch(each.name) or each.name.startswith(".objects.") for each in path.iterdir())


def are_given(data: str) -> bool:
    """Whether data is named as documents that were given as Python objects are."""
    return _below_folder(data) is not None


def name_in_folder(data: str) -> str:
    """`data/DIGEST` of documents in a results folder, wherever that is; any other data as it is named."""
    return _below_folder(data) or data


def find_documents(settings: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Settings that name documents where they are: in the results folder, which may have been moved since.

    Args:
        settings: keys of a suite, as a suite file or a record holds them; `data` is a path as it was from the folder in
            which the suite was started.
        place: the folder of that file: OUT, or below it.

    Returns:
        The same, with the path of today where `data` is such documents and they are there.
    """
    data = settings.get("data")
    name = _below_folder(data) if isinstance(data, str) else None
    if name is None:
        return dict(settings)
    above = (place, *place.parents, *place.absolute().parents)
    return {**settings, "data": next((str(each / name) for each in above if (each / name).is_dir()), data)}


def _below_folder(data: str) -> str | None:
    """`data/DIGEST` where that is what a path ends in."""
    parts = Path(data).parts
    ours = parts[-2:-1] == ("data",) and _CONTENT.fullmatch(parts[-1])
    return f"data/{parts[-1]}" if ours else None
