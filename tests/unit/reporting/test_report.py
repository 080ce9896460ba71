"""The printed report and the web page show what the records contain, whatever that is."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import typst

from support.folders import write_results
from support.made_up import hostile_results, make_comparison, make_results
from support.paths import CHECKOUT
from triptych import cli
from triptych.analysis.curves import LossCurves, loss_curves, mean_curve, thin
from triptych.reporting import document as document_module
from triptych.reporting import write_html, write_pdf, write_report
from triptych.reporting.document import report_data
from triptych.reporting.examples import browser_data, examples
from triptych.reporting.tables.settings import settings_table
from triptych.text import formats

needs_pdftotext = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is absent")
PAPER = Path(document_module.__file__).parent / "paper"


def pdf_text(path: Path) -> str:
    """The words of a PDF, laid out as on the page."""
    return subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder with all documents of a suite with two seeds, one of them failed."""
    results = make_results(seeds=(0, 1), failed=(("lora", 1),))
    out = tmp_path_factory.mktemp("report")
    write_report(results, make_comparison(results), out)
    return out


def test_all_documents_are_written_and_nothing_else(written: Path) -> None:
    """A report is six files, and no temporary file is left."""
    assert sorted(path.name for path in written.iterdir()) == [
        "comparison.csv",
        "comparison.json",
        "comparison.md",
        "comparison_tests.csv",
        "report.html",
        "report.pdf",
    ]


def test_same_results_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    """A report depends only on the records: written again, each file is the same byte by byte."""
    results = make_results(seeds=(0, 1), failed=(("lora", 1),))
    for path in write_report(results, make_comparison(results), tmp_path):
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_page_holds_every_number_beside_its_label(written: Path) -> None:
    """Each number of a method is in a table row that begins with its label; the printed report refers to the files."""
    results = make_results(seeds=(0, 1), failed=(("lora", 1),))
    comparison = make_comparison(results)
    lines = re.findall(r"<tr>(.*?)</tr>", (written / "report.html").read_text("utf-8"), re.S)
    words = [re.sub(r"<[^>]*>", " ", line).split() for line in lines]
    for label, row in comparison.rows.items():
        own = {word for line in words if line and line[0] == label for word in line}
        numbers = [
            getattr(getattr(row, name), part)
            for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")
            for part in ("mean", "low", "high")
        ]
        numbers += [*row.loss.model_dump().values(), *row.cost.values()]
        numbers += [*row.parameters.model_dump().values()] if row.parameters else []
        numbers += [*row.text_shape.model_dump().values()] if row.text_shape else []
        missing = [number for number in numbers if number is not None and formats.exact(number) not in own]
        assert missing == [], label


@needs_pdftotext
def test_pdf_has_every_part(written: Path) -> None:
    """The printed report has every part that the assignment requires."""
    text = " ".join(pdf_text(written / "report.pdf").split())
    for part in (
        "Abstract",
        "Data, cleaning and limits",
        "[num_prompts, embedding_size]",
        "[input_dim, rank]",
        "[rank, output_dim]",
        "pre-classifier",
        "Hyper-parameters",
        "Paired tests",
        "What the costs say",
        "What models get wrong",
        "Discussion",
        "Conclusion",
        "comparison.csv",
        "Soft prompts",
        "Efficiency and scale",
        "Principles of LoRA",
        "expressiveness and generalization",
        "Limits",
        "Provenance",
        "References",
        "Reductions",
        "synthetic",
    ):
        assert part in text, part


def test_html_needs_nothing_but_itself(written: Path) -> None:
    """The page has no address that a browser would fetch; links for the reader do not count."""
    page = (written / "report.html").read_text(encoding="utf-8")
    page = re.sub(r'<a href="https://[^"]*">', "<a>", page)
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|@import|url\((?!#)', page) == []


@needs_pdftotext
def test_example_names_no_place_of_a_machine() -> None:
    """The example in docs is a report of the demo, says that it is synthetic, and has no path of the machine that made
    it."""
    folder = CHECKOUT / "docs" / "example"
    for text in (pdf_text(folder / "report.pdf"), (folder / "report.html").read_text("utf-8")):
        assert "built in and synthetic" in " ".join(text.split())
        assert re.findall(r"/(?:home|root|tmp|Users|var|mnt)/[\w./-]+", text) == []


def test_html_has_no_article(written: Path) -> None:
    """The page embeds references and predictions of every run, but no documents."""
    data = json.loads(
        re.search(r'id="browser-data">(.*?)</script>', (written / "report.html").read_text("utf-8"), re.S)[1]
    )
    results = make_results(seeds=(0, 1), failed=(("lora", 1),))
    finished = [run for run in results.runs if run.done]
    assert [(run["label"], run["seed"]) for run in data["runs"]] == [(x.record.label, x.record.seed) for x in finished]
    assert [line[0] for line in data["runs"][3]["predictions"]] == [line.prediction for line in finished[3].predictions]
    assert set(data) == {"metrics", "documents", "runs", "total"}


@needs_pdftotext
def test_hostile_text_stays_text_in_print(tmp_path: Path) -> None:
    """Characters with a meaning in Typst, emoji and right-to-left text are printed as they are."""
    write_pdf(*hostile_results(), tmp_path / "report.pdf")
    text = pdf_text(tmp_path / "report.pdf").replace("\u200b", "")
    for part in ("#b", "$c$", "_d_", "@e", "<script>alert(1)</script>", "*h*", "`i`", "[j]", "{k}", "😀", "~"):
        assert part in text, part
    assert "םולש" in text or "שלום" in text


def test_numbers_keep_their_place_after_a_right_to_left_name() -> None:
    """A right-to-left name is isolated in every sentence; alone in its cell, and in the suite, it is unchanged."""
    name = "שלום-1"
    results = make_results((name, "full"), kinds={name: "lora"})
    made = report_data(results, make_comparison(results))
    apart = f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"
    texts = [claim["text"] for topic in made["claims"].values() for claim in topic if name in claim["text"]]
    assert len(texts) > 5 and all(text.count(name) == text.count(apart) for text in texts)
    assert made["tables"]["quality"]["rows"][0][0]["text"] == name
    assert apart not in made["settings"] and name in made["settings"]
    assert made["unprintable"] == ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../models/my-gpt2", "my-gpt2"),
        ("/data/news/", "news"),
        ("C:\\data\\news", "news"),
        ("abisee/cnn_dailymail", "CNN/DailyMail 3.0.0"),
        ("../shared/cnn_dailymail", "CNN/DailyMail 3.0.0"),
        ("someone/news", "someone/news"),
    ],
)
def test_the_report_says_names_and_not_paths(given: str, shown: str) -> None:
    """A local path is shown by its last part in title and sentences, a Hub name in full; provenance has both."""
    results = make_results(("lora", "full"), data=given)
    made = report_data(results, make_comparison(results))
    assert made["data"] == shown
    assert f"test documents of {shown}" in made["claims"]["setting"][0]["text"]
    assert {"key": "Data", "text": given} in made["provenance"]


def test_hostile_text_stays_text_on_the_web(tmp_path: Path) -> None:
    """The page has exactly its own script elements, and no tag from a record."""
    write_html(*hostile_results(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<script", page)) == 3
    assert len(re.findall(r"</script", page)) == 3
    assert page.count("&lt;script>alert(1)") > 5


CASES = {
    "one row": make_results(("lora",)),
    "one untrained row": make_results(("lead-3",)),
    "only baselines": make_results(("untuned", "lead-3")),
    "one failed row": make_results(failed=(("lora", 0),)),
    "only one finished": make_results(("lora", "full"), failed=(("full", 0),)),
    "no meters": make_results(meters=False),
    "many rows": make_results(
        ("untuned", *(f"lora-with-a-long-name-{number}" for number in range(8))),
        kinds={f"lora-with-a-long-name-{number}": "lora" for number in range(8)},
    ),
    "a name without spaces": make_results(("x" * 90, "full"), kinds={"x" * 90: "lora"}),
    "one document": make_results(documents=1),
}


ALIKE = {"one untrained row", "only one finished", "many rows", "a name without spaces", "one document"}


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in ALIKE)) for case in CASES])
def test_small_and_broken_suites_get_a_report(case: str, tmp_path: Path) -> None:
    """A suite with one method, a failed run, no meters or odd names still gets all its documents."""
    comparison = make_comparison(CASES[case])
    paths = write_report(CASES[case], comparison, tmp_path)
    assert all(path.stat().st_size > 100 for path in paths)
    if shutil.which("pdftotext"):
        text = pdf_text(tmp_path / "report.pdf").replace("\u200b", "")
        assert all(label[:8] in text for label in comparison.rows)


@needs_pdftotext
@pytest.mark.parametrize("case", ["many rows", "a name without spaces"])
def test_no_word_leaves_the_page_or_stands_on_another(case: str, tmp_path: Path) -> None:
    """With many methods and long names, every word is within the margins, and no words of a table overlap."""
    write_pdf(CASES[case], make_comparison(CASES[case]), tmp_path / "report.pdf")
    for number, page in enumerate(words_of_pages(tmp_path / "report.pdf"), 1):
        assert [word for word, left, _, right, _ in page if left < 60 or right > 595.3 - 60] == [], number
        for (a, *first), (b, *second) in combinations(page, 2):
            width = min(first[2], second[2]) - max(first[0], second[0])
            height = min(first[3], second[3]) - max(first[1], second[1])
            overlap = width > 1.5 and height > 0.5 * min(first[3] - first[1], second[3] - second[1])
            assert not overlap or "√" in (a, b), (number, a, b)


def words_of_pages(path: Path) -> list[list[tuple[str, float, float, float, float]]]:
    """Every word of every page with its box: left, top, right, bottom, in points."""
    boxes = subprocess.run(["pdftotext", "-bbox", str(path), "-"], capture_output=True, text=True, check=True).stdout
    pattern = r'xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">(.*?)</word>'
    return [
        [(word, *map(float, box)) for *box, word in re.findall(pattern, page)] for page in boxes.split("<page ")[1:]
    ]


@needs_pdftotext
def test_characters_without_a_glyph_are_owned_up_to(tmp_path: Path) -> None:
    """If the bundled fonts lack a character of a summary, the printed report says so."""
    results = make_results(("lora", "full"))
    for run in results.runs:
        for line in run.predictions:
            line.prediction = "漢字 " + line.prediction
    comparison = make_comparison(results)
    write_pdf(results, comparison, tmp_path / "report.pdf")
    assert "U+5B57" in pdf_text(tmp_path / "report.pdf")
    assert report_data(make_results(), make_comparison(make_results()))["unprintable"] == ""


def test_a_failure_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that cannot be written leaves the earlier one complete, and no leftover files."""
    results = make_results(("lora",))
    path = tmp_path / "report.pdf"
    write_pdf(results, make_comparison(results), path)
    before = path.read_bytes()
    monkeypatch.setattr(document_module, "examples", lambda results: [{"id": None, "main": True}])
    with pytest.raises(typst.TypstError):
        write_pdf(results, make_comparison(results), path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["report.pdf"]


def test_examples_are_chosen_by_rule() -> None:
    """The document on which the trained methods differ most, and of the others the best, the median and the worst by
    their mean, are shown for every method."""
    results = make_results()
    trained = [run for run in results.runs if run.trained]
    scores = {
        line.id: [run.predictions[place].scores["rouge1"] for run in trained]
        for place, line in enumerate(results.runs[0].predictions)
    }
    unlike = max(scores, key=lambda document: max(scores[document]) - min(scores[document]))
    others = sorted(scores.keys() - {unlike}, key=lambda document: sum(scores[document]))
    shown = {example["why"]: example for example in examples(results)}
    assert shown["Largest difference between methods"]["id"] == unlike
    assert (shown["Worst"]["id"], shown["Best"]["id"]) == (others[0], others[-1])
    assert shown["Median"]["id"] in others[len(others) // 2 - 1 : len(others) // 2 + 1]
    assert all([row["label"] for row in example["rows"]] == list(results.labels) for example in shown.values())


def test_a_report_to_pass_on_holds_no_summary(tmp_path: Path, capsys) -> None:
    """`report --without-texts` quotes no text, and is otherwise the same."""
    out = write_results(tmp_path / "out", methods=("untuned", "lora"))
    lines = [json.loads(line) for line in (out / "runs/lora/0/predictions.jsonl").read_text().splitlines()]
    texts = {line[key] for line in lines for key in ("prediction", "reference")}
    assert cli.main(["report", str(out), "--to", str(tmp_path / "quoted")]) == 0
    assert cli.main(["report", str(out), "--to", str(tmp_path / "bare"), "--without-texts"]) == 0
    quoted, bare = ((tmp_path / name / "report.html").read_text() for name in ("quoted", "bare"))
    assert texts and all(text in quoted for text in texts) and not any(text in bare for text in texts)
    for name in ("comparison.json", "comparison.md", "comparison.csv"):
        assert (tmp_path / "quoted" / name).read_bytes() == (tmp_path / "bare" / name).read_bytes()
    if shutil.which("pdftotext"):
        printed = pdf_text(tmp_path / "bare/report.pdf")
        assert "The summaries themselves are withheld" in " ".join(printed.split())
        assert "Largest difference between methods" not in printed and not any(text in printed for text in texts)
    assert capsys.readouterr().err == ""


def test_browser_of_nothing_is_empty() -> None:
    """Without a finished run there is nothing to browse, and no error."""
    results = make_results(("lora",), failed=(("lora", 0),))
    assert browser_data(results) == {"metrics": {}, "documents": [], "runs": [], "total": 0}


def test_curves_are_means_over_seeds() -> None:
    """A curve at a step is the mean of the seeds that all reached it; the first point is before training."""
    assert mean_curve([[(0, 2.0), (1, 1.0)], [(0, 4.0), (1, 2.0), (2, 1.0)]]) == ((0, 3.0), (1, 1.5))
    assert mean_curve([]) == ()
    curves = loss_curves(make_results(seeds=(0, 1)))
    assert set(curves) == {"prompt-tuning", "lora", "last-layers", "full"}
    assert isinstance(curves["lora"], LossCurves) and curves["lora"].validation[0][0] == 0


def test_thinning_keeps_the_mean() -> None:
    """A thinned curve of whole groups has the mean of all its points, and at most the requested number of points."""
    points = [(float(step), float(step) ** 2) for step in range(600)]
    thinned = thin(points, 60)
    assert len(thinned) == 60
    assert sum(y for _, y in thinned) / 60 == pytest.approx(sum(y for _, y in points) / 600)


def test_report_imports_no_torch() -> None:
    """Writing a report loads neither torch nor transformers."""
    code = "import sys, triptych.reporting; sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_citation_has_its_reference_and_every_reference_is_cited() -> None:
    """Every cited work is listed and every listed work is cited; year and first author agree."""
    text = "".join((PAPER / name).read_text("utf-8") for name in ("body.typ", "architectures.typ", "theory.typ"))
    body, listed = text.split("#let references = (")
    sources = [*(PAPER.parent / "tables").glob("*.py"), *(PAPER.parent / "claims").glob("*.py")]
    body = " ".join([*body.split(), *(path.read_text("utf-8") for path in sources)])
    references = re.findall(r"^  \[([A-Z][\w-]+), .*?\((\d{4})\)", listed, re.M)
    assert len(references) == len(re.findall(r"^  \[", listed, re.M)) > 20
    names = r"([A-Z][\w-]+)(?: et al\.| and [A-Z][\w-]+)?(?:’s)?"
    cited = set(re.findall(names + r",? \(?(\d{4})\)?", body))
    assert set(references) - cited == set()
    assert cited - set(references) == set()


def test_notes_and_settings_are_phrases() -> None:
    """Methods' notes and settings read as prose: no field names, no `(s)`, no escapes; apostrophes are typographic."""
    results = make_results(data="it's mine.csv", decoding={"num_beams": 1})
    comparison = make_comparison(results)
    document = report_data(results, comparison)
    notes = {note["label"]: note["text"] for note in document["notes"]}
    assert notes == {
        "prompt-tuning": "vocabulary items nearest to the virtual tokens: “ summary” “ news”",
        "lora": "adapted weights: 12 × c_attn",
        "last-layers": "the output of the first 10 blocks is read from a cache",
    }
    recipe = {row[0]["text"]: row[1]["text"] for row in document["tables"]["recipe"]["rows"]}
    assert recipe["Separator"] == "2 line breaks, then “TL;DR:”" and recipe["Decoding"].startswith("1 beam, ")
    prose = json.dumps([document["claims"], document["reductions"], document["flags"]], ensure_ascii=False)
    assert "it's mine.csv" in prose and "'" not in prose.replace("it's mine.csv", "")
    for template in PAPER.glob("*.typ"):
        assert not re.search(r"[A-Za-z0-9.`]'s\b", template.read_text(encoding="utf-8")), template.name


def test_blocks_that_were_computed_again_are_reported() -> None:
    """A run that ran out of memory says so in the shared settings and in its notes; without one, nothing is said."""
    results = make_results()
    settings = {row[0].text for row in settings_table(results).rows}
    assert "Recomputation" not in settings
    run = next(run for run in results.runs if run.record.label == "lora")
    run.record.training.recomputed, run.record.notes["recomputed_blocks"] = True, "memory ran out"
    document = report_data(results, make_comparison(results))
    recipe = {row[0]["text"]: row[1]["text"] for row in document["tables"]["recipe"]["rows"]}
    assert recipe["Recomputation"].startswith("each block of lora was recomputed in the backward pass, since")
    assert {note["label"]: note["text"] for note in document["notes"]}["lora"].endswith("; memory ran out")


def test_settings_that_are_off_are_not_described_with_zeros() -> None:
    """No warm-up, no rule on repetition, one document a step and micro-batches that fit are in words."""
    training = {"warmup_fraction": 0, "global_batch_size": 1, "micro_batch_size": "auto"}
    results = make_results(training=training, decoding={"no_repeat_ngram_size": 0})
    recipe = {row[0].text: row[1].text for row in settings_table(results).rows}
    assert recipe["Batch"] == "1 document per optimizer step, in micro-batches of as many as fit into memory"
    assert recipe["Schedule"].startswith("the peak rate until") and "gram" not in recipe["Decoding"]
    linear = make_results(training=training | {"schedule": "linear"})
    assert dict((row[0].text, row[1].text) for row in settings_table(linear).rows)["Schedule"] == "linear, no warm-up"


def test_longer_trials_are_reported_where_there_were_any() -> None:
    """A search whose budget allowed one round is not said to have tried two rates for longer."""

    def recipe(steps: int) -> str:
        results = make_results(search={"trials": 3})
        for run in results.runs:
            if run.record.search is not None:
                for trial in run.record.search.trials:
                    trial.documents = 10
                run.record.search.trials[-1].documents = steps
        return {row[0].text: row[1].text for row in settings_table(results).rows}["Learning-rate search"]

    assert " in short trials, the best two also in longer ones, with the first seed" in recipe(40)
    assert " in short trials, with the first seed" in recipe(10)


def test_training_that_began_again_is_reported() -> None:
    """The report's notes on a method use the run's words about the restart."""
    results = make_results()
    run = next(run for run in results.runs if run.record.label == "lora")
    run.record.notes["restarted"] = "the decay gained nothing"
    notes = {note["label"]: note["text"] for note in report_data(results, make_comparison(results))["notes"]}
    assert notes["lora"].endswith("; the decay gained nothing")


def test_a_page_holds_a_sample_of_many_predictions() -> None:
    """If there are more predictions than the page may hold, evenly spread documents are shown, the same for every run,
    and the page says so."""
    results = make_results()
    whole = browser_data(results)
    runs, total = len(whole["runs"]), len(whole["documents"])
    part = browser_data(results, most=4 * runs)
    places = [place * total // 4 for place in range(4)]
    assert part["total"] == whole["total"] == total and total > 4
    assert part["documents"] == [whole["documents"][place] for place in places]
    for sampled, run in zip(part["runs"], whole["runs"], strict=True):
        assert sampled["predictions"] == [run["predictions"][place] for place in places]


def test_a_page_does_not_grow_with_its_texts() -> None:
    """Long summaries leave fewer documents on the page: its texts stay within the character limit, with at least one
    document."""

    def size(data: dict) -> int:
        summaries = sum(len(line[0]) for run in data["runs"] for line in run["predictions"])
        return summaries + sum(len(reference) for _, reference in data["documents"])

    results = make_results(documents=80)
    longer = replace(
        results,
        runs=tuple(
            replace(
                run, predictions=tuple(p.model_copy(update={"prediction": 40 * p.prediction}) for p in run.predictions)
            )
            for run in results.runs
        ),
    )
    allowed = size(browser_data(results))
    for given in (results, longer):
        data = browser_data(given, most_characters=allowed)
        assert 0.8 * allowed <= size(data) <= 1.1 * allowed and data["total"] == 80
    assert len(browser_data(longer, most_characters=1)["documents"]) == 1
