"""The comparison in the terminal, as CSV and as Markdown."""

import csv
import io
import statistics

import pytest
from rich.console import Console

from support.made_up import LABELS, make_comparison, make_results
from triptych.analysis.coverage import subset
from triptych.reporting.export import to_csv, to_markdown, to_tests_csv
from triptych.reporting.tables import quality
from triptych.reporting.terminal import ComparisonTable, print_comparison
from triptych.results.records import Data, SplitCounts
from triptych.text import formats

WIDTHS = (80, 100, 140)


def shown(comparison, width: int) -> str:
    """What a terminal of this width shows."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(ComparisonTable(comparison))
    return console.file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_table_fits_and_shows_every_mean(width: int) -> None:
    """At every width no line is too long, no cell is truncated, and every label, loss and mean is readable."""
    comparison = make_comparison(make_results())
    text = shown(comparison, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for label, row in comparison.rows.items():
        line = next(line for line in text.splitlines() if line.split()[:1] == [label])
        assert formats.loss(row.loss.test) in line
        assert all(
            formats.rouge_score(getattr(row, name).mean) in line for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")
        )


@pytest.mark.parametrize("width", WIDTHS)
def test_intervals_are_in_the_terminal(width: int) -> None:
    """Every score has its interval next to it or below it."""
    comparison = make_comparison(make_results())
    estimate = comparison.rows["lora"].rouge1
    text = shown(comparison, width)
    assert f"{estimate.low:.1f}–{estimate.high:.1f}" in text or formats.interval(estimate.low, estimate.high) in text


def with_scores(number: int):
    """A comparison whose methods have scores of further metrics, with any number of digits."""
    comparison = make_comparison(make_results())
    further = {f"own-metric-{i}": 56.5217 + i for i in range(number)}
    changed = {label: row.model_copy(update={"further_scores": further}) for label, row in comparison.rows.items()}
    return comparison.model_copy(update={"rows": changed})


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100])
@pytest.mark.parametrize("number", [0, 1, 5])
def test_no_number_is_broken_however_narrow_the_terminal_is(width: int, number: int) -> None:
    """With further metrics, or below 80 columns, columns move to another table or a list; each number stays in one
    piece."""
    comparison = with_scores(number)
    text = shown(comparison, width)
    words = text.split()
    assert max(map(len, text.splitlines())) <= width
    for row in comparison.rows.values():
        for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
            assert formats.rouge_score(getattr(row, name).mean) in words
        for value in row.further_scores.values():
            assert f"{value:.4g}" in words
    estimate = comparison.rows["lora"].rouge1
    assert f"{estimate.low:.1f}–{estimate.high:.1f}" in words


def test_sentences_in_a_file_are_not_broken() -> None:
    """If the output is not a terminal, the verdict and each flag are on one line, however long."""
    comparison = make_comparison(make_results())
    comparison = comparison.model_copy(update={"verdict": "a long sentence " * 20, "flags": ["a long flag " * 20]})
    console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
    print_comparison(console, comparison)
    lines = console.file.getvalue().splitlines()
    assert ("a long sentence " * 20).rstrip() in [line.rstrip() for line in lines]
    assert (" • " + "a long flag " * 20).rstrip() in [line.rstrip() for line in lines]


def test_every_table_says_that_a_part_of_the_test_set_is_not_the_whole() -> None:
    """The terminal, Markdown and the report's score tables say how many of how many documents were scored."""
    results = make_results(documents=24)
    comparison = make_comparison(results)
    sentence = "Scored on 24 of the 140 test documents: figures of this subset are not those of the whole test set."
    assert comparison.subset == sentence
    assert sentence in " ".join(shown(comparison, 100).split())
    assert sentence in to_markdown(comparison)
    assert sentence in quality.quality_table(comparison).caption
    whole = comparison.model_copy(update={"subset": ""})
    assert "subset" not in shown(whole, 100) + to_markdown(whole) + quality.quality_table(whole).caption


@pytest.mark.parametrize(
    ("source", "read", "used", "not_sampled", "said"),
    [
        ("./cnn_dailymail", 500, 200, 300, "200 of the 11,490 test documents of CNN/DailyMail 3.0.0"),
        ("abisee/cnn_dailymail", 500, 500, 0, "500 of the 11,490 test documents of CNN/DailyMail 3.0.0"),
        ("./My-CNN-DailyMail", 500, 40, 460, "40 of the 11,490 test documents of CNN/DailyMail 3.0.0"),
        ("abisee/cnn_dailymail", 11_490, 11_490, 0, ""),
        ("mine.csv", 50, 48, 0, ""),  # two were dropped, none left out
        ("mine.csv", 50, 40, 8, "40 of the 50 test documents"),
    ],
)
def test_a_subset_is_told_by_what_was_left_out(source: str, read: int, used: int, not_sampled: int, said: str) -> None:
    """The total is that of the published corpus if the source is known, otherwise that of the file."""
    counts = SplitCounts(read=read, used=used, not_sampled=not_sampled)
    sentence = subset(Data(source=source, synthetic=False, fingerprint="f", splits={"test": counts}))
    assert f"on {said}:" in sentence if said else sentence == ""


def test_terminal_says_synthetic() -> None:
    """A comparison with an embedded model or data set says so above its figures, in the terminal and in Markdown."""
    comparison = make_comparison(make_results())
    assert "synthetic" in shown(comparison, 100).lower().split("quality on")[0]
    notice = "The model and the data are built in and synthetic"
    assert shown(comparison, 500).count(notice) == to_markdown(comparison).count(notice) == 1
    real = comparison.model_copy(update={"synthetic_parts": [], "flags": []})
    assert "ynthetic" not in shown(real, 100) + to_markdown(real)


def test_failed_row_is_shown_as_failed() -> None:
    """A method with no finished seed is in every table, as failed and without numbers."""
    comparison = make_comparison(make_results(failed=(("lora", 0),)))
    line = next(line for line in shown(comparison, 100).splitlines() if line.split()[:1] == ["lora"])
    assert "failed" in line and not any(character.isdigit() for character in line)
    assert "| lora | failed | — | — | — | — | failed | — | — | — | — |" in to_markdown(comparison)
    assert next(row for row in read(comparison) if row["label"] == "lora")["status"] == "failed"


def test_missing_values_are_never_zero() -> None:
    """What was not measured is marked as such, is empty in CSV, and is never 0; what does not apply is a dash."""
    comparison = make_comparison(make_results(meters=False))
    for text in (shown(comparison, 140), to_markdown(comparison)):
        lora = next(line for line in text.splitlines() if line.strip("| ").startswith("lora") and "294,912" in line)
        assert lora.count("not measured") == 2
        lead = next(line for line in text.splitlines() if line.strip("| ").startswith("lead-3") and "0 B" not in line)
        assert "—" in lead
    rows = {row["label"]: row for row in read(comparison)}
    assert rows["lora"]["train_flops"] == rows["lora"]["energy_joules"] == rows["lead-3"]["loss_test"] == ""


def test_csv_holds_raw_numbers() -> None:
    """Every number of a method can be read back from the CSV bit by bit."""
    comparison = make_comparison(make_results())
    for row in read(comparison):
        source = comparison.rows[row["label"]]
        assert float(row["rouge1_mean"]) == source.rouge1.mean
        assert float(row["rougeLsum_high"]) == source.rougeLsum.high
        for name, value in source.cost.items():
            assert (float(row[name]) if row[name] else None) == value
    assert [row["label"] for row in read(comparison)] == list(LABELS)


@pytest.mark.parametrize("hostile", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1", " =1", "\r=1", "\n\r =1"])
def test_csv_cell_cannot_become_a_formula(hostile: str) -> None:
    """No text cell begins like a spreadsheet formula."""
    comparison = make_comparison(make_results()).model_copy(update={"model": hostile})
    assert all(row["model"].split() == ("'" + hostile).split() for row in read(comparison))


def test_markdown_table_survives_its_own_signs() -> None:
    """Pipes, asterisks and angle brackets in a name neither end a cell nor become markup."""
    comparison = make_comparison(make_results()).model_copy(update={"data": "a|b *c* <script> `d` $e$\nf"})
    text = to_markdown(comparison)
    assert "a\\|b \\*c\\* \\<script\\> \\`d\\` \\$e\\$ f" in text
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n\n")]
    shapes = [{line.count("|") - line.count("\\|") for line in table} for table in tables if table]
    assert shapes == [{12}, {7}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5 s"),
        (59.94, "59.9 s"),
        (99.96, "1 min 40 s"),
        (3599.6, "60 min 00 s"),
        (7300, "2 h 02 min"),
        (None, "not measured"),
    ],
)
def test_durations_read_as_a_reader_would_say_them(value: float | None, text: str) -> None:
    """A duration has one or two units, and never 60 of the smaller."""
    assert formats.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(999.4, "999"), (999.6, "1.00k"), (15_360, "15.4k"), (1.05e12, "1.05T"), (2.5e21, "2.50e+03E"), (0.0, "0.00")],
)
def test_prefixes_keep_three_digits(value: float, text: str) -> None:
    """A number with a prefix has three significant digits, also if rounding reaches the next prefix."""
    assert formats.si(value) == text


def read(comparison) -> list[dict[str, str]]:
    """The CSV as read by a CSV reader."""
    return list(csv.DictReader(io.StringIO(to_csv(comparison), newline="")))


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1"])
def test_a_header_that_a_spreadsheet_would_run_is_text(name: str) -> None:
    """The name of a further score in the header of comparison.csv is marked as text, like any other cell."""
    comparison = make_comparison(make_results(("lead-3",)))
    row = comparison.rows["lead-3"].model_copy(update={"further_scores": {name: 0.5}})
    ((header, *_),) = [list(csv.reader(io.StringIO(to_csv(comparison.model_copy(update={"rows": {"lead-3": row}})))))]
    assert "'" + name in header and name not in header


def test_a_name_with_markup_is_shown_as_it_is() -> None:
    """The terminal's table does not interpret a score's name as markup."""
    comparison = make_comparison(make_results(("lead-3",)))
    row = comparison.rows["lead-3"].model_copy(update={"further_scores": {"[red]x[/red]": 0.5}})
    assert "[red]x" in shown(comparison.model_copy(update={"rows": {"lead-3": row}}), 140)


def test_a_score_named_like_a_column_overwrites_none() -> None:
    """Every column of comparison.csv keeps its values; a further score with the same name gets a separate column."""
    comparison = make_comparison(make_results(("lead-3", "lora")))
    (plain_lead, plain_lora) = read(comparison)
    named = {"label": 0.25, "kind": 0.5, "model": 0.75, "rouge1_mean": 0.125, "score label": 0.0625, "fine": 1.0}
    row = comparison.rows["lora"].model_copy(update={"further_scores": named})
    lead, lora = read(comparison.model_copy(update={"rows": {**comparison.rows, "lora": row}}))
    assert {name: lora[name] for name in plain_lora} == plain_lora
    assert {name: lead[name] for name in plain_lead} == plain_lead
    further = {name: float(lora[name]) for name in lora if name not in plain_lora}
    assert further == {
        "fine": 1.0,
        "score label": 0.0625,
        "score score label": 0.25,
        "score kind": 0.5,
        "score model": 0.75,
        "score rouge1_mean": 0.125,
    }


def test_tests_are_a_csv_of_their_own() -> None:
    """comparison_tests.csv has a line for every paired test, with the fields of comparison.json as columns."""
    comparison = make_comparison(make_results(seeds=(0, 1)))
    lines = list(csv.DictReader(io.StringIO(to_tests_csv(comparison))))
    assert len(lines) == len(comparison.tests) > 0
    for line, test in zip(lines, comparison.tests, strict=True):
        assert set(line) == set(test.model_dump()) and (line["a"], line["b"], line["metric"]) == (
            test.a,
            test.b,
            test.metric,
        )
        assert float(line["difference"]) == test.difference and float(line["p_value_adjusted"]) == test.p_value_adjusted
        assert line["decision"] == test.decision and line["seeds"] == " ".join(map(str, test.seeds))
    assert to_tests_csv(comparison.model_copy(update={"tests": []})).count("\n") == 1


def test_quality_says_how_seeds_vary() -> None:
    """With several seeds the quality table has the standard deviation of the seed means; with one seed it has no such
    column, and an untrained method has a dash."""
    results = make_results(seeds=(0, 1, 2))
    comparison = make_comparison(results)
    sheet = quality.quality_table(comparison)
    assert sheet.head[-2:] == ("Seed SD, loss", "Seed SD, R-1") and "Seed SD" in sheet.caption
    means = [run.record.rouge.rouge1 for run in results.of("lora")]
    lora, untuned = (next(row for row in sheet.rows if row[0].text == label) for label in ("lora", "untuned"))
    assert lora[-1].text == f"{statistics.stdev(means):.2f}" and lora[-1].value == pytest.approx(
        statistics.stdev(means)
    )
    assert untuned[-1].text == untuned[-2].text == formats.DASH
    single = quality.quality_table(make_comparison(make_results()))
    assert "Seed SD" not in single.caption + "".join(single.head) and len(single.rows[0]) == len(single.head)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_caption_of_tests_says_what_p_speaks_of(seeds: int) -> None:
    """With one seed the caption says that p is about the trained models; with more it does not. Interval, decision and
    detectable difference are explained in both."""
    comparison = make_comparison(make_results(seeds=tuple(range(seeds))))
    caption = quality.tests_caption(comparison, ("rouge1", "loss"))
    of_models = "Where a method has one seed, p is about the trained models, not about training with another seed."
    assert (of_models in caption) == (seeds == 1)
    size = comparison.inference.detectable["rouge1"]
    assert caption.startswith(
        "Paired tests on R-1 and test loss over the same documents: mean difference, interval and p"
    )
    assert "different: the interval excludes zero; equivalent: shown to be within the margin" in caption
    found = f"{size:.2f} points" if size <= 100 else "more than 100 points"
    rough = "; a rough estimate, from 2 seeds" if seeds == 2 else ""
    assert f"(80% power{rough}): {found} of R-1" in caption


def test_a_difference_that_no_table_can_hold_is_said_to_be_one() -> None:
    """If seeds allow only a difference above 100 points to be detected, no such figure is printed."""
    comparison = make_comparison(make_results(seeds=(0, 1)))
    found = comparison.inference.model_copy(update={"detectable": {"rouge1": 128.7, "loss": 0.2}})
    comparison = comparison.model_copy(update={"inference": found})
    for text in (to_markdown(comparison), quality.tests_caption(comparison, ("rouge1", "loss"))):
        assert "more than 100 points of R" in text and "128" not in text and "0.2000 nats of test loss" in text
