"""Data sets of the Hugging Face Hub, read with the package `datasets`; code from the Hub is never executed."""

import glob
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field

from triptych.config.schema import Columns
from triptych.contracts import SPLITS, Dataset, Example
from triptych.datasets.tables.columns import id_cell, list_notes, recognize, summary_cell, text_cell
from triptych.datasets.tables.folders import ALL, near_name
from triptych.datasets.tables.splits import Assignment, assign_exact
from triptych.errors import DataError, nearest
from triptych.models.hub_access import HubRefusal, find_commit, is_interruption, offline_if_unreachable, why_not_asked
from triptych.registry import register, registered
from triptych.storage.files import expand_path


@register("hub")
class Hub(Dataset):
    """A data set of the Hugging Face Hub, or a local copy of one."""

    name: str = Field(description="OWNER/NAME on the Hub, or a folder laid out like one of its repositories")
    config: str | None = Field(None, description="name of one of its configurations; null for the only one")
    revision: str = Field("main", description="branch, tag or commit")
    columns: Columns = Field(Columns(), description="column names, if they are not the usual ones")

    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test exist; `("all",)` for a single split with another name.

        Raises:
            DataError: the data set cannot be downloaded or loaded, or the roles of its splits are ambiguous.
        """
        return tuple(self._splits)

    def examples(self, split: str) -> Iterator[Example]:
        """The rows of a split in their original order.

        Args:
            split: one of `splits()`.

        Raises:
            DataError: the data set has no such split, no such columns, no rows or no summaries.
        """
        if split not in self._splits:
            raise DataError(f"{self._title} has no split {split!r}.{nearest(split, self._splits)}")
        table = self._splits[split]
        where = f"{self._title}, split {split!r}"
        roles = recognize(table.column_names, self.columns, where)
        wanted = [roles.document, roles.summary, *([roles.id] if roles.id else [])]
        with_summary = 0
        for row, cells in enumerate(table.select_columns(wanted), 1):
            place = f"{where}, row {row}"
            cell = cells[roles.summary]
            summary = summary_cell(cell, cells[roles.document], roles.summary, place, "--set columns.summary")
            with_summary += bool(summary.strip())
            key = id_cell(cells[roles.id] if roles.id else None, split, row, place)
            yield Example(
                key, text_cell(cells[roles.document], roles.document, place, "--set columns.document"), summary
            )
        if not with_summary:
            raise DataError(
                f"{where}: none of the {len(table)} rows has a summary in column {roles.summary!r}. Summaries are "
                "needed in every split; name another column with --set columns.summary=NAME."
            )

    def fingerprint(self) -> str:
        """A digest of the options and of the fingerprints that `datasets` computes for the content of every split."""
        contents = [f"{split}\t{len(table)}\t{table._fingerprint}" for split, table in self._splits.items()]
        return sha256("\n".join([self.model_dump_json(), *contents]).encode()).hexdigest()

    def columns_read(self) -> dict[str, str]:
        """The columns read from the first split."""
        return recognize(next(iter(self._splits.values())).column_names, self.columns, self._title).as_names()

    def notes(self) -> tuple[str, ...]:
        """Sentences about splits that are not read or have unusual names, and about columns that contain lists."""
        table = next(iter(self._splits.values()))
        roles = recognize(table.column_names, self.columns, self._title)
        first = table.select_columns([roles.document, roles.summary])[0] if len(table) else {}
        left = self._assignment.left if self._assignment.named else []
        unread = [f"Not read: the split{'s' * (len(left) > 1)} {', '.join(left)} of the data set."] if left else []
        return (*self._assignment.notes, *unread, *list_notes(first.items()))

    def commit_read(self) -> str | None:
        """The commit of the repository on the Hub; None for a local copy."""
        return None if Path(self.name).is_dir() or not self._loaded else self._commit

    @property
    def _title(self) -> str:
        return f"data set {self.name!r}" + (f" ({self.config})" if self.config else "")

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        """The memory-mapped tables of `datasets`, by split name in the data set."""
        import datasets  # imported here because it takes a second and other data sources do not need it

        # The required versions have no trust_remote_code: a repository with a loading script is refused.
        try:
            if Path(self.name).is_dir():
                return datasets.load_dataset(self.name, self.config, revision=self.revision)
            with offline_if_unreachable():
                if datasets.config.HF_HUB_OFFLINE:
                    return self._from_cache()
                loaded = datasets.load_dataset(self.name, self.config, revision=self._commit)
                self._check_commit(loaded)
        except Exception as error:  # many libraries are involved; whatever fails, the data set is unavailable
            raise self._explained(error) from error
        return loaded

    @cached_property
    def _commit(self) -> str:
        """The commit of the revision, looked up once, so that everything is read from the same commit."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return find_commit(self.name, self.revision, "dataset", "README.md")
        except LocalEntryNotFoundError:
            made = self._made("*")  # the cache of `datasets` may have been copied without the Hub's cache
            if self.revision != "main" or not made:
                raise
            return made[-1].name

    def _made(self, commit: str) -> list[Path]:
        """The folders of the tables that `datasets` built from a commit, or from any commit (`*`), oldest first."""
        import datasets
        from datasets.naming import camelcase_to_snakecase

        owner, _, name = self.name.rpartition("/")
        cache = Path(datasets.config.HF_DATASETS_CACHE, "___".join(filter(None, [owner, camelcase_to_snakecase(name)])))
        found = cache.glob(f"{glob.escape(self.config or '') or '*'}/*/{commit}")
        whole = [each for each in found if each.is_dir() and each.suffix != ".incomplete"]
        return sorted(whole, key=lambda each: each.stat().st_mtime)

    def _from_cache(self) -> dict[str, Any]:
        """The tables built from this commit; by default `datasets` would take the most recently built ones.

        Raises:
            ConnectionError: the cache has no tables of this commit and configuration.
        """
        from datasets.packaged_modules.cache.cache import Cache

        made = self._made(self._commit)
        if not made:
            raise ConnectionError(f"it is not in the cache at commit {self._commit}, and the Hub is not asked")
        if len(configs := sorted({each.parts[-3] for each in made})) > 1:
            raise ValueError(f"Config name is missing: the cache has {', '.join(configs)}")
        builder = Cache(
            repo_id=self.name,
            dataset_name=self.name.rpartition("/")[2],
            config_name=configs[0],
            version=made[-1].parent.name,
            hash=self._commit,
        )
        builder.download_and_prepare()
        return builder.as_dataset()

    def _check_commit(self, loaded: dict[str, Any]) -> None:
        """Refuse tables of another commit, which `datasets` takes from its cache if a download fails.

        Raises:
            ConnectionError: the tables are of another commit.
        """
        files = [Path(file["filename"]) for table in loaded.values() for file in table.cache_files]
        others = sorted({file.parent.name for file in files} - {self._commit})
        if others:
            raise ConnectionError(
                f"the download of commit {self._commit} failed; the cache holds commit {', '.join(others)}"
            )

    @cached_property
    def _assignment(self) -> Assignment:
        """Which of the data set's splits serve as train, validation and test."""
        return assign_exact(list(self._loaded), self._title)

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """The tables by role: train, validation, test, or all."""
        named = self._assignment.named
        if named:
            return {split: self._loaded[named[split][0]] for split in SPLITS if split in named}
        if len(self._loaded) != 1:
            raise DataError(f"{self._title} has no training split, only {', '.join(self._loaded) or 'nothing'}.")
        return {ALL: next(iter(self._loaded.values()))}

    def _explained(self, error: Exception) -> DataError:
        """The message for an error of `datasets` or of the network."""
        from datasets.exceptions import DatasetNotFoundError

        if isinstance(error, HubRefusal):
            return DataError(f"{error}{self._meant()}")
        reason = " ".join(str(error).split())[:400].rstrip(".")
        unreachable = why_not_asked(error)
        if unreachable or is_interruption(error) or isinstance(error, ConnectionError):
            return DataError(
                f"The {self._title} could not be downloaded from the Hub: {unreachable or reason}. Give a local folder "
                "with --data, or set HF_HOME to a cache that contains it (and HF_HUB_OFFLINE=1, to skip the attempt to "
                f"connect).{self._meant()}"
            )
        if isinstance(error, DatasetNotFoundError):
            return DataError(
                f"There is no {self._title} on the Hub that you may read: {reason}. Check the name and the revision "
                f"{self.revision!r}, log in with `hf auth login` if it is gated, or give a local folder with --data."
                + self._meant()
            )
        if isinstance(error, ValueError) and "config" in reason.lower():
            return DataError(
                f"The {self._title} needs another configuration: {reason}. Choose one with --set data_config=NAME."
            )
        scripted = "Dataset scripts" in reason
        converted = " The Hub keeps a Parquet copy of many of these: --set data_revision=refs/convert/parquet."
        return DataError(
            f"The {self._title} cannot be loaded: {type(error).__name__}: {reason}. Give a local folder of CSV, JSON "
            f"lines or Parquet files with --data instead.{converted if scripted else ''}"
        )

    def _meant(self) -> str:
        """What else may be meant: a folder or file with a similar name or, without an owner, data not from the Hub."""
        own = "" if "/" in self.name else f" Data sets that do not come from the Hub: {', '.join(without_options())}."
        return f"{near_name(expand_path(self.name))}{own}"


def without_options() -> list[str]:
    """Names of the registered data sets that need no further options."""
    complete = {
        name: cls
        for name, cls in registered(Dataset).items()
        if not any(field.is_required() for field in cls.model_fields.values())
    }
    return list(complete)
