"""Sources of documents with summaries: your own tables, the Hugging Face Hub and the built-in newswire."""

import difflib
import os
import re
from pathlib import Path

from triptych.config.schema import Columns
from triptych.contracts import Dataset
from triptych.datasets import newswire  # noqa: F401  # registers itself
from triptych.datasets.hub import Hub, without_options
from triptych.datasets.tables import Tables, is_table
from triptych.errors import DataError, nearest
from triptych.registry import find
from triptych.storage.files import expand_path

__all__ = ["open_dataset"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def open_dataset(data: str, *, data_config: str | None, data_revision: str, columns: Columns) -> Dataset:
    """Open the data set that `--data` names: a registered one, a folder or file, or one on the Hub.

    Args:
        data: a registered name, else a path that exists or text that looks like a path, else a name on the Hub.
        data_config: configuration of a data set on the Hub, or of a local copy of a Hub repository.
        data_revision: branch, tag or commit of a data set on the Hub.
        columns: column names, if they are not the usual ones.

    Raises:
        DataError: the path does not exist or contains no table, or the name cannot be that of a data set; the message
            suggests the nearest known name.
    """
    known = without_options()
    if data in known:
        return find(Dataset, data)()
    path = expand_path(data)
    if data_config is not None and _is_hub_copy(path, data_config):
        return Hub(name=str(path), config=data_config, columns=columns)
    if path.exists() or _looks_like_a_path(data):
        tables = Tables(path=path, columns=columns)
        tables.splits()  # fail early if the folder is missing or empty
        return tables
    mistyped = "/" not in data and difflib.get_close_matches(data, known, n=1, cutoff=0.8)
    if mistyped or not _HUB_NAME.fullmatch(data):
        raise DataError(
            f"The data {data!r} is not a folder, a file, a registered data set or a name on the "
            f"Hub.{nearest(data, known)} Your own folder is written ./NAME."
        )
    return Hub(name=data, config=data_config, revision=data_revision, columns=columns)


def _is_hub_copy(path: Path, config: str) -> bool:
    """Whether a folder is laid out like a Hub repository that has this configuration as a subfolder or in its card."""
    card = path / "README.md"
    return (path / config).is_dir() or (card.is_file() and f"config_name: {config}" in card.read_text(errors="replace"))


def _looks_like_a_path(data: str) -> bool:
    """Whether a name is meant as a path, even if nothing exists there."""
    return (
        data.startswith((".", "~", os.sep))
        or data.count("/") > 1
        or is_table(Path(data))
        or data.lower().endswith(".zip")
    )
