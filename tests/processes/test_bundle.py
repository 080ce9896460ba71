"""The zip to hand in: its content, and that its source alone restores and trains its models."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from support.paths import CHECKOUT
from triptych import cli
from triptych.errors import ResultsError

SMALL = [
    "limits.train_documents=24",
    "limits.validation_documents=6",
    "limits.test_documents=4",
    "training.max_epochs=1",
    "training.global_batch_size=8",
    "decoding.max_new_tokens=12",
    "decoding.num_beams=2",
]
ROWS = "lead-3,prompt-tuning,last-layers"


@pytest.fixture(scope="module")
def finished(workplace) -> Path:
    """A small finished suite."""
    assert cli.main(["compare", "--methods", ROWS, "--out", "out", "--set", *SMALL]) == 0
    return workplace / "out"


@pytest.fixture(scope="module")
def unpacked(finished, workplace, tmp_path_factory) -> Path:
    """The zip of that suite, unpacked elsewhere."""
    assert cli.main(["bundle", "out", "hand-in.zip"]) == 0
    folder = tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(workplace / "hand-in.zip") as archive:
        archive.extractall(folder)
    return folder


def commands(folder: Path, name: str) -> list[list[str]]:
    """The README's commands with this name, as words."""
    lines = re.findall(rf"python -m triptych ({name} [^`\n]*)", (folder / "README.md").read_text("utf-8"))
    return [line.split() for line in dict.fromkeys(lines)]


def in_bundle(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in the bundle's folder with only its source: neither the checkout nor its cache is accessible."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {
        "PYTHONPATH": "src",
        "TRIPTYCH_CACHE": str(folder.parent / "cache-of-the-bundle"),
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


CALLS = """
import json, pathlib, sys
import triptych, triptych.cli
assert pathlib.Path(triptych.__file__).resolve().is_relative_to(pathlib.Path.cwd().resolve()), triptych.__file__
sys.exit(max(triptych.cli.main(words) for words in json.loads(sys.argv[1])))
"""


def restored(folder: Path) -> list[dict]:
    """The output of every `evaluate` command of the README, followed by the `summarize` command, in one process."""
    calls = [[*words, "--json"] for words in (*commands(folder, "evaluate"), *commands(folder, "summarize"))]
    done = in_bundle(folder, CALLS, json.dumps(calls))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_bundle_holds_what_the_assignment_asks_and_nothing_else(unpacked: Path) -> None:
    """The zip has source as `.py` files only, a model for each trained run, the report, the README, and the results
    separately."""
    files = sorted(path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file())
    assert {name.split("/")[0] for name in files} == {
        "README.md",
        "article.txt",
        "report.pdf",
        "requirements.txt",
        "src",
        "models",
        "results",
    }
    source = [name for name in files if name.startswith("src/")]
    assert "src/triptych/cli/commands.py" in source and all(name.endswith(".py") for name in source)
    assert "models/tuned/prompt-tuning/0/adapter/adapter_model.safetensors" in files
    assert "models/tuned/last-layers/0/adapter/trained.safetensors" in files
    assert not any(name.startswith("models/tuned/lead-3") or name.endswith("log.txt") for name in files)
    assert {f"results/runs/{label}/0/predictions.jsonl" for label in ROWS.split(",")} < set(files)
    assert [name for name in files if name.endswith("record.json")] == [
        f"results/runs/{label}/0/record.json" for label in sorted(ROWS.split(","))
    ]
    assert (unpacked / "report.pdf").read_bytes().startswith(b"%PDF")


def test_requirements_are_those_of_the_package_at_the_versions_of_the_runs(unpacked: Path) -> None:
    """Every dependency is pinned once, at the record's version if a record names it."""
    pins = dict(line.split("==") for line in (unpacked / "requirements.txt").read_text().splitlines())
    record = json.loads((unpacked / "results/runs/prompt-tuning/0/record.json").read_text())
    project = (CHECKOUT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.S | re.M)[1]
    assert set(pins) == set(re.findall(r'"([\w-]+)', listed))
    assert pins["torch"] == record["provenance"]["versions"]["torch"].split("+")[0]


def test_readme_names_no_path_of_this_machine(unpacked: Path, workplace: Path) -> None:
    """Neither the README nor the results name the folder where they were made."""
    for path in [unpacked / "README.md", *unpacked.glob("results/**/*.json")]:
        assert str(workplace) not in path.read_text("utf-8"), path


def test_every_model_is_restored_to_its_test_loss(unpacked: Path) -> None:
    """The README's commands, run elsewhere with only the zip's source, find the base model in the zip and give each
    model's recorded test loss, the stored summaries, and a summary."""
    *results, summary = restored(unpacked)
    assert summary["document_tokens"] == summary["read_tokens"] > 0
    assert [result["run"] for result in results] == ["models/tuned/prompt-tuning/0", "models/tuned/last-layers/0"]
    for result in results:
        assert result["test_loss"] == pytest.approx(result["recorded_test_loss"], abs=1e-7)
        assert result["rouge1"] == pytest.approx(result["recorded_rouge1"], abs=1e-7)
        assert result["identical_predictions"] == result["documents"] == 4
    readme = (unpacked / "README.md").read_text("utf-8")
    assert "In this folder, since the paths below and `PYTHONPATH=src` start from it:" in readme
    assert not any("--model" in words for words in [*commands(unpacked, "evaluate"), *commands(unpacked, "summarize")])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_rows_survive_their_bundle(tmp_path: Path) -> None:
    """For all six methods: each model is restored to its loss, one method is trained again to the same weights, an
    article is summarized, and a comparison without templates says so after its tables are written."""
    environment = os.environ | {"TRIPTYCH_CACHE": str(tmp_path / "cache")}
    run = [sys.executable, "-m", "triptych"]
    compare = [*run, "compare", "--out", str(tmp_path / "out"), "--set", *SMALL]
    subprocess.run(compare, env=environment, check=True, capture_output=True)
    subprocess.run([*run, "bundle", str(tmp_path / "out"), str(tmp_path / "a.zip")], env=environment, check=True)
    folder = tmp_path / "elsewhere"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(folder)
    *results, summary = restored(folder)
    assert len(results) == 4 and summary["document_tokens"] == summary["read_tokens"] > 0
    for result in results:
        assert result["test_loss"] == pytest.approx(result["recorded_test_loss"], abs=1e-7), result["run"]
    (words,) = commands(folder, "train")
    done = in_bundle(folder, CALLS, json.dumps([words]))
    assert done.returncode == 0, done.stderr
    again, before = (path / "prompt-tuning/0" for path in (folder / "retrained/runs", folder / "models/tuned"))
    tensors = "adapter/adapter_model.safetensors"
    assert (again / tensors).read_bytes() == (before / tensors).read_bytes()
    (words,) = commands(folder, "compare")
    words = [*words, "--methods", "lead-3"]
    done = in_bundle(folder, CALLS, json.dumps([words]))
    assert done.returncode == 2 and "lacks the templates" in done.stderr and (folder / "again/comparison.csv").is_file()


def test_same_results_give_the_same_bytes(finished: Path, workplace: Path, unpacked: Path) -> None:
    """A zip depends only on results and source: written again, it is the same byte by byte, with no leftover files."""
    assert cli.main(["bundle", "out", "again.zip"]) == 0
    assert (workplace / "again.zip").read_bytes() == (workplace / "hand-in.zip").read_bytes()
    assert [path.name for path in workplace.iterdir() if path.name.startswith(".")] == []


def test_documents_that_have_moved_do_not_hinder_a_bundle(finished: Path, workplace: Path, monkeypatch) -> None:
    """What the report found in the documents stays in the comparison, even if they can no longer be read."""
    from triptych.submission import bundle

    written = json.loads((finished / "comparison.json").read_text())
    assert written["checks"]["documents_known"]
    monkeypatch.setattr(bundle, "with_documents", lambda results: results)
    assert json.loads(bundle.gather(finished).entries["results/comparison.json"]) == written


def test_an_existing_file_is_kept_unless_told(unpacked: Path, workplace: Path, capsys) -> None:
    """An existing file is refused and unchanged; `--overwrite` replaces it."""
    file = workplace / "kept.zip"
    file.write_text("mine")
    assert cli.main(["bundle", "out", "kept.zip"]) == 2
    assert "--overwrite" in capsys.readouterr().err and file.read_text() == "mine"
    assert cli.main(["bundle", "out", "kept.zip", "--overwrite"]) == 0
    assert zipfile.is_zipfile(file)


def test_models_too_large_leave_a_marked_place(finished: Path, workplace: Path, capsys) -> None:
    """Above the limit the largest model is left out, and README and terminal say where to put a link to it."""
    assert cli.main(["bundle", "out", "small.zip", "--max-megabytes", "1"]) == 0
    assert "left out: out/runs/last-layers/0/adapter" in capsys.readouterr().out
    with zipfile.ZipFile(workplace / "small.zip") as archive:
        names, readme = archive.namelist(), archive.read("README.md").decode()
    assert not any(name.startswith("models/tuned/last-layers/0/adapter") for name in names)
    assert "models/tuned/prompt-tuning/0/adapter/triptych.json" in names
    assert re.search(r"models/tuned/last-layers/0/adapter/: \*\*LINK:", readme)


def test_out_without_finished_runs_or_report_is_refused(finished: Path, workplace: Path, capsys) -> None:
    """Nothing is written for a folder without a finished run or without a report."""
    assert cli.main(["bundle", "nowhere", "a.zip"]) == 2
    (finished / "report.pdf").rename(finished / "moved.pdf")
    try:
        assert cli.main(["bundle", "out", "a.zip"]) == 2
        assert "triptych report out" in capsys.readouterr().err
    finally:
        (finished / "moved.pdf").rename(finished / "report.pdf")
    assert not (workplace / "a.zip").exists()


def test_a_plugin_goes_into_the_zip(finished: Path, workplace: Path) -> None:
    """A file given with `--plugin` is in the zip, and the README's commands use its path there."""
    (workplace / "mine.py").write_text('"""Nothing."""\n')
    assert cli.main(["bundle", "out", "with.zip", "--plugin", "mine.py"]) == 0
    with zipfile.ZipFile(workplace / "with.zip") as archive:
        assert archive.read("plugins/mine.py") == (workplace / "mine.py").read_bytes()
        assert "--plugin plugins/mine.py" in archive.read("README.md").decode()


def test_two_plugins_of_one_name_are_refused(finished: Path, workplace: Path, capsys) -> None:
    """The zip has one folder for all plug-ins, so the second would replace the first; one given twice is fine."""
    (workplace / "mine.py").write_text('"""Nothing."""\n')
    (workplace / "other").mkdir()
    (workplace / "other" / "mine.py").write_text('"""Nothing else."""\n')
    command = ["bundle", "out", "two.zip", "--plugin", "mine.py", "--plugin"]
    assert cli.main([*command, "other/mine.py"]) == 2
    assert "Two plug-in files have the same name" in capsys.readouterr().err and not (workplace / "two.zip").exists()
    assert cli.main([*command, "other/../mine.py"]) == 0


def test_a_folder_that_cannot_be_written_is_told(finished: Path, workplace: Path) -> None:
    """A zip whose folder is a file gives one clear error."""
    from triptych.submission.bundle import write_bundle

    (workplace / "a-file").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        write_bundle(finished, workplace / "a-file" / "a.zip")


@pytest.fixture(scope="module")
def of_local_data(workplace) -> Path:
    """A small suite on documents in `./news`, whose report has a title, an author and a discussion with a figure."""
    from triptych.datasets.newswire import Newswire

    (workplace / "news").mkdir()
    for split, number in (("train", 24), ("validation", 6), ("test", 4)):
        lines = [
            json.dumps({"id": one.id, "document": one.document, "summary": one.summary})
            for one, _ in zip(Newswire().examples(split), range(number), strict=False)
        ]
        (workplace / "news" / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines))
    settings = ["--model", "tiny", "--data", "./news", "--seeds", "0", "--set", *SMALL, "search.trials=0"]
    settings += ["limits.document_tokens=320", "limits.summary_tokens=104"]
    assert cli.main(["train", "last-layers", "--out", "local", *settings]) == 0
    out = workplace / "local"
    Image.new("RGB", (4, 4)).save(out / "plot.png")
    (out / "discussion.md").write_text("My words.\n\n![A plot](plot.png)\n")
    words = ["report.title=Three ways", "report.author=A. Student", "report.course=NLP"]
    assert cli.main(["report", "local", "--set", *words]) == 0
    return out


@pytest.mark.slow
def test_commands_of_a_zip_name_the_data_that_are_not_in_it(of_local_data: Path, workplace: Path, tmp_path) -> None:
    """With local data, each command of the README that reads them has a placeholder for their folder; filled in, the
    commands for training, restoring and summarizing work as described."""
    assert cli.main(["bundle", "local", "local.zip"]) == 0
    folder = tmp_path / "elsewhere"
    with zipfile.ZipFile(workplace / "local.zip") as archive:
        archive.extractall(folder)
    shutil.copytree(workplace / "news", folder / "mydata")
    readme = (folder / "README.md").read_text("utf-8")
    assert readme.index("## Put the data here first") < readme.index("## Run")
    assert readme.startswith("# Three ways\n\nA. Student · NLP\n\n")
    calls = [[*words, "--json"] for name in ("evaluate", "summarize") for words in commands(folder, name)]
    calls = [*commands(folder, "train"), *calls]
    assert [words[0] for words in calls] == ["train", "evaluate", "summarize"]
    assert all("--data" in words for words in [*calls[:-1], *commands(folder, "compare")])
    assert len(re.findall(r"^\| last-layers.*`python -m triptych evaluate .* --data FOLDER`", readme, re.M)) == 1
    filled = json.dumps(calls).replace("FOLDER", "mydata")
    done = in_bundle(folder, CALLS, filled)
    assert done.returncode == 0, done.stderr
    evaluated, summary = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert evaluated["test_loss"] == pytest.approx(evaluated["recorded_test_loss"], abs=1e-7)
    assert summary["read_tokens"] > 0 and (folder / "retrained/runs/last-layers/0/record.json").is_file()


@pytest.mark.parametrize("name", ["discussion.md", "plot.png", "theory.md"])
def test_a_text_newer_than_the_report_is_refused(name: str, of_local_data: Path, workplace: Path, capsys) -> None:
    """If the author changed a text after the report was written, the zip is refused until the report is written
    again."""
    path = of_local_data / name
    existed, written = path.exists(), (of_local_data / "report.pdf").stat().st_mtime
    if not existed:
        path.write_text("Mine.\n")
    os.utime(path, (written + 1, written + 1))
    try:
        assert cli.main(["bundle", "local", "stale.zip"]) == 2
        said = capsys.readouterr().err
        assert f"{name} is newer than report.pdf" in said and "triptych report local" in said
        assert not (workplace / "stale.zip").exists()
    finally:
        os.utime(path, (written - 1, written - 1))
        if not existed:
            path.unlink()


def test_a_run_is_evaluated_where_its_documents_lie_now(of_local_data: Path, workplace: Path, capsys) -> None:
    """After the data folder was moved, `evaluate --data` gives the recorded loss; other documents are refused."""
    (workplace / "others").mkdir()
    for file in (workplace / "news").iterdir():
        (workplace / "others" / file.name).write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    (workplace / "news").rename(workplace / "moved-news")
    try:
        assert cli.main(["evaluate", "local/runs/last-layers/0", "--data", "./moved-news", "--json"]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert result["test_loss"] == pytest.approx(result["recorded_test_loss"], abs=1e-7)
        assert cli.main(["evaluate", "local/runs/last-layers/0", "--data", "./others"]) == 2
        assert "other documents" in capsys.readouterr().err
    finally:
        (workplace / "moved-news").rename(workplace / "news")
