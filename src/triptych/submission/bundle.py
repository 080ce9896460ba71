"""One zip to submit: source, fine-tuned models, report, results, and a README that says how to use them."""

import math
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import IO, Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

import triptych
from triptych.analysis.comparison import compare_results
from triptych.contracts import Dataset, EmbeddedModel
from triptych.errors import ConfigError, InputError, ResultsError, shorten
from triptych.registry import registered
from triptych.reporting.authors_text import read_authors_text
from triptych.reporting.export import to_csv, to_markdown
from triptych.results import bundled, layout
from triptych.results.integrity import remedy
from triptych.results.reading import Results, SavedRun, read_comparison, read_results
from triptych.results.records import Comparison
from triptych.run.adapters import MANIFEST, check_belongs, read_adapter
from triptych.run.articles import with_documents
from triptych.run.provenance import NOT_INSTALLED
from triptych.storage.files import expand_path, leads_out, replacing, sweep_of
from triptych.storage.given_documents import are_given, name_in_folder
from triptych.text import formats
from triptych.text.characters import to_json
from triptych.text.markdown import code, plain

REPORTED = ("comparison.json", "comparison.csv", "comparison.md", "report.pdf")  # written by `triptych report`
BUNDLED_RUN_FILES = ("record.json", "history.jsonl", "predictions.jsonl")
ARTICLE = """\
The council of Harwick met on Monday and voted 7 to 2 for a new bridge over the river Lene. Work begins in May, and the
bridge is to open two years later. It will cost 9 million, of which the county pays a third.
"""  # for the README's command that summarizes
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip cannot hold an earlier time; the same for every file, so that bytes repeat
_DENSE = (".safetensors", ".pdf")  # compressing these again saves next to nothing


@dataclass(frozen=True)
class BundledModel:
    """A fine-tuned model.

    Attributes:
        run: the run that made it.
        folder: the folder of that run.
        files: the files of its adapter.
        sha256: the SHA-256 of what was trained.
    """

    run: SavedRun
    folder: Path
    files: tuple[Path, ...]
    sha256: str

    @property
    def place(self) -> str:
        """Its folder within the bundle."""
        return bundled.tuned_folder(self.run.record.label, self.run.record.seed)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)


@dataclass
class Bundle:
    """What goes into the zip.

    Attributes:
        entries: paths within the zip, and the file or text for each.
        tuned: every fine-tuned model, in the suite's order.
        left_out: the fine-tuned models that were too large.
    """

    entries: dict[str, Path | str] = field(default_factory=dict)
    tuned: list[BundledModel] = field(default_factory=list)
    left_out: list[BundledModel] = field(default_factory=list)


def write_bundle(
    out: Path, file: Path, plugins: Sequence[Path] = (), max_megabytes: float | None = None, overwrite: bool = False
) -> Bundle:
    """Write the zip; the same results and source give the same bytes.

    Args:
        out: a results folder with its report.
        file: the zip to write.
        plugins: plug-in files that the methods need; they go into the zip.
        max_megabytes: the most megabytes (10^6 bytes) of fine-tuned models; beyond that, the largest are left out.
        overwrite: replace an existing file.

    Returns:
        What went in.

    Raises:
        ConfigError: the limit is not a number of 0 or more.
        ResultsError: OUT has no finished run, no report or an incomplete model, or `file` already exists.
    """
    if file.is_dir() or (file.exists() and not overwrite):
        remedy = "give another name" if file.is_dir() else "give another name, or --overwrite"
        raise ResultsError(f"{str(file)!r} already exists: {remedy}.")
    bundle = gather(out, plugins, max_megabytes)
    sweep_of(file)
    with replacing(file) as stream:
        _pack(bundle.entries, stream)
    return bundle


def gather(out: Path, plugins: Sequence[Path] = (), max_megabytes: float | None = None) -> Bundle:
    """Everything that goes into the zip, its README last.

    Raises:
        ConfigError: the limit is not a number of 0 or more.
        ResultsError: part of it is missing.
    """
    if max_megabytes is not None and not max_megabytes >= 0:  # NaN, too
        raise ConfigError(f"--max-megabytes is {max_megabytes:g}: a number of 0 or more is needed.")
    results = read_results(out, partial=True)
    if results.files is not None:
        raise ResultsError(f"{str(out)!r} holds scored files, not runs: there is nothing to submit.")
    if not any(run.done for run in results.runs):
        raise ResultsError(f"{str(out)!r} has no finished run: there is nothing to submit.")
    absent = [name for name in REPORTED if not (out / name).is_file()]
    if absent:
        raise ResultsError(f"There is no {str(out / absent[0])!r}. Write it first: triptych report {out}.")
    if len({path.name for path in plugins}) < len({path.resolve() for path in plugins}):
        raise ConfigError("Two plug-in files have the same name, and the zip puts all into one folder: rename one.")
    requirements, comparison = _requirements(results), _comparison(results)
    _check_authors_text(out)
    bundle = Bundle(tuned=list(_tuned(results)))
    bundle.left_out = _too_large(bundle.tuned, max_megabytes)
    entries = bundle.entries
    entries["requirements.txt"] = requirements
    entries["article.txt"] = ARTICLE
    entries["report.pdf"] = out / "report.pdf"
    home = Path(triptych.__file__).parent
    entries |= {f"src/triptych/{path.relative_to(home).as_posix()}": path for path in sorted(home.rglob("[!.]*.py"))}
    entries |= {f"plugins/{path.name}": path for path in plugins}
    base = registered(EmbeddedModel).get(results.suite.model)
    if base is not None:
        files = sorted(path for path in base().folder().glob("[!.]*") if path.is_file())
        entries |= {f"{bundled.BASES}/{results.suite.model}/{path.name}": path for path in files}
    for model in bundle.tuned:
        if model not in bundle.left_out:
            entries |= {f"{model.place}/adapter/{path.name}": path for path in model.files}
    entries[f"{bundled.RESULTS}/suite.json"] = out / "suite.json"
    entries[f"{bundled.RESULTS}/comparison.json"] = to_json(comparison.model_dump(mode="json"), indent=2) + "\n"
    entries[f"{bundled.RESULTS}/comparison.csv"] = to_csv(comparison)
    entries[f"{bundled.RESULTS}/comparison.md"] = to_markdown(comparison)
    for run in results.runs:
        place = f"runs/{run.record.label}/{run.record.seed}"
        entries |= {
            f"{bundled.RESULTS}/{place}/{name}": path
            for name in BUNDLED_RUN_FILES
            if (path := out / place / name).is_file()
        }
    for source in entries.values():
        if isinstance(source, Path) and source.is_relative_to(out) and leads_out(source, out):
            raise ResultsError(
                f"The link {str(source)!r} leads out of the results folder and is not included: remove it."
            )
    entries["README.md"] = _readme(results, comparison, bundle, plugins)
    return bundle


def _comparison(results: Results) -> Comparison:
    """The comparison of the records, which `OUT/comparison.json` must match: the report was written from it.

    Raises:
        ResultsError: the file does not match: it was edited, or is older than a record.
    """
    file, written = results.out / "comparison.json", read_comparison(results.out)
    again = f"Write it again: triptych report {results.out}."
    known = written.checks is not None and written.checks.documents_known
    comparison = compare_results(with_documents(results) if known else results)
    if known and (comparison.checks is None or not comparison.checks.documents_known):  # they have moved since
        comparison = comparison.model_copy(update={"checks": written.checks})
    if not _same(written.model_dump(mode="json"), comparison.model_dump(mode="json")):
        raise ResultsError(
            f"{str(file)!r} does not match the records next to it: it was edited, or they are newer. {again}"
        )
    return comparison


def _check_authors_text(out: Path) -> None:
    """Make sure that the report has the author's current texts.

    Raises:
        ResultsError: a text, or a figure that it shows, is newer than the report.
    """
    written = (out / "report.pdf").stat().st_mtime_ns
    for path in read_authors_text([out]).files:
        if path.stat().st_mtime_ns > written:
            raise ResultsError(f"{path.name} is newer than report.pdf. Write it again: triptych report {out}.")


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal except for rounding on another machine."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)


def _tuned(results: Results) -> Iterator[BundledModel]:
    for run in results.runs:
        if run.done and run.trained:
            folder = layout.run_folder(results.out, run.record.label, run.record.seed)
            adapter = folder / "adapter"
            if not (adapter / MANIFEST).is_file():
                raise ResultsError(f"{str(folder)!r} has no whole adapter/. Remedy: {remedy(adapter / MANIFEST)}.")
            saved = read_adapter(adapter)
            check_belongs(saved.origin, run.record, adapter)
            yield BundledModel(run, folder, tuple(adapter / name for name in saved.files), saved.sha256)


def _too_large(models: list[BundledModel], max_megabytes: float | None) -> list[BundledModel]:
    """The largest models, as many as must be left out to stay within the limit, in the suite's order."""
    kept = list(models)
    while max_megabytes is not None and kept and sum(model.size for model in kept) > max_megabytes * 1e6:
        kept.remove(max(kept, key=lambda model: model.size))
    return [model for model in models if model not in kept]


def _pack(entries: dict[str, Path | str], stream: IO[bytes]) -> None:
    with zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(entries):
            entry, source = zipfile.ZipInfo(name, _EARLIEST), entries[name]
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(_DENSE) else zipfile.ZIP_DEFLATED
            if isinstance(source, str):
                archive.writestr(entry, source.encode())
                continue
            entry.file_size = source.stat().st_size
            with source.open("rb") as file, archive.open(entry, "w") as place:
                while chunk := file.read(1 << 20):
                    place.write(chunk)


def _requirements(results: Results) -> str:
    """The package's requirements, at the versions of the runs where recorded, else at those installed here.

    Raises:
        ResultsError: a package is not installed here, or a record has an invalid version (PEP 440).
    """
    try:
        needed = [Requirement(text) for text in requires("triptych") or []]
        here = {each.name: version(each.name) for each in needed if "extra" not in str(each.marker or "")}
    except PackageNotFoundError as error:
        raise ResultsError(
            f"The package {error.name!r} is not installed here, so its version is not known. Install Triptych (pip "
            "install .) and bundle from there."
        ) from None
    pins = {name: Version(text) for name, text in here.items()}
    for run in results.runs:
        known = run.record.provenance.versions if run.record.provenance is not None else {}
        for name in pins.keys() & known.keys():
            if known[name] == NOT_INSTALLED:
                continue
            try:
                pins[name] = Version(known[name])
            except InvalidVersion:
                file = layout.run_folder(results.out, run.record.label, run.record.seed) / "record.json"
                raise ResultsError(
                    f"{str(file)!r} gives {shorten(repr(known[name]))} as the version of {name}, which is not a "
                    f"version (PEP 440). Remedy: {remedy(file)}."
                ) from None
    return "".join(f"{name}=={pins[name].public}\n" for name in sorted(pins))


def _readme(results: Results, comparison: Comparison, bundle: Bundle, plugins: Sequence[Path]) -> str:
    suite = results.suite
    embedded = suite.model in registered(EmbeddedModel)
    plugged = "".join(f" --plugin {shlex.quote(f'plugins/{path.name}')}" for path in plugins)
    model = " --model MODEL" if not embedded and _is_local(suite.model) else ""  # what the reader has to fill in
    data = " --data FOLDER" if suite.data not in registered(Dataset) and _is_local(suite.data) else ""
    starting = (f" --model {bundled.BASES}/{suite.model}" if embedded else model) + data + plugged
    restoring = model + data + plugged
    heading = suite.report.title or f"Fine-tuning for summarization: {suite.name}"
    byline = " · ".join(filter(None, (suite.report.author, suite.report.course, suite.report.date)))
    label = bundle.tuned[0].run.record.label if bundle.tuned else results.labels[0]
    example = bundle.tuned[0].place if bundle.tuned else f"{bundled.TUNED}/LABEL/SEED"
    found = f" from `{bundled.BASES}/{suite.model}`" if embedded else ""
    return f"""# {plain(heading)}

{plain(byline) + chr(10) * 2 if byline else ""}\
Methods compared: {", ".join(map(plain, results.labels))}. Base model: {code(suite.model)}. Data: {code(suite.data)}.

| where | what |
|---|---|
| `report.pdf` | the report, with the answers to the theory questions |
| `article.txt` | a short text to try a model on |
| `src/` | the source, `.py` files only |
| `requirements.txt` | the packages it needs, at the versions of the runs |
| `models/tuned/LABEL/SEED/` | every fine-tuned model: what was trained (safetensors) |
{"| `models/base/` | the base model |" + chr(10) if embedded else ""}\
{"| `plugins/` | plug-ins that the methods need |" + chr(10) if plugins else ""}\
| `results/` | the results: `comparison.json` and, for each run, its record, loss history and every prediction |

## Set up

Python 3.11 or newer. In this folder:

```
python3 -m venv .venv
. .venv/bin/activate
pip install -r requirements.txt
export PYTHONPATH=src
```

For a machine without a GPU a CPU build of torch is smaller; pip's option `--extra-index-url` can name its index.

## {"Put the data here first" if data else "The data"}

{_data(results, data)}

## {"Put the base model here first" if model else "The base model"}

{_base(results, embedded)}

## Run

In this folder, since the paths below and `PYTHONPATH=src` start from it:

```
python -m triptych train {label} results/suite.json{starting} --out retrained
python -m triptych evaluate {example}{restoring}
python -m triptych summarize {example}{model}{plugged} --file article.txt
```

- `train` trains one method of the comparison again, under each of its seeds, into `retrained/runs/LABEL/SEED/`.
  The methods are {", ".join(map(code, results.labels))}.
- `evaluate` restores a fine-tuned model, computes its test loss and summaries again, shows them next to its record, and
  counts the summaries that equal the stored ones.
- `summarize` writes a summary of `article.txt`; name a text file of your own instead.
- `python -m triptych compare results/suite.json{starting} --out again` runs all methods and writes `comparison.json`,
  `.csv` and `.md`. The templates of `report.pdf` and `report.html` are not `.py` files, so this source cannot write
  those two.

`python -m triptych COMMAND --help` lists the options.

## Restore the fine-tuned models

A folder of `models/tuned/` holds what was trained and no copy of the base model. `evaluate`, in this folder, loads the
base model{found}, applies the method that `results/runs/LABEL/SEED/record.json` names, loads the saved tensors, and
refuses files that were changed or that belong to another base model. The folders of LoRA and prompt tuning are in
PEFT's format.

| method | seed | size | SHA-256 | test loss | restore |
|---|---:|---:|---|---:|---|
{"".join(_restored(model, model in bundle.left_out, restoring) for model in bundle.tuned)}
{_links(bundle.left_out)}## Results

{plain(comparison.verdict)}

| method | test loss | R-1 | R-2 | R-L | R-Lsum | training | trainable parameters |
|---|---:|---:|---:|---:|---:|---:|---:|
{"".join(_result(comparison, name) for name in comparison.rows)}
Means over seeds; loss in nats per target token, ROUGE as F1 in 0-100. Intervals, paired tests, compute, memory and
energy are in `report.pdf` and `results/comparison.json`.
"""


def _base(results: Results, embedded: bool) -> str:
    suite = results.suite
    prints = dict.fromkeys(
        run.record.provenance.model_fingerprint
        for run in results.runs
        if run.record.provenance is not None and run.record.provenance.model_fingerprint
    )
    known = f" Its fingerprint is {code(', '.join(map(str, prints)))}; `evaluate` refuses another." if prints else ""
    if embedded:
        return (
            f"{code(suite.model)} is a very small model that comes with Triptych. It is in "
            f"`models/base/{suite.model}`, a folder that transformers' `from_pretrained` reads. `evaluate` and "
            f"`summarize` find it there; `train` and `compare` get it by `--model models/base/{suite.model}`.{known}"
        )
    if _is_local(suite.model):
        return (
            f"The base model was a local folder in transformers' format, {code(Path(suite.model).name)}, and is not "
            "in this zip. Put your copy of it into this folder, and its name instead of MODEL in the commands below."
            f"{known}"
        )
    return (
        f"{code(suite.model)} at revision {code(suite.model_revision)} is downloaded from the hub at first use. "
        f"Without a network, give a folder in transformers' format with `--model FOLDER`.{known}"
    )


def _is_local(name: str) -> bool:
    """Whether a suite's model or data is a file or folder of the machine it ran on, which may have moved since."""
    try:
        return name.startswith(("/", ".", "~")) or expand_path(name).exists()
    except InputError:
        return False


def _data(results: Results, option: str) -> str:
    data = results.suite.data
    if data in registered(Dataset):
        return f"{code(data)} is written by the source itself: nothing has to be downloaded or named."
    place = code(Path(data).name)
    if are_given(data):
        place = f"{code(name_in_folder(data))} of the results folder"
    given = (
        f"The data were read from a local folder or file, {place}, and are not in this zip. Put your "
        "copy into this folder, and its name instead of FOLDER in the commands below"
        if option
        else f"{code(data)} is downloaded from the hub at first use. A copy of your own can be given to `train`, "
        "`compare` and `evaluate` with `--data FOLDER`"
    )
    return (
        f"{given}: a folder with `train`, `validation` and `test` as `.csv`, `.jsonl` or `.parquet`, such as Kaggle's "
        "files with the columns `id,article,highlights`, or one such file. `evaluate` refuses documents other than "
        "those of the run."
    )


def _restored(model: BundledModel, left_out: bool, options: str) -> str:
    record = model.run.record
    how = (
        "see the link below, then as the others"
        if left_out
        else f"`python -m triptych evaluate {model.place}{options}`"
    )
    size = formats.quantity(model.size, "bytes")
    return f"| {plain(record.label)} | {record.seed} | {size} | `{model.sha256}` | {record.loss.test:.6f} | {how} |\n"


def _links(left_out: list[BundledModel]) -> str:
    if not left_out:
        return ""
    lines = "".join(
        f"- {model.place}/adapter/: **LINK: (put the read-only link to this folder here)**\n" for model in left_out
    )
    return f"""### Models too large for this zip

Download the folder behind each link, put it at the place named before it, and restore it as the others:

{lines}
"""


def _result(comparison: Comparison, label: str) -> str:
    row = comparison.rows[label]
    scores = [
        formats.rouge_score(score.mean if score else None)
        for score in (row.rouge1, row.rouge2, row.rougeL, row.rougeLsum)
    ]
    trained = row.parameters is not None and row.parameters.num_trainable_parameters > 0
    seconds = formats.seconds(row.cost.get("train_seconds")) if trained else formats.DASH
    count = formats.count(row.parameters.num_trainable_parameters if row.parameters else None)
    cells = [plain(label), formats.loss(row.loss.test), *scores, seconds, count]
    return f"| {' | '.join(cells)} |\n"
