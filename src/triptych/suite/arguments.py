"""The suite that a Python call asks for: settings and arguments are merged, data objects are written to files."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.config import reading
from triptych.config.schema import Columns, Suite, make_suite
from triptych.datasets.objects import is_object, write_objects
from triptych.errors import ConfigError, ResultsError
from triptych.results import json_files, layout
from triptych.storage.files import named_path
from triptych.storage.given_documents import data_folder, name_in_folder


@dataclass(frozen=True)
class SuiteArguments:
    """The arguments of a call that define a suite; None means not given.

    Attributes:
        suite_file: a suite file, or a results folder.
        preset: the preset to start from; None: `reading.default_preset`.
        settings: keys of a suite file, with tables as dictionaries or dotted keys.
        model: the base model.
        data: the data: a path, a name, or an object as `write_objects` takes it.
        seeds: a list of seeds, one seed, or a text such as `0,1,2`.
        out: the results folder, which also names a suite that has no other name; None: `suite_file` if that is
            a results folder, else `results/NAME`.
    """

    suite_file: str | Path | None = None
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | Path | None = None
    data: Any = None
    seeds: Sequence[int] | int | str | None = None
    out: str | Path | None = None

    @property
    def is_folder(self) -> bool:
        """Whether a results folder is given instead of a suite file."""
        return self.suite_file is not None and (named_path(self.suite_file) / "suite.json").is_file()

    @property
    def file(self) -> Path | str | None:
        """The suite file."""
        if self.suite_file is None or not self.is_folder:
            return self.suite_file
        return Path(self.suite_file) / "suite.json"

    @property
    def folder(self) -> Path | None:
        """The results folder, if it is named."""
        if self.out is None:
            return Path(self.suite_file) if self.is_folder and self.suite_file else None
        return named_path(self.out)

    @property
    def overriding(self) -> dict[str, Any]:
        """The keys of a suite that settings and arguments give; arguments override settings."""
        given = {"model": self.model and str(self.model), "data": self.data, "seeds": self.seeds}
        over = {**reading.nested(self.settings), **{key: value for key, value in given.items() if value is not None}}
        if isinstance(over.get("seeds"), int | str):
            over["seeds"] = reading.parse_seeds(over["seeds"])
        if isinstance(over.get("data"), Path):
            over["data"] = str(over["data"])
        return over

    def _naming(self) -> dict[str, Any]:
        """The suite's name, if a results folder is named and nothing else names the suite: that folder's name.

        An existing folder keeps the name of its suite.
        """
        named = self.file is not None and "name" in reading.read_suite_file(Path(self.file))
        if self.out is None or named:
            return {}
        out = Path(os.path.abspath(named_path(self.out)))
        with suppress(ResultsError, ConfigError):
            if (out / "suite.json").is_file():
                return {"name": make_suite({"name": json_files.read_object(out / "suite.json").get("name")}).name}
            if self.preset is None:
                return {"name": make_suite({"name": out.name}).name}
        return {}  # what is there is refused later; no suite can have such a name

    def as_kept(self, suite: Suite, out: Path) -> Suite:
        """The suite as `compare` would write it: a data object is in `OUT/data`, wherever it is now."""
        if not is_object(self.overriding.get("data", "")):
            return suite
        return suite.model_copy(update={"data": str(data_folder(out) / Path(suite.data).name)})

    @contextmanager
    def settings_with_files(self, keep: bool = True) -> Iterator[dict[str, Any]]:
        """Yield what the call overrides, with a name after `OUT`, and with a data object written to `OUT/data`.

        Args:
            keep: False: write it to a temporary folder instead, for a call that leaves no files.

        Raises:
            InputError: the data is of an unknown kind, or cannot be written. Files are removed again if an exception
                ends the block before a suite that names them was written.
        """
        over = self._naming() | self.overriding
        data = over.get("data")
        if data is None or not is_object(data):
            yield over
            return
        merged = reading.merge_settings(self.file, self.preset, over | {"data": ""})
        named = make_suite({key: merged[key] for key in ("name", "columns") if key in merged})
        folder = data_folder(layout.results_folder(self.folder, named.name))
        with _written(data, folder, named.columns, keep) as place:
            yield over | {"data": str(place)}


@contextmanager
def _written(data: Any, folder: Path, columns: Columns, keep: bool) -> Iterator[Path]:
    if not keep:
        with tempfile.TemporaryDirectory(prefix="triptych-") as temporary:
            yield write_objects(data, data_folder(Path(temporary)), columns)  # messages name it as if it were below OUT
        return
    out = folder.parent
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; a folder is needed for the results.")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    before = set(folder.iterdir()) if folder.is_dir() else set()
    try:
        place = write_objects(data, folder, columns)
        try:
            yield place
        except BaseException:
            if place not in before and not _is_named(out, place):
                shutil.rmtree(place, ignore_errors=True)
            raise
    finally:
        with suppress(OSError):  # a folder that is not empty is kept
            for each in made:
                each.rmdir()


def _is_named(out: Path, data: Path) -> bool:
    """Whether the suite of a results folder reads these documents."""
    with suppress(ResultsError):
        named = str(json_files.read_object(out / "suite.json").get("data"))
        return name_in_folder(named) == name_in_folder(str(data))
    return False
