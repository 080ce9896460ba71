"""Find which tables of a folder, file or zip archive belong to which split, and what is not read."""

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from triptych.contracts import SPLITS
from triptych.datasets.tables import splits
from triptych.datasets.tables.readers import ACCEPTED, ENDINGS, ending
from triptych.datasets.tables.sources import File, Member, bare_name, members, shard
from triptych.errors import DataError
from triptych.storage.files import expand_path

ALL = "all"  # the name of the only split if splits are to be cut
MAX_FILES = 200_000  # maximum number of files in a folder and its subfolders
_DEPTH = 6  # maximum depth of nested folders
_ZIP = ".zip"
_OF_TOOLS = frozenset(
    (  # files about data, in folders written by tools and hubs
        "config.json",
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "dummy_data.zip",
        "state.json",
        "dataset-metadata.json",
        "datapackage.json",
        "croissant.json",
        "croissant_metadata.json",
        "thumbs.db",
        "desktop.ini",
    )
)
_ABOUT = frozenset(("readme", "license", "licence", "citation", "changelog", "contributing"))
_UNREADABLE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), "save each sheet as CSV UTF-8"),
    **dict.fromkeys((".pkl", ".pickle"), "a pickle is a program and is never loaded; write the table with to_parquet"),
    **dict.fromkeys(
        (".feather", ".orc", ".h5", ".hdf5", ".sqlite", ".db", ".dta", ".sav"), "write the table as .parquet"
    ),
    **dict.fromkeys((".tar", ".tgz", ".rar", ".7z", ".bz2", ".xz", ".zst", ".gz"), "unpack it"),
    **dict.fromkeys((".xml", ".json5"), "turn it into one object per line (.jsonl)"),
    ".jsonlines": "end its name with .jsonl",
    ".tab": "end its name with .tsv",
}
_TEXTS = frozenset((".txt", ".text", ".story", ".doc", ".docx", ".pdf", ".target", ".tgt"))
_NO_DATA = re.compile(  # extensions of programs, notes, settings, pictures and weights
    r"\.(pyc?|ipynb|sh|bat|ps1|r|jl|js|ts|java|c|cpp|h|go|rs|pl|rb|lua|md|rst|tex|bib|html?|css|log|toml|ya?ml|ini|cfg|"
    r"conf|lock|png|jpe?g|gif|svg|webp|tiff?|mp[34]|wav|pth?|bin|ckpt|safetensors|onnx|gguf|sha256|md5|sig|asc)"
)
_LAYOUT = "train, validation and test .csv, .tsv, .jsonl or .parquet"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which files are read as which split.

    Attributes:
        splits: the files of each split in reading order, train first.
        unread: tables that belong to no split.
        notes: sentences about what is not obvious: splits with other names, and what is not read.
    """

    splits: dict[str, tuple[File, ...]]
    unread: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A file in the folder or a subfolder, with the names of the folders on its path."""

    parts: tuple[str, ...]
    file: File

    @property
    def shown(self) -> str:
        return _printable("/".join(self.parts))


def find_layout(path: Path) -> Layout:
    """Find which files belong to which split.

    Raises:
        DataError: nothing can be read, a split is claimed twice, or files are missing.
    """
    path = expand_path(str(path))
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise DataError(
            f"There is no folder or file {str(path)!r}.{near_name(path)} Give a folder with {_LAYOUT}, or a single "
            "file of these formats, which is cut by a seed."
        )
    return _saved(path) or _of_folder(path)


def near_name(path: Path) -> str:
    """A hint for a mistyped path, with a leading space: a readable file or folder next to it with a similar name."""
    try:
        there = [each for each in path.parent.iterdir() if not each.name.startswith(".")]
        names = [each.name for each in there if each.is_dir() or ending(each) or each.suffix.lower() == _ZIP]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def _of_file(path: Path) -> Layout:
    if ending(path):
        return Layout({ALL: (path,)})
    if path.suffix.lower() == _ZIP:
        return _of_archives(path, [path])
    remedy = _UNREADABLE.get(path.suffix.lower())
    raise DataError(f"{path} is not a table that can be read{f': {remedy}' if remedy else ''}. {ACCEPTED}")


# A folder of files


def _of_folder(path: Path) -> Layout:
    found = _listing(path)
    base: tuple[str, ...] = ()
    data = next(((name,) for name in _subfolders(found, base) if name.casefold() == "data"), None)
    if data and not _has_splits(found, base) and (_has_splits(found, data) or not _at(found, base)):
        base = data
    layout = _assigned(path, found, base)
    if layout is not None:
        return layout
    below = sorted({str(path.joinpath(*item.parts[:-1])) for item in _tables(found)})
    archives = [item.file for item in found if _is_zip(item) and isinstance(item.file, Path)]
    if not below and archives:
        return _of_archives(path, archives)
    hint = f" There are tables in {', '.join(below[:5])}: {_advice(found)}." if below else ""
    raise DataError(
        f"The folder {str(path)!r} holds no table.{hint}{'' if below else _what_is_there(found)} {ACCEPTED}"
    )


def _advice(found: list[_Found]) -> str:
    """The advice for tables in several folders: tables of different splits belong together."""
    tables = _tables(found)
    claims = [made.splits for item in tables if (made := splits.read_claim(_bare(item))) is not None]
    folders = {item.parts[:-1] for item in tables}
    if 1 < len(tables) == len(folders) == len(set(claims)):
        return "put them together into one folder"
    return "give one of these"


def _of_archives(path: Path, archives: Sequence[Path]) -> Layout:
    """Read archives as if unpacked into the same folder."""
    found = []
    for archive in archives:
        inner = [_Found(PurePosixPath(member.inner).parts, member) for member in members(archive)]
        found += _unwrapped([item for item in inner if item.parts and not _is_hidden(item.parts)])
    if not _tables(found):
        raise DataError(
            f"{path}: there is no table in {_names([a.name for a in archives])}.{_what_is_there(found)} {ACCEPTED}"
        )
    layout = _assigned(path, found, ())
    if layout is None:
        folders = sorted({"/".join(item.parts[:-1]) for item in _tables(found)})
        raise DataError(
            f"{path}: the archive holds tables in {_names(folders)}. Unpack it and give one of these folders."
        )
    return layout


def _unwrapped(found: list[_Found]) -> list[_Found]:
    """Strip a folder that contains all tables from the paths, unless it is a split's folder."""
    while True:
        tables = _tables(found)
        tops = {item.parts[0] for item in tables}
        if len(tops) != 1 or any(len(item.parts) == 1 for item in tables):
            return found
        (top,) = tops
        if splits.read_claim(top) and not any(splits.read_claim(_bare(item)) for item in tables):
            return found
        found = [_Found(item.parts[1:], item.file) for item in found if item.parts[0] == top]


def _assigned(path: Path, found: list[_Found], base: tuple[str, ...]) -> Layout | None:
    """The layout of the files and split folders at `base`; None if there is no table among them."""
    units: dict[str, list[_Found]] = {item.shown: [item] for item in _at(found, base)}
    claims = {name: made for name, (item,) in units.items() if (made := splits.read_claim(_bare(item)))}
    for name in _subfolders(found, base):
        if _is_split_folder(found, base, name):
            shown = _printable("/".join((*base, name))) + "/"
            units[shown] = sorted(_tables(_below(found, (*base, name))), key=lambda item: _natural(item.shown))
            claims[shown] = _folder_claim(name)
    for item in found:
        if (
            _is_zip(item)
            and item.parts[:-1] == base
            and isinstance(item.file, Path)
            and (made := splits.read_claim(_bare(item)))
        ):
            inner = [_Found((*item.parts, *PurePosixPath(member.inner).parts), member) for member in members(item.file)]
            inner = [each for each in _tables(inner) if not _is_hidden(each.parts[len(item.parts) :])]
            if inner:
                units[item.shown], claims[item.shown] = sorted(inner, key=lambda each: _natural(each.shown)), made
    if not units:
        return None
    assignment = splits.assign(claims, str(path))
    _check_unreadable(path, found, base, assignment.named)
    named: dict[str, tuple[File, ...]] = {}
    for split in SPLITS:
        if split in assignment.named:
            named[split] = _one_table(path, split, {name: units[name] for name in assignment.named[split]})
    if named:
        read = set(assignment.named[split][at] for split in named for at in range(len(assignment.named[split])))
        unread = [item for name, items in units.items() if name not in read for item in items]
    else:
        plain = {name: items for name, items in units.items() if not _is_about(items[0])} or units
        named = {ALL: _one_table(path, ALL, plain)}
        unread = [item for name, items in units.items() if name not in plain for item in items]
    return Layout(
        named, tuple(item.file for item in unread), (*assignment.notes, *_unread_notes(found, base, named, unread))
    )


def _one_table(path: Path, split: str, units: dict[str, list[_Found]]) -> tuple[File, ...]:
    """The files of a split in order: a single file, a complete series of shards, or all files in the split's folder.

    Raises:
        DataError: several files claim the split, shards are missing, or a folder has files of several formats or
            splits.
    """
    files = [item for items in units.values() for item in items]
    listed = ", ".join(item.shown for item in files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
    shards = [shard(_bare(item)) for item in files]
    if all(shards):
        stems = {(match["stem"], ending(i.file), i.parts[:-1]) for match, i in zip(shards, files, strict=True) if match}
        if len(stems) == 1:
            present = sorted(int(match["index"]) for match in shards if match)
            totals = {int(match["total"]) for match in shards if match}
            if totals != {len(files)} or present != list(range(len(files))):
                raise DataError(
                    f"{path}: the shards of {split!r} are not complete: there are {len(files)} of {max(totals)} "
                    f"({listed}). Fetch the missing ones."
                )
            return tuple(item.file for item in files)
    (name, *others) = units
    if not others and (name.endswith("/") or _is_zip_name(name)):
        for item in files:
            made = splits.read_claim(_bare(item))
            if made and made.rank < 2 and split not in made.splits and made.splits != (splits.EVAL,):
                raise DataError(
                    f"{path}: {name} names the split {split!r}, and {item.shown} in it another. "
                    f"Give --data the folder {name} itself, or rename one of them."
                )
        if len({ending(item.file) for item in files}) > 1:
            raise DataError(f"{path}: {name} contains tables in several formats ({listed}). Keep only one format.")
        return tuple(item.file for item in files)
    if len(files) == 1 or _is_series(files):
        return tuple(item.file for item in sorted(files, key=lambda item: _natural(item.shown)))
    claimed = "is which split is not clear" if split == ALL else f"is the split {split!r} is not clear"
    together = "" if split == ALL else f"; to read several as one split, put them into a folder named {split}"
    raise DataError(
        f"{path}: which file {claimed} among {listed}. Name them {_LAYOUT}, one each, or give one file{together}."
    )


def _is_series(files: Sequence[_Found]) -> bool:
    """Whether names differ only in a trailing number that counts up from 0 or 1."""
    matches = [re.fullmatch(r"(.*?)(\d+)\)?", _bare(item)) for item in files]
    if (
        len(
            {
                (match[1], ending(item.file), item.parts[:-1])
                for match, item in zip(matches, files, strict=True)
                if match
            }
        )
        != 1
    ):
        return False
    numbers = sorted(int(match[2]) for match in matches if match and len(match[2]) < 10)
    return len(numbers) == len(files) and numbers in (list(range(len(files))), list(range(1, len(files) + 1)))


def _check_unreadable(path: Path, found: Sequence[_Found], base: tuple[str, ...], named: Collection[str]) -> None:
    """Refuse unreadable files named after a split, instead of cutting that split from other data.

    Raises:
        DataError: there is such a file, or a folder with such a file and no table.
    """
    for item in found:
        if item.parts[:-1] == base and not ending(item.file) and (remedy := _remedy(item)):
            _check_claim(path, _stem_claim(item), item.shown, "", remedy, named)
    for name in _subfolders(found, base):
        below = _below(found, (*base, name))
        remedies = {item.shown: remedy for item in below if Path(item.file.name).suffix and (remedy := _remedy(item))}
        if remedies and not _tables(below):
            shown, remedy = next(iter(remedies.items()))
            _check_claim(path, _folder_claim_or_none(name), f"{name}/", f" ({_printable(shown)})", remedy, named)


def _check_claim(
    path: Path, made: splits.SplitClaim | None, shown: str, holds: str, remedy: str, named: Collection[str]
) -> None:
    """Refuse a name that claims a split for which there is no other file.

    Args:
        path: the folder, for the message.
        made: the split that the name claims.
        shown: the name.
        holds: what a folder of that name contains, to put after the name in the message.
        remedy: how it could be read.
        named: the existing splits.
    """
    if made is None or made.rank == 2:
        return
    (wanted, *_) = made.splits
    if wanted == splits.EVAL:
        wanted = "validation" if "test" in named and "validation" not in named else "test"
    if wanted in named:
        return
    cut = "" if wanted == "train" else ", so that the split is cut from the training split"
    raise DataError(
        f"{path}: {_printable(shown)} is named after the split {wanted!r} and cannot be read{holds}: {remedy}, or "
        f"remove it{cut}."
    )


def _remedy(item: _Found) -> str | None:
    """How a file that is not a table could be read; None if it probably contains something other than data."""
    suffix = Path(item.file.name).suffix.lower()
    if suffix in _TEXTS or _NO_DATA.fullmatch(suffix) or _is_about(item):
        return None
    if suffix == _ZIP:
        return "there is no table in it that is read; unpack it"
    return _UNREADABLE.get(suffix, "end its name with what it is (.csv, .tsv, .jsonl or .parquet)")


def _stem_claim(item: _Found) -> splits.SplitClaim | None:
    """The split that the name of a non-table file claims. An unknown extension may be part of the name."""
    name = Path(item.file.name)
    if name.suffix.lower() in {_ZIP, *_UNREADABLE}:
        return splits.read_claim(_bare(item))
    made = splits.read_claim(bare_name(Path(name.stem), ENDINGS))
    return made if made and made.rank == 0 else None


def _unread_notes(
    found: Sequence[_Found], base: tuple[str, ...], named: dict[str, tuple[File, ...]], unread: Sequence[_Found]
) -> list[str]:
    """Sentences about tables and other possible data files that are not read."""
    read = {file for files in named.values() for file in files}
    passed = read | {item.file for item in unread} | {file.archive for file in read if isinstance(file, Member)}
    used = {item.parts[: len(base) + 1] for item in found if item.file in read}
    notes = []
    if unread:
        reason = "about the data" if ALL in named else "named after no split, or less plainly than another"
        notes.append(f"Not read: {_names([item.shown for item in unread])} ({reason}).")
    folders: Counter[str] = Counter()
    files = []
    for item in found:
        if item.file in passed or _is_about(item) or _is_partner(item, read) or not _may_be_data(item):
            continue
        depth = len(base) + 1 if item.parts[: len(base)] == base else 1
        if len(item.parts) <= depth or item.parts[:depth] in used:
            files.append(item.shown)
        else:
            folders["/".join(item.parts[:depth]) + "/"] += 1
    if folders:
        notes.append(
            f"Not read: {_names([f'{name} ({n:,} file{chr(115) * (n > 1)})' for name, n in folders.items()])}."
        )
    if files:
        notes.append(f"Not read: {_names(files)}.")
    return notes


def _may_be_data(item: _Found) -> bool:
    """Whether a file has a data format or is a text named after a split."""
    suffix = Path(item.file.name).suffix.lower()
    if ending(item.file) or suffix == _ZIP or suffix in _UNREADABLE:
        return True
    return suffix in _TEXTS and any(splits.read_claim(part) for part in (*item.parts[:-1], Path(item.file.name).stem))


def _is_partner(item: _Found, read: Iterable[File]) -> bool:
    """Whether a file is the partner of one that is read, such as train.target for train.source."""
    return Path(item.file.name).suffix.lower() in (".target", ".tgt") and any(
        Path(file.name).stem == Path(item.file.name).stem for file in read
    )


def _what_is_there(found: Sequence[_Found]) -> str:
    """What a folder without tables contains, by file extension."""
    endings = Counter(Path(item.file.name).suffix.lower() or item.file.name for item in found)
    if not endings:
        return " It is empty."
    listed = ", ".join(f"{count:,} {name}" for name, count in endings.most_common(6))
    known = _UNREADABLE | {".txt": "texts whose lines belong together are read as NAME.source and NAME.target"}
    remedies = [f"{name}: {known[name]}" for name, _ in endings.most_common(6) if name in known]
    return f" It holds {listed}.{f' ({chr(59).join(remedies)}.)' if remedies else ''}"


# Below a folder


def _listing(folder: Path) -> list[_Found]:
    """The files in a folder and its subfolders, without hidden files and those left by tools.

    Raises:
        DataError: a folder cannot be read, a table is not a regular file, or there are too many files.
    """
    found: list[_Found] = []

    def fail(error: OSError) -> None:
        raise DataError(f"The folder {str(error.filename)!r} cannot be read: {error.strerror}.")

    for place, names, files in os.walk(folder, onerror=fail):
        parts = Path(place).relative_to(folder).parts
        names[:] = sorted(name for name in names if not _is_hidden((name,))) if len(parts) < _DEPTH else []
        for name in sorted(files):
            file = Path(place) / name
            if _is_hidden((name,)):
                continue
            if not file.is_file():
                if ending(file):
                    what = (
                        "a link that leads nowhere" if file.is_symlink() and not file.exists() else "not a regular file"
                    )
                    raise DataError(f"{file} is {what}. Put the file there, or remove it.")
                continue
            found.append(_Found((*parts, name), file))
            if len(found) > MAX_FILES:
                raise DataError(
                    f"The folder {str(folder)!r} holds more than {MAX_FILES:,} files. Give a folder of tables only."
                )
    return found


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith((".", "__", "~$")) or part.casefold() in _OF_TOOLS for part in parts)


def _tables(found: Iterable[_Found]) -> list[_Found]:
    return [item for item in found if ending(item.file)]


def _at(found: Iterable[_Found], base: tuple[str, ...]) -> list[_Found]:
    """The tables directly in the folder `base`."""
    return [item for item in _tables(found) if item.parts[:-1] == base]


def _below(found: Iterable[_Found], base: tuple[str, ...]) -> list[_Found]:
    return [item for item in found if item.parts[: len(base)] == base]


def _subfolders(found: Iterable[_Found], base: tuple[str, ...]) -> list[str]:
    depth = len(base)
    return list(dict.fromkeys(item.parts[depth] for item in _below(found, base) if len(item.parts) > depth + 1))


def _has_splits(found: Iterable[_Found], base: tuple[str, ...]) -> bool:
    """Whether a table or a folder of tables at `base` is named after a split."""
    return any(splits.read_claim(_bare(item)) for item in _at(found, base)) or any(
        _is_split_folder(found, base, name) for name in _subfolders(found, base)
    )


def _is_split_folder(found: Iterable[_Found], base: tuple[str, ...], name: str) -> bool:
    return _folder_claim_or_none(name) is not None and bool(_tables(_below(found, (*base, name))))


def _folder_claim_or_none(name: str) -> splits.SplitClaim | None:
    return splits.read_claim(bare_name(Path(name), ENDINGS))


def _folder_claim(name: str) -> splits.SplitClaim:
    made = _folder_claim_or_none(name)
    assert made is not None  # called only for split folders
    return made


def _bare(item: _Found) -> str:
    bare = bare_name(item.file, ENDINGS)
    return str(Path(bare).with_suffix("")) if Path(bare).suffix in {_ZIP, *_UNREADABLE} and Path(bare).stem else bare


def _is_zip(item: _Found) -> bool:
    return _is_zip_name(item.file.name)


def _is_zip_name(name: str) -> bool:
    return name.lower().endswith(_ZIP)


def _is_about(item: _Found) -> bool:
    """Whether a file describes data, such as README.csv."""
    return Path(item.file.name).name.split(".")[0].casefold() in _ABOUT


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts part-2 before part-10."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(int(part[-18:]), part) if part[:1] in "0123456789" and part else (-1, part) for part in parts]


def _names(names: Sequence[object]) -> str:
    return ", ".join(_printable(str(name)) for name in names[:5]) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


# Folders written by `save_to_disk` of `datasets`


def _saved(folder: Path) -> Layout | None:
    """The splits of a folder written by `save_to_disk`; None for any other folder.

    They are read from the Arrow files listed in its state. `datasets` itself would instantiate whatever class the
    metadata names, and would follow file names out of the folder.

    Raises:
        DataError: the metadata is damaged, or the files it names are missing, elsewhere or reordered.
    """
    if (folder / "dataset_dict.json").is_file():
        listed = _metadata(folder / "dataset_dict.json").get("splits")
        if (
            not isinstance(listed, list)
            or not all(isinstance(name, str) and _is_plain(name) for name in listed)
            or not listed
        ):
            raise DataError(
                f"{folder / 'dataset_dict.json'}: it lists no splits. Write the folder again with save_to_disk."
            )
        assignment = splits.assign_exact(listed, str(folder))
        left = (
            [f"Not read: the split{'s' * (len(assignment.left) > 1)} {_names(assignment.left)}."]
            if assignment.left
            else []
        )
        if not assignment.named and len(listed) == 1:
            return Layout({ALL: _arrow_files(folder / listed[0], folder)})
        if not assignment.named:
            raise DataError(f"{folder}: it is not clear which of its splits is for training: {_names(listed)}.")
        named = {
            split: _arrow_files(folder / assignment.named[split][0], folder)
            for split in SPLITS
            if split in assignment.named
        }
        return Layout(named, (), (*assignment.notes, *left))
    if (folder / "state.json").is_file() and any(folder.glob("*.arrow")):
        return Layout({ALL: _arrow_files(folder, folder)})
    return None


def _arrow_files(folder: Path, root: Path) -> tuple[File, ...]:
    state = _metadata(folder / "state.json")
    entries = state.get("_data_files")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{folder}: an index file picks its rows, which is not read. Write it again with save_to_disk.")
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    files: list[File] = []
    for name in names:
        if not isinstance(name, str) or not _is_plain(name) or not name.endswith(".arrow"):
            raise DataError(
                f"{folder / 'state.json'}: {str(name)[:100]!r} names no .arrow file of the folder, and is not followed."
            )
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file} is missing, and state.json next to it names it. Fetch the folder again.")
        if not file.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{file} leads out of {root}. It is not followed: put the file itself there.")
        files.append(file)
    if not files:
        raise DataError(f"{folder / 'state.json'}: it names no files. Write the folder again with save_to_disk.")
    return tuple(files)


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\\" not in name and "\0" not in name


def _metadata(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > 2**24:
            raise ValueError("it is larger than 16 MiB")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}. Write the folder again with save_to_disk.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: an object is needed. Write the folder again with save_to_disk.")
    return content
