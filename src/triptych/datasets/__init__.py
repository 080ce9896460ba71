"""Where documents and summaries come from: tables of your own, the hub, and the embedded newswire."""

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
    """The data set that `--data` names: a registered one, a folder or file, or one of the hub.

    Args:
        data: a registered name, else a path that exists or looks like one, else a hub name.
        data_config: a hub data set's configuration; with a folder that is a copy of a hub repository, one of its.
        data_revision: a hub data set's branch, tag or commit.
        columns: names of columns, where they are not the usual ones.

    Raises:
        DataError: the path is missing or holds no table, or the name can mean nothing; the nearest known is given.
    """
    known = without_options()
    if data in known:
        return find(Dataset, data)()
    path = expand_path(data)
    if data_config is not None and _is_hub_copy(path, data_config):
        return Hub(name=str(path), config=data_config, columns=columns)
    if path.exists() or _looks_like_a_path(data):
        tables = Tables(path=path, columns=columns)
        tables.splits()  # a missing or empty folder is told at once
        return tables
    mistyped = "/" not in data and difflib.get_close_matches(data, known, n=1, cutoff=0.8)
    if mistyped or not _HUB_NAME.fullmatch(data):
        raise DataError(
            f"The data {data!r} is no folder, no file, no registered data set and no name on the "
            f"hub.{nearest(data, known)} Your own folder is written ./NAME."
        )
    return Hub(name=data, config=data_config, revision=data_revision, columns=columns)


def _is_hub_copy(path: Path, config: str) -> bool:
    """Whether a folder is laid out as a repository of the hub that has this configuration, as a folder or in its
    card."""
    card = path / "README.md"
    return (path / config).is_dir() or (card.is_file() and f"config_name: {config}" in card.read_text(errors="replace"))


def _looks_like_a_path(data: str) -> bool:
    return (
        data.startswith((".", "~", os.sep))
        or data.count("/") > 1
        or is_table(Path(data))
        or data.lower().endswith(".zip")
    )
