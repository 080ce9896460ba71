"""ROUGE's precision and recall are kept next to its F1, to show the effect of summary length."""

import csv
import io
import json
from pathlib import Path

import pytest

from support.folders import edit_record, put, write_results
from triptych.analysis.comparison import compare_results
from triptych.errors import ResultsError
from triptych.metrics.rouge import RougeScore
from triptych.reporting.export import to_csv
from triptych.reporting.tables.outputs import shape_table
from triptych.results.reading import read_results
from triptych.results.records import ROUGE_PARTS, ROUGE_SCORES, ROUGE_TYPES, Prediction, Rouge
from triptych.run import scoring
from triptych.text import languages

REFERENCE = "Police arrested two men on Friday.\nThe bank reopens on Monday."
TEXTS = ["Police arrested two men.", REFERENCE + " And much else happened in the town on that day.", ""]


def made() -> list[Prediction]:
    """A short summary, a long one and an empty one, scored by every metric."""
    known = scoring.metrics("english")
    return [
        Prediction(
            id=str(i), prediction=text, reference=REFERENCE, scores=scoring.score_text(known, text, REFERENCE, "x")
        )
        for i, text in enumerate(TEXTS)
    ]


def test_a_short_summary_is_precise_and_a_long_one_complete():
    """Precision is relative to the summary's words and recall to the reference's; F1 is unchanged."""
    short, long, empty = (line.scores for line in made())
    assert short["rouge1_precision"] == 100 and short["rouge1_recall"] == pytest.approx(400 / 11)
    assert long["rouge1_recall"] == 100 and long["rouge1_precision"] == pytest.approx(1100 / 21)
    assert {empty[name] for name in ROUGE_SCORES} == {0.0}
    assert RougeScore(language="english").score(TEXTS[0], REFERENCE, "") == {name: short[name] for name in ROUGE_TYPES}


def test_a_record_has_the_means_of_both_and_no_further_score():
    """The record has means over the documents by type; they are not shown as scores of another metric."""
    language = languages.choose("english", [REFERENCE])
    rouge, lines = scoring.rouge(made(), language), made()
    for part in ROUGE_PARTS:
        means = getattr(rouge, part)
        assert list(means) == list(ROUGE_TYPES)
        for name in ROUGE_TYPES:
            assert means[name] == pytest.approx(sum(line.scores[f"{name}_{part}"] for line in lines) / 3)
    assert scoring.further_scores(lines) == {}


def keep_parts(out: Path, run: str, shift: float) -> None:
    """Give a run its own precision and recall."""
    folder = out / "runs" / run
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        line["scores"] |= {f"{name}_{part}": 40.0 + shift for name in ROUGE_TYPES for part in ROUGE_PARTS}
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    means = dict.fromkeys(ROUGE_TYPES, 40.0 + shift)
    edit_record(out, run, lambda record: record["rouge"].update({part: means for part in ROUGE_PARTS}))


def test_a_row_has_means_over_seeds_and_old_results_have_none(tmp_path):
    """Comparison, CSV and the report's table show both if the runs have them; earlier results are unchanged."""
    out = write_results(tmp_path / "out", methods=("lora", "full"))
    before = compare_results(read_results(out))
    assert not before.rows["lora"].rouge_recall and "R-1 recall" not in shape_table(before).head
    assert "rouge1_recall" not in to_csv(before).splitlines()[0]
    seeds = sorted((out / "runs/lora").glob("[0-9]*"))
    for shift, folder in enumerate(seeds):
        keep_parts(out, f"lora/{folder.name}", float(shift))
    after = compare_results(read_results(out))
    mean = 40.0 + (len(seeds) - 1) / 2
    assert after.rows["lora"].rouge_recall == after.rows["lora"].rouge_precision == dict.fromkeys(ROUGE_TYPES, mean)
    assert after.rows["full"].rouge_recall == {}
    lines = {line["label"]: line for line in csv.DictReader(io.StringIO(to_csv(after)))}
    assert lines["lora"]["rouge1_recall"] == repr(mean) and lines["full"]["rouge1_recall"] == ""
    table = shape_table(after)
    place = table.head.index("R-1 recall")
    assert [row[place].text for row in table.rows] == [f"{mean:.2f}", "—"]


def test_a_recall_that_is_not_its_predictions_is_refused(tmp_path):
    """Like every derived figure, recall is compared with the predictions."""
    out = write_results(tmp_path / "out", methods=("lora", "full"))
    keep_parts(out, "lora/0", 0.0)
    read_results(out)
    edit_record(out, "lora/0", lambda record: put(record, "rouge.recall", dict.fromkeys(ROUGE_TYPES, 41.0)))
    with pytest.raises(ResultsError, match=r"rouge\.recall\.rouge1 41"):
        read_results(out)


def test_records_of_before_open():
    """Records without ROUGE precision and recall can be read, and have none."""
    assert Rouge(rouge1=1, rouge2=1, rougeL=1, rougeLsum=1, signature="x").recall == {}
