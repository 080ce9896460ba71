"""Predictions of any tool: read as written by it, joined, scored like rouge_score, or refused with a message."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pyarrow
import pyarrow.parquet
import pytest
from rich.console import Console
from rouge_score.rouge_scorer import RougeScorer

import triptych
from support.interpreters import TORCHLESS
from triptych import cli, registry
from triptych.analysis.comparison import compare_results
from triptych.analysis.outputs import output_flags
from triptych.errors import ConfigError, InputError, ResultsError
from triptych.reporting.document import report_data
from triptych.reporting.terminal import print_comparison
from triptych.results.reading import read_results
from triptych.scored import predictions

WORDS = [
    "police",
    "council",
    "river",
    "bridge",
    "school",
    "money",
    "rain",
    "vote",
    "road",
    "fire",
    "train",
    "court",
    "storm",
    "price",
    "doctor",
    "team",
]
COUNT = 24
TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def sentence(start: int, length: int = 7) -> str:
    """Words that depend only on the number."""
    words = [WORDS[(start * 7 + step * (start % 5 + 1)) % len(WORDS)] for step in range(length)]
    return " ".join(words).capitalize() + "."


REFERENCES = [f"{sentence(i, 5 + i)}\n{sentence(i + 3)}" for i in range(COUNT)]
GOOD = [f"{sentence(i)}\n{sentence(i + 4)}" for i in range(COUNT)]
BAD = [f"{sentence(i + 9)}\n{sentence(i + 1, 5)}" for i in range(COUNT)]
IDS = [f"doc-{i}" for i in range(COUNT)]
EXPECTED = {
    name: fmean(
        100 * score[name].fmeasure
        for score in [
            RougeScorer(list(TYPES), use_stemmer=True).score(r, p) for r, p in zip(REFERENCES, GOOD, strict=True)
        ]
    )
    for name in TYPES
}


def write_csv(path: Path, columns: dict[str, list], delimiter: str = ",") -> Path:
    """A table of these columns."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_jsonl(path: Path, columns: dict[str, list]) -> Path:
    """One object per line with these columns."""
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_harness(path: Path, texts: list[str]) -> Path:
    """Write what lm-evaluation-harness logs for a text-generation task."""
    return write_jsonl(
        path,
        {
            "doc_id": list(range(COUNT)),
            "doc": [{"article": f"Article {i}.", "highlights": reference} for i, reference in enumerate(REFERENCES)],
            "target": REFERENCES,
            "arguments": [{"gen_args_0": {"arg_0": "..."}}] * COUNT,
            "resps": [[[t]] for t in texts],
            "filtered_resps": [[t] for t in texts],
            "filter": ["none"] * COUNT,
            "rouge1": [0.1] * COUNT,
        },
    )


def write_gzip(path: Path) -> Path:
    """Write the same file, compressed."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def write_parquet(path: Path, columns: dict[str, list]) -> Path:
    """A Parquet table of these columns."""
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def one_line(texts: list[str]) -> list[str]:
    """Texts as a plain text file can store them."""
    return [text.replace("\n", " ") for text in texts]


@pytest.fixture(autouse=True)
def _own_metrics(monkeypatch):
    """Remove afterwards what a test's plug-in registers."""
    monkeypatch.setattr(registry, "_tables", {name: dict(table) for name, table in registry._tables.items()})


@pytest.fixture
def good(tmp_path) -> Path:
    """A plain file of predictions."""
    return write_jsonl(tmp_path / "good.jsonl", {"id": IDS, "prediction": GOOD, "reference": REFERENCES})


@pytest.fixture
def bad(tmp_path) -> Path:
    """A file of another system, in another order."""
    columns = {"id": IDS, "generated_text": BAD, "label": REFERENCES}
    return write_csv(tmp_path / "bad.csv", {name: cells[::-1] for name, cells in columns.items()})


LAYOUTS = {
    "jsonl": lambda folder: write_jsonl(folder / "a.jsonl", {"id": IDS, "prediction": GOOD, "reference": REFERENCES}),
    "csv": lambda folder: write_csv(folder / "a.csv", {"Id": IDS, "Generated Summary": GOOD, "highlights": REFERENCES}),
    "tsv": lambda folder: write_csv(folder / "a.tsv", {"id": IDS, "pred": GOOD, "gold": REFERENCES}, "\t"),
    "parquet": lambda folder: write_parquet(folder / "a.parquet", {"id": IDS, "output": GOOD, "target": REFERENCES}),
    "gzip": lambda folder: write_gzip(
        write_jsonl(folder / "a.jsonl", {"hypothesis": GOOD, "reference_summary": REFERENCES})
    ),
    "lm-evaluation-harness": lambda folder: write_harness(folder / "samples_cnn_2026.jsonl", GOOD),
    "llama-factory": lambda folder: write_jsonl(
        folder / "generated_predictions.jsonl", {"prompt": ["Summarize."] * COUNT, "predict": GOOD, "label": REFERENCES}
    ),
    "triptych": lambda folder: write_jsonl(
        folder / "predictions.jsonl",
        {
            "id": IDS,
            "prediction": GOOD,
            "reference": REFERENCES,
            "scores": [{"rouge1": 1.0}] * COUNT,
            "num_tokens": [9] * COUNT,
            "at_cap": [False] * COUNT,
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_means_of_rouge_score(layout, tmp_path):
    """Whatever tool wrote the file, the means are those of rouge_score."""
    row = triptych.score({"mine": LAYOUTS[layout](tmp_path)}).rows["mine"]
    for name in TYPES:
        assert getattr(row, name).mean == pytest.approx(EXPECTED[name], abs=1e-9)


@pytest.mark.parametrize("references", ["references.txt", "test.csv"])
def test_plain_text_is_a_prediction_a_line(references, tmp_path):
    """`generated_predictions.txt` has one prediction per line, with references in plain text or a table; an empty line
    is an empty output."""
    texts = [*one_line(GOOD[:-1]), ""]
    (tmp_path / "generated_predictions.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "references.txt").write_text("\n".join(one_line(REFERENCES)))
    articles = ["An article."] * COUNT
    write_csv(tmp_path / "test.csv", {"id": IDS, "article": articles, "highlights": one_line(REFERENCES)})
    comparison = triptych.score({"t5": tmp_path / "generated_predictions.txt"}, references=tmp_path / references)
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    scores = [scorer.score(*pair)["rouge1"].fmeasure for pair in zip(one_line(REFERENCES), texts, strict=True)]
    expected = 100 * fmean(scores)
    assert comparison.rows["t5"].rouge1.mean == pytest.approx(expected, abs=1e-9)
    assert any("joined by the order" in flag for flag in comparison.flags)
    assert any(
        "1 of 24 outputs is empty" in flag or "4% of the summaries are empty" in flag
        for flag in comparison.rows["t5"].flags
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_named_column_is_that_of_the_files_that_have_it(layout, tmp_path):
    """A file without the columns named for another tool's file is read by its usual names."""
    theirs = write_csv(tmp_path / "theirs.csv", {"key": IDS, "answer": GOOD, "gist": REFERENCES})
    files = {"theirs": theirs, "mine": LAYOUTS[layout](tmp_path)}
    columns = {"prediction": "answer", "reference": "gist", "id": "key"}
    rows = triptych.score(files, columns=columns, by_order=True).rows
    assert rows["mine"].rouge1 == rows["theirs"].rouge1
    assert rows["mine"].rouge1.mean == pytest.approx(EXPECTED["rouge1"], abs=1e-9)


def test_what_summarize_prints_can_be_scored(tmp_path):
    """Objects of `triptych summarize --json` are predictions, although their `label` is a row's name."""
    columns = {"id": IDS, "label": ["lora"] * COUNT, "run": ["r"] * COUNT, "summary": GOOD}
    file = write_jsonl(tmp_path / "mine.jsonl", columns)
    references = write_csv(tmp_path / "refs.csv", {"id": IDS, "summary": REFERENCES})
    comparison = triptych.score({"lora": file}, references=references)
    assert comparison.rows["lora"].rouge1.mean == pytest.approx(EXPECTED["rouge1"], abs=1e-9)
    theirs = write_csv(tmp_path / "theirs.csv", {"id": IDS, "answer": GOOD})
    both = triptych.score({"lora": file, "their": theirs}, references=references, columns={"prediction": "answer"})
    assert both.rows["lora"].rouge1 == both.rows["their"].rouge1 == comparison.rows["lora"].rouge1


def test_a_column_of_predictions_comes_before_what_summarize_prints(tmp_path):
    """A table that happens to have the columns of `summarize` is read by its `prediction`, not its `summary`."""
    columns = {"id": IDS, "label": ["lora"] * COUNT, "run": ["r"] * COUNT, "summary": REFERENCES, "prediction": GOOD}
    file = write_csv(tmp_path / "table.csv", columns)
    comparison = triptych.score({"lora": file}, columns={"reference": "summary"})
    assert comparison.rows["lora"].rouge1.mean == pytest.approx(EXPECTED["rouge1"], abs=1e-9)


def test_named_columns_also_replace_those_of_known_layouts(tmp_path):
    """`--columns` names the references of a harness's samples, and the ids of what `summarize` printed."""
    file = write_harness(tmp_path / "samples.jsonl", GOOD)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | {"gold": line["target"], "target": "x"}) + "\n" for line in lines))
    mean = triptych.score({"a": file}, columns={"reference": "gold"}).rows["a"].rouge1.mean
    assert mean == pytest.approx(EXPECTED["rouge1"], abs=1e-9)
    printed = {"id": IDS[::-1], "key": IDS, "label": ["a"] * COUNT, "run": ["r"] * COUNT, "summary": GOOD}
    references = write_csv(tmp_path / "refs.csv", {"key": IDS, "summary": REFERENCES})
    mine = write_jsonl(tmp_path / "mine.jsonl", printed)
    mean = triptych.score({"a": mine}, references=references, columns={"id": "key"}).rows["a"].rouge1.mean
    assert mean == pytest.approx(EXPECTED["rouge1"], abs=1e-9)


def test_files_are_joined_by_id_whatever_their_order(good, bad, tmp_path):
    """Rows in another order, with the same ids, give the same comparison."""
    sorted_bad = write_csv(tmp_path / "sorted.csv", {"id": IDS, "prediction": BAD})
    first, second = (triptych.score({"good": good, "bad": file}) for file in (bad, sorted_bad))
    assert first.rows["bad"].rouge2 == second.rows["bad"].rouge2
    assert first.tests == second.tests and first.verdict == second.verdict
    assert first.rows["good"].rouge1.mean == pytest.approx(EXPECTED["rouge1"], abs=1e-9)


def test_a_name_given_again_is_another_seed(good, bad, tmp_path):
    """Sets of predictions with the same name are seeds of one row, and the means are over both."""
    again = write_jsonl(tmp_path / "again.jsonl", {"id": IDS, "prediction": BAD})
    comparison = triptych.score({"mine": [good, again], "other": bad})
    alone = triptych.score({"other": bad, "mine": good})
    assert comparison.rows["mine"].seeds == [0, 1] and comparison.rows["other"].seeds == [0]
    expected = (EXPECTED["rouge1"] + alone.rows["other"].rouge1.mean) / 2
    assert comparison.rows["mine"].rouge1.mean == pytest.approx(expected, abs=1e-9)
    assert any("same number of sets" in flag for flag in comparison.flags)


def test_only_common_documents_are_scored_and_it_is_said(good, tmp_path):
    """Documents missing from one system are left out for all, and the numbers are given."""
    part = write_csv(tmp_path / "part.csv", {"id": [*IDS[4:], "extra"], "prediction": [*BAD[4:], "More."]})
    comparison = triptych.score({"all": good, "part": part})
    assert comparison.num_documents == COUNT - 4
    assert any("good.jsonl has 24 documents, of which 4 are not in every file" in flag for flag in comparison.flags)
    assert any("part.csv has 21 documents, of which 1 is not in every file" in flag for flag in comparison.flags)


def test_all_systems_are_scored_against_the_same_references(good, tmp_path):
    """If files have different references, the first or the given ones are used for all, and the difference is
    reported."""
    theirs = write_csv(tmp_path / "theirs.csv", {"id": IDS, "prediction": GOOD, "label": [*REFERENCES[:-2], "x", "y"]})
    comparison = triptych.score({"mine": good, "theirs": theirs})
    assert comparison.rows["mine"].rouge1 == comparison.rows["theirs"].rouge1
    said = "The references of theirs.csv differ from those of good.jsonl in 2 of 24 documents"
    assert any(said in flag for flag in comparison.flags)
    third = write_csv(tmp_path / "third.csv", {"id": IDS, "summary": GOOD})
    bare = write_csv(tmp_path / "bare.csv", {"id": IDS, "prediction": GOOD})
    given = triptych.score({"mine": bare}, references=third)
    assert given.rows["mine"].rouge1.mean == pytest.approx(100)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """The command's status and output."""
    status = cli.main(["score", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_scored_files_are_reported_without_texts(good, bad, tmp_path, capsys):
    """Report and tables go to another folder, without a suite, since none was run."""
    out, to = tmp_path / "scores", tmp_path / "shown"
    assert run(capsys, f"good={good}", f"bad={bad}", "--out", out)[0] == 0
    triptych.report(out, to=to, texts=False)
    assert (to / "report.html").is_file() and not {"suite.json", "runs"} & {path.name for path in to.iterdir()}


def test_a_folder_of_scores_is_a_results_folder(good, bad, tmp_path, capsys):
    """DIR has comparison.json, tables, reports and scored predictions; `report` reproduces the comparison from it."""
    out = tmp_path / "scores"
    status, printed, _ = run(capsys, f"good={good}", f"bad={bad}", "--out", out)
    assert status == 0 and "good − bad" in printed
    names = {path.name for path in out.iterdir() if path.name != ".lock"}
    tables = {"comparison.json", "comparison.csv", "comparison_tests.csv", "comparison.md"}
    assert names == tables | {"report.pdf", "report.html", "runs", "scored.json"}
    written = json.loads((out / "comparison.json").read_text())
    assert written["source"] == "files" and list(written["rows"]) == ["good", "bad"]
    figures = {"a", "b", "metric", "difference", "low", "high", "p_value", "p_value_adjusted"}
    assert figures <= written["tests"][0].keys()
    assert compare_results(read_results(out)).model_dump(mode="json") == written
    status, *_ = run(capsys, f"good={good}", "--out", out, "--no-report")
    assert status == 0 and not (out / "report.pdf").exists() and [p.name for p in (out / "runs").iterdir()] == ["good"]


def test_scoring_needs_no_torch(good, bad, tmp_path):
    """The command works even if importing torch, transformers or peft fails."""
    arguments = ["score", f"good={good}", f"bad={bad}", "--out", str(tmp_path / "out"), "--no-report"]
    code = f"{TORCHLESS}\nfrom triptych.cli import main\nsys.exit(main({arguments!r}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert json.loads((tmp_path / "out/comparison.json").read_text())["rows"].keys() == {"good", "bad"}


def test_further_metrics_score_files_too(good, tmp_path, capsys):
    """A plug-in's metric gets its column; without documents, scores that need them are left out, not invented."""
    plugin = tmp_path / "first_word.py"
    plugin.write_text(
        "import triptych\n\n\n@triptych.register('first-word')\nclass FirstWord(triptych.Metric):\n"
        "    '''Whether the first words agree.'''\n\n    def score(self, prediction, reference, document):\n"
        "        return {'first_word': float(prediction.split()[:1] == reference.split()[:1])}\n\n"
        "    def signature(self):\n        return 'first-word|1'\n"
    )
    out = tmp_path / "out"
    arguments = [f"good={good}", "--plugin", plugin, "--metric", "first-word", "--out", out, "--no-report"]
    assert run(capsys, *arguments)[0] == 0
    row = json.loads((out / "comparison.json").read_text())["rows"]["good"]
    assert row["further_scores"] == {"first_word": 1.0}
    assert row["text_shape"]["novel_bigrams"] is None and row["text_shape"]["share_at_cap"] is None
    assert row["text_shape"]["prediction_words"] == 14


def test_documents_make_copying_known(good, tmp_path):
    """If the references' file has the documents, copying is measured, and outputs that contain the document are
    reported."""
    article = [f"{sentence(i, 30)} {sentence(i + 2, 30)}" for i in range(COUNT)]
    references = write_csv(tmp_path / "test.csv", {"id": IDS, "article": article, "highlights": REFERENCES})
    echoes = [f"{document}\nTL;DR: {output}" for document, output in zip(article, GOOD, strict=True)]
    echo = write_csv(tmp_path / "echo.csv", {"id": IDS, "pred": echoes})
    comparison = triptych.score({"good": good, "echo": echo}, references=references)
    assert comparison.rows["echo"].text_shape.longest_copied_words >= 60
    assert any("24 of 24 outputs begin with their whole document" in flag for flag in comparison.rows["echo"].flags)
    assert not any("begin with" in flag for flag in comparison.rows["good"].flags)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda texts: ["", *texts[1:]], "1 of 24 outputs is empty"),
        (lambda texts: [texts[0]] * 6 + texts[6:], "outputs also occur for another document"),
        (lambda texts: [" ".join(text.split()[:9]) for text in texts], "end without final punctuation"),
        (
            lambda texts: [" ".join((text * 3).split()[: 30 if i % 2 else 12]) for i, text in enumerate(texts)],
            "50% of the outputs have exactly 30 words and none has more: they may have been cut there.",
        ),
        (lambda texts: REFERENCES, "equal their reference word for word"),
    ],
    ids=["empty", "repeated", "cut", "capped", "references"],
)
def test_unfair_outputs_are_told(change, said, tmp_path):
    """Unfairness visible in the texts is in the row's flags."""
    file = write_jsonl(tmp_path / "a.jsonl", {"id": IDS, "prediction": change(GOOD), "reference": REFERENCES})
    flags = triptych.score({"mine": file}).rows["mine"].flags
    assert any(said in flag for flag in flags), flags


def of_lengths(lengths: list[int]) -> list[str]:
    """Texts with these numbers of words, each with a full stop, no two alike."""
    return [" ".join([str(place), *WORDS * 10][:length]) + "." for place, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("lengths", "cut"),
    [
        ([min(20 + 7 * i % 60, 60) for i in range(55)], True),
        ([min(5 + 7 * i % 60, 56) for i in range(200)], True),
        ([*(50 + i for i in range(52)), 109, 109, 109], False),
        ([*(i % 17 + 40 for i in range(26)), 80, 80, 80, 80], False),
        ([8] * 10 + [9] * 25 + [10] * 30 + [11] * 20 + [12] * 12, False),
    ],
    ids=["cut", "few cut", "3 of 55", "4 of 30", "short texts"],
)
def test_outputs_of_one_length_are_cut_if_they_pile_up(lengths, cut):
    """Outputs are said to be cut by a limit if many have the greatest length, and more than have slightly smaller
    ones."""
    references = of_lengths([10 + 3 * i % 41 for i in range(len(lengths))])
    flags = output_flags(of_lengths(lengths), references, [None] * len(lengths))
    assert any("may have been cut there" in flag for flag in flags) == cut, flags


def test_sound_outputs_raise_no_flag_of_their_own(good):
    """Ordinary texts raise no flags."""
    assert triptych.score({"good": good}).rows["good"].flags == []


def test_too_little_for_a_verdict_is_said(good, bad):
    """Few documents, and a single set of predictions, are reported."""
    flags = triptych.score({"good": good, "bad": bad}).flags
    assert any("24 documents are few: only very large" in flag for flag in flags)
    assert any("one set of predictions" in flag for flag in flags)


def test_decisions_and_verdict_follow_the_tests(good, bad, tmp_path):
    """Every test has a decision; one set of predictions ranks no system, several may; the user chooses the margin."""
    second = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", {"id": IDS, "prediction": texts})
        for name, texts in (("good-again", GOOD), ("bad-again", BAD))
    }
    one = triptych.score({"good": good, "bad": bad})
    assert one.verdict.startswith("By ROUGE-1, good (") and " is above " in one.verdict
    assert "Comparing the systems themselves" in one.verdict and {test.seeds[0] for test in one.tests} == {1}
    assert [test.decision for test in one.tests if test.metric == "rouge1"] == ["different"]
    several = triptych.score({"good": [good, second["good-again"]], "bad": [bad, second["bad-again"]]})
    assert several.verdict.startswith("The best is good (") and "significantly better than bad" in several.verdict
    longer = [[text + " zebra" * (i % 2 == odd) for i, text in enumerate(GOOD)] for odd in (0, 1)]
    columns = [{"id": IDS, "prediction": texts, "reference": REFERENCES} for texts in longer]
    pair = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", of) for name, of in zip(("even", "odd"), columns, strict=True)
    }
    same = triptych.score(pair, settings={"analysis": {"margin": 5}})
    assert {test.decision for test in same.tests if test.metric == "rouge1"} == {"equivalent"}
    assert "no two of these outputs" in same.verdict
    twice = triptych.score({"a": good, "b": good})
    assert any("wrote the same summaries" in flag for flag in twice.flags)
    assert triptych.score({"good": good}).verdict == "There is nothing to compare: one system was scored."


def table(folder: Path, **columns: list) -> str:
    """A CSV file with these columns, as an argument."""
    return f"mine={write_csv(folder / 'mine.csv', columns)}"


def text(folder: Path, content: str | bytes, name: str = "mine.jsonl") -> str:
    """A file with this content, as an argument."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"mine={folder / name}"


LINE = '{"id": "a", "prediction": "x y", "reference": "x z"}\n'
BAD_FILES = {
    "missing file": (lambda f, g: ["mine=nothing.jsonl"], "There is no file 'nothing.jsonl'"),
    "a folder": (lambda f, g: [f"mine={f}"], "is a folder"),
    "no equals sign": (lambda f, g: [str(g)], "is not NAME=FILE. Give each file the name of its system: good="),
    "no file after it": (lambda f, g: ["mine="], "is not NAME=FILE"),
    "the same file twice": (lambda f, g: [f"mine={g}", f"mine={g}"], "has the file"),
    "an empty file": (lambda f, g: [text(f, "")], "is empty"),
    "an empty text": (lambda f, g: [text(f, "", "mine.txt")], "is empty"),
    "a header alone": (lambda f, g: [text(f, "id,prediction,reference\n", "mine.csv")], "no rows"),
    "no prediction column": (
        lambda f, g: [table(f, id=["a"], article=["b"], reference=["c"])],
        "no column is known to hold the predictions. Its columns: id, article, reference",
    ),
    "two prediction columns": (
        lambda f, g: [table(f, id=["a"], output=["b"], hypothesis=["d"], reference=["c"])],
        "could be any of 'hypothesis', 'output'",
    ),
    "no references": (lambda f, g: [table(f, id=["a"], prediction=["b"])], "There are no references"),
    "empty references": (
        lambda f, g: [table(f, id=["a"], prediction=["b"], reference=[""])],
        "There are no references",
    ),
    "an id twice": (lambda f, g: [text(f, LINE * 2)], "line 2: the id 'a' is also that of"),
    "an id missing": (lambda f, g: [text(f, LINE + LINE.replace('"a"', "null"))], "line 2: there is no id"),
    "an id that the first line lacks": (
        lambda f, g: [text(f, LINE.replace('"id": "a", ', "") + LINE)],
        "line 1: there is no 'id'",
    ),
    "no id in common": (lambda f, g: [f"other={g}", text(f, LINE)], "have no id in common"),
    "not UTF-8": (
        lambda f, g: [text(f, b"id,prediction,reference\na,caf\xe9,b\n", "mine.csv")],
        "not UTF-8: byte 0xe9",
    ),
    "a NUL byte": (lambda f, g: [text(f, b"a\x00b\n", "mine.txt")], "NUL byte"),
    "malformed JSON": (lambda f, g: [text(f, LINE + '{"id": "b", "prediction": \n')], "line 2: malformed JSON"),
    "malformed CSV": (lambda f, g: [text(f, 'id,prediction,reference\na,"b"c,d\n', "mine.csv")], "line 2: malformed"),
    "a JSON line without the key": (
        lambda f, g: [text(f, LINE + '{"id": "b", "reference": "c"}\n')],
        "line 2: there is no 'prediction'",
    ),
    "an n-best list": (
        lambda f, g: [text(f, '{"id": "a", "prediction": ["x", "y"], "reference": "z"}\n')],
        "line 1: column 'prediction' holds a list (an n-best list)",
    ),
    "an n-best list as text": (
        lambda f, g: [table(f, id=["a"], prediction=["['x', 'y']"], reference=["c"])],
        "is written as a list",
    ),
    "several references": (
        lambda f, g: [text(f, '{"id": "a", "prediction": "x", "reference": ["z", "y"]}\n')],
        "several references",
    ),
    "several answers": (
        lambda f, g: [
            text(f, '{"doc_id": 0, "doc": {}, "target": "A", "filtered_resps": [["-1", "y"], ["-2", "n"]]}\n')
        ],
        "filtered_resps holds 2 answers",
    ),
    "numbers": (
        lambda f, g: [text(f, '{"id": "a", "prediction": 3.5, "reference": "z"}\n')],
        "(float), but text is needed",
    ),
    "numbers as text": (
        lambda f, g: [table(f, id=["a", "b"], output=["1.5", "17"], reference=["c", "d"])],
        "every prediction is a number",
    ),
    "other counts without ids": (lambda f, g: [f"other={g}", text(f, "one\ntwo\n", "mine.txt")], "has 24 rows and"),
    "another order without ids": (
        lambda f, g: [f"other={g}", table(f, prediction=GOOD, reference=REFERENCES[::-1])],
        "not of the same documents in the same order",
    ),
    "other documents under the same ids": (
        lambda f, g: [f"other={g}", table(f, id=IDS, prediction=GOOD, reference=[*REFERENCES[1:], REFERENCES[0]])],
        "in 24 of 24 documents: the same ids are not the same documents, or one file has references of another kind",
    ),
    "other references than those given": (
        lambda f, g: [f"mine={g}", "--references", write_csv(f / "gold.csv", {"id": IDS, "summary": BAD})],
        "Give both the same ids, or leave the column of references out of good.jsonl.",
    ),
    "a path as name": (lambda f, g: [f"../mine={g}"], "cannot be the name of a system"),
    "a formula as name": (lambda f, g: [f"+SUM(A1)={g}"], "cannot be the name of a system"),
    "control characters in the name": (lambda f, g: [f"mi\x1bne={g}"], "cannot be the name of a system"),
    "an empty name": (lambda f, g: [f"={g}"], "cannot be the name of a system"),
    "too long a name": (lambda f, g: [f"{'m' * 101}={g}"], "cannot be the name of a system"),
    "too large a line": (lambda f, g: [text(f, b"x" * (16 * 2**20 + 2), "mine.txt")], "the line is longer than 16 MiB"),
    "a column that no file has": (
        lambda f, g: [f"other={g}", table(f, id=["doc-1"], output=["b"]), "--columns", "prediction=outptu"],
        "No file has a column 'outptu' (--columns prediction). Did you mean 'output'?",
    ),
    "an id's column that no file has": (
        lambda f, g: [f"mine={g}", "--columns", "id=key"],
        "No file has a column 'key' (--columns id)",
    ),
    "a predictions' column that the references alone have": (
        lambda f, g: [
            *(f"mine={g}", "--references", table(f, id=["a"], gist=["c"]).removeprefix("mine=")),
            *("--columns", "prediction=gist", "reference=gist"),
        ],
        "No file has a column 'gist' (--columns prediction)",
    ),
    "neither the named column nor a usual one": (
        lambda f, g: [f"other={g}", table(f, id=["a"], answer=["b"]), "--columns", "prediction=reply"],
        "there is no column 'reply' (--columns prediction), and none with a usual name. Known: answer, id.",
    ),
    "several usual columns instead of the named one": (
        lambda f, g: [
            f"other={g}",
            table(f, id=["a"], output=["b"], hypothesis=["d"]),
            "--columns",
            "prediction=reply",
        ],
        "the prediction could be any of 'hypothesis', 'output'. Call the right one 'prediction'.",
    ),
    "an unknown role": (lambda f, g: [f"mine={g}", "--columns", "predictions=output"], "Did you mean 'prediction'"),
    "an unknown metric": (lambda f, g: [f"mine={g}", "--metric", "rogue"], "Did you mean 'rouge'"),
    "a setting of training": (lambda f, g: [f"mine={g}", "--set", "training.max_epochs=3"], "has no meaning"),
    "a loss as the primary measure": (
        lambda f, g: [f"mine={g}", "--set", "analysis.primary=loss"],
        "Name a ROUGE score",
    ),
    "a file for a folder": (lambda f, g: [f"mine={g}", "--out", str(g)], "is a file"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_input_is_one_clear_message(kind, good, tmp_path, capsys, monkeypatch):
    """Any problem with the files ends with status 2 and one message that names it, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    make, said = BAD_FILES[kind]
    out = tmp_path / "out"
    arguments = make(tmp_path, good)
    status, printed, message = run(capsys, *arguments, *([] if "--out" in arguments else ["--out", out]), "--no-report")
    assert (status, printed) == (2, "") and said in message, message
    assert message.startswith("triptych: ") and message.count("\n") == 1 and "\x1b" not in message
    assert not out.exists()


def test_a_folder_with_something_else_is_left_alone(good, tmp_path, capsys):
    """Neither the runs of a comparison nor other files are overwritten."""
    for name in ("suite.json", "notes.txt"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("{}")
        status, _, message = run(capsys, f"mine={good}", "--out", folder)
        assert status == 2 and "--out" in message and [path.name for path in folder.iterdir()] == [name]


def test_several_filters_of_the_harness_are_named(tmp_path):
    """A samples file with two filters has every document twice: the user must say which to keep."""
    file = write_harness(tmp_path / "samples.jsonl", GOOD)
    file.write_text(file.read_text() + file.read_text().replace('"none"', '"strict"'))
    with pytest.raises(InputError, match="keep one of several filters, runs or beams"):
        triptych.score({"mine": file})


def test_the_documents_of_the_harness_are_known(tmp_path):
    """`doc` in the harness's samples has the article, under its usual name."""
    lines = predictions.read_prediction_file(str(write_harness(tmp_path / "samples.jsonl", GOOD)))
    assert [row.document for row in lines.rows[:2]] == ["Article 0.", "Article 1."]
    assert [row.id for row in lines.rows[:2]] == ["0", "1"]


ASKS_FOR_DOCUMENT = """
import triptych


@triptych.register("lead-words")
class LeadWords(triptych.Metric):
    '''How the summary goes with the beginning of its document.'''

    of_document = ("in_lead",)

    def score(self, prediction, reference, document):
        first = document.split()[:200]
        return {"in_lead": float(prediction.split()[0] in first), "length": float(len(prediction.split()))}

    def signature(self):
        return "lead-words|1"
"""


def test_stored_predictions_are_scored_again(tmp_path, monkeypatch, capsys):
    """A metric can score the predictions of a results folder after its runs: no run's file changes, and the tables have
    it."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "lead_words.py").write_text(ASKS_FOR_DOCUMENT)
    out = tmp_path / "out"
    small = {"limits": {"train_documents": 4, "validation_documents": 2, "test_documents": 3}, "methods": ["lead-3"]}
    triptych.train("lead-3", preset="demo", settings=small, out=out, device="cpu")
    before = {path: path.read_bytes() for path in out.glob("runs/**/*") if path.is_file()}
    arguments = [out, "--metric", "lead-words", "--plugin", tmp_path / "lead_words.py", "--no-report"]
    status, printed, message = run(capsys, *arguments)
    assert status == 0 and "Scored by lead-words: in_lead, length." in printed, message
    assert {path: path.read_bytes() for path in before} == before
    predictions_ = [json.loads(line)["prediction"] for line in (out / "runs/lead-3/0/predictions.jsonl").open()]
    row = json.loads((out / "comparison.json").read_text())["rows"]["lead-3"]
    assert row["further_scores"] == {"in_lead": 1.0, "length": fmean(len(text.split()) for text in predictions_)}
    assert (
        ",in_lead," in (out / "comparison.csv").read_text() and "| in\\_lead |" in (out / "comparison.md").read_text()
    )
    status, printed, _ = run(capsys, out, "--metric", "rouge")
    assert status == 0 and "gives the scores that the runs already have: nothing was added" in printed
    kept = json.loads((out / "scores/lead-words.json").read_text())
    kept["runs"][0]["predictions_sha256"] = "0" * 64
    (out / "scores/lead-words.json").write_text(json.dumps(kept))
    results = read_results(out)
    assert not results.runs[0].record.further_scores
    assert any("lead-words do not cover lead-3" in flag for flag in compare_results(results).flags)


def test_a_folder_of_scores_is_scored_again(good, bad, tmp_path, capsys):
    """Scored files are results like any others; without their documents, scores that need them are left out."""
    (tmp_path / "lead_words.py").write_text(ASKS_FOR_DOCUMENT)
    out = tmp_path / "out"
    triptych.score({"good": good, "bad": bad}, out=out, report=False, metrics=())
    status, printed, message = run(
        capsys, out, "--metric", "lead-words", "--plugin", tmp_path / "lead_words.py", "--no-report"
    )
    assert status == 0 and "scores that need them are left out" in printed, message
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    assert rows["good"]["further_scores"] == {"length": 14.0} and rows["bad"]["further_scores"] == {"length": 12.0}


def test_several_metrics_are_all_known_or_none_is_used(good, bad, tmp_path, capsys):
    """A mistyped name is refused before another metric has written anything, and the outcome of each is printed."""
    (tmp_path / "lead_words.py").write_text(ASKS_FOR_DOCUMENT)
    out = tmp_path / "out"
    triptych.score({"good": good, "bad": bad}, out=out, report=False, metrics=())
    plugin = ["--plugin", tmp_path / "lead_words.py", "--no-report"]
    status, _, message = run(capsys, out, "--metric", "lead-words", "--metric", "lead-wrods", *plugin)
    assert status == 2 and "lead-wrods" in message and not (out / "scores").exists()
    status, printed, message = run(capsys, out, "--metric", "lead-words", "--metric", "rouge", *plugin)
    assert status == 0 and "Scored by lead-words: length" in printed and "The metric rouge gives" in printed, message


ALL_OF_DOCUMENT = ASKS_FOR_DOCUMENT.replace('("in_lead",)', '("in_lead", "length")')


def test_a_metric_without_a_score_is_an_error(good, tmp_path, capsys):
    """If all scores of a metric need unknown documents, this is reported, and nothing is written."""
    (tmp_path / "lead_words.py").write_text(ALL_OF_DOCUMENT)
    out, metric = tmp_path / "out", ["--metric", "lead-words", "--plugin", tmp_path / "lead_words.py"]
    status, _, message = run(capsys, f"good={good}", *metric, "--out", out, "--no-report")
    assert status == 2 and "gives no score: its scores need the documents. Add them as a column" in message
    assert not out.exists()
    triptych.score({"good": good}, out=out, report=False, metrics=())
    before = (out / "comparison.json").read_bytes()
    status, _, message = run(capsys, out, *metric)
    assert status == 2 and "a folder of scored files does not keep them. Score the files again" in message
    assert not (out / "scores").exists() and (out / "comparison.json").read_bytes() == before
    articles = write_csv(tmp_path / "test.csv", {"id": IDS, "article": GOOD, "summary": REFERENCES})
    assert run(capsys, f"good={good}", "--references", articles, *metric)[0] == 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("{} if 'doc' in prediction else {'own': 1.0}", "has no score 'own', which others have"),
        ("{'own': float('nan')}", "The metric 'own' gives nan as 'own': a finite number is needed"),
        ("{'own': None}", "The metric 'own' gives None as 'own': a finite number is needed"),
    ],
)
def test_a_metric_that_scores_only_some_documents_is_refused(found, said, tmp_path, capsys):
    """Every document needs the same finite scores; nothing is written."""
    (tmp_path / "own.py").write_text(
        "from triptych import contracts, registry\n\n@registry.register('own')\nclass Own(contracts.Metric):\n"
        f"    'Its own.'\n\n    def score(self, prediction, reference, document):\n        return {found}\n\n"
        "    def signature(self):\n        return 'own'\n"
    )
    file = write_csv(tmp_path / "mine.csv", {"id": IDS, "prediction": ["doc", *GOOD[1:]], "reference": REFERENCES})
    out, plugin = tmp_path / "a=b", ["--plugin", tmp_path / "own.py", "--metric", "own"]
    status, _, message = run(capsys, f"mine={file}", "--out", out, *plugin)
    assert status == 2 and said in message and not (out / "comparison.json").exists()
    triptych.score({"mine": file}, out=out, report=False, metrics=())
    status, _, message = run(capsys, out, *plugin)
    assert status == 2 and said in message and not (out / "scores").exists()


def test_a_system_without_a_file_is_refused(good):
    """An empty list, such as of a pattern that matches nothing, is no system that can be left out."""
    with pytest.raises(ConfigError, match="The system 'theirs' has no file of predictions"):
        triptych.score({"good": good, "theirs": []})
    assert triptych.score({"good": good}, metrics="rouge").rows


def test_scored_files_are_no_runs(good, bad, tmp_path):
    """What needs a model says that there is none, and gives no remedy that would not help."""
    out = tmp_path / "out"
    triptych.score({"good": good, "bad": bad}, out=out)
    said = "holds scored files, not runs: there is no"
    for path in (out, out / "runs/good", out / "runs/good/0"):
        with pytest.raises(ResultsError, match=said):
            triptych.load(path)
    with pytest.raises(ResultsError, match="holds scored files, not runs: there is nothing to submit"):
        triptych.bundle(out, tmp_path / "z.zip")


def test_documents_of_which_some_are_missing_are_not_used(good, tmp_path):
    """If one document has no text, what needs documents is left out, and this is reported."""
    articles = write_csv(tmp_path / "test.csv", {"id": IDS, "article": [*GOOD[1:], ""], "summary": REFERENCES})
    found = triptych.score({"good": good}, references=articles)
    assert found.rows["good"].text_shape.novel_bigrams is None
    assert "1 of 24 documents has no text, so copying from it is not measured." in found.flags


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what scores its predictions with --metric M"),
        (["--metric", "rogue"], "Did you mean 'rouge'"),
        (["--metric", "rouge", "--by-order"], "is a results folder, and --by-order is for files"),
    ],
)
def test_a_results_folder_is_scored_by_a_metric_alone(arguments, said, good, tmp_path, capsys):
    """Arguments that make no sense with a results folder are refused."""
    triptych.score({"good": good}, out=tmp_path / "out", report=False)
    status, _, message = run(capsys, tmp_path / "out", *arguments)
    assert status == 2 and said in message


def test_a_report_on_files_speaks_of_systems_and_sets(good, bad, tmp_path):
    """Sentences on scored files do not speak of methods, seeds or trained models, and an empty output is told once."""
    again = write_jsonl(tmp_path / "again.jsonl", {"id": IDS, "prediction": ["", *BAD[1:]]})
    out = tmp_path / "out"
    comparison = triptych.score({"good": good, "bad": [bad, again]}, out=out, report=False)
    data = report_data(read_results(out), comparison)
    texts = [claim["text"] for topic in data["claims"].values() for claim in topic]
    texts += [*data["flags"], data["examples-rule"], *(table["caption"] for table in data["tables"].values())]
    assert not [text for text in texts if re.search(r"\b([Ss]eeds?|[Mm]ethods|trained models)\b", text)]
    assert [flag for flag in data["flags"] if "empty" in flag] == ["bad: Set 1: 1 of 24 outputs is empty and scores 0."]
    assert "; a rough estimate, from 2 sets of predictions)" in data["tables"]["tests"]["caption"]


def test_advice_on_scored_files_is_about_scores_alone(good, bad, tmp_path):
    """What the systems cost is not known: no cost is named, and no limit can be applied."""
    out = tmp_path / "out"
    triptych.score({"good": good, "bad": bad}, out=out, report=False)
    text = triptych.advise(out).text
    assert text.startswith("Without a limit: good.") and "(1 set of predictions, 24 test documents" in text
    assert not re.search("train|cheap|cost", text.partition("Note:")[0])
    with pytest.raises(ConfigError, match="Scored files do not say what their systems cost"):
        triptych.advise(out, max_memory="8GB")


def test_one_scored_document_gives_no_verdict(tmp_path):
    """One document is not tested: there is no verdict on the outputs, and no empty table of differences."""
    files = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", {"id": ["1"], "prediction": [text], "reference": REFERENCES[:1]})
        for name, text in (("a", GOOD[0]), ("b", BAD[0]))
    }
    comparison = triptych.score(files)
    assert comparison.verdict == "Nothing could be tested."
    assert "There is only one test document, so there are no tests and no intervals." in comparison.flags
    assert not any(" few" in flag for flag in comparison.flags)
    shown = io.StringIO()
    print_comparison(Console(file=shown, width=160), comparison)
    assert "Differences" not in shown.getvalue() and "2 systems: 1 document, scored" in shown.getvalue()
