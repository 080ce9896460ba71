"""The checks of the summaries: means, intervals and tests of what models get wrong."""

from dataclasses import replace

import pytest

from support.made_up import make_results
from triptych.analysis import checks
from triptych.analysis.comparison import compare_results
from triptych.results.reading import Results


def with_articles(results: Results) -> Results:
    """Each document's article is its reference, so everything else in a summary is new."""
    lines = results.runs[0].predictions
    return replace(results, documents={line.id: line.reference for line in lines})


def test_every_row_is_checked_on_every_measure() -> None:
    """Each method has a mean and an interval on each measure, references are measured too, and pairs are tested."""
    found = compare_results(with_articles(make_results(("untuned", "lora", "full"), seeds=(0, 1)))).checks
    assert found.documents_known and set(found.rows) == {"untuned", "lora", "full"}
    assert all(set(row) == set(checks.OF_ARTICLE | checks.OF_TEXT) for row in found.rows.values())
    assert (found.references["coverage"], found.references["new_words"]) == (100.0, 0.0)
    assert found.references["relative_length"] == 100.0
    assert found.rows["lora"]["coverage"].low <= found.rows["lora"]["coverage"].mean < 100
    assert {(test.a, test.b) for test in found.tests} == {("untuned", "lora"), ("untuned", "full"), ("lora", "full")}
    assert all(test.margin is None and test.decision != "equivalent" for test in found.tests)


def test_wrong_numbers_are_counted_and_tested() -> None:
    """A method that invents a number in every summary has 100 in 100, and differs from one that never does."""
    results = with_articles(make_results(("untuned", "lead-3"), documents=40))
    for line in results.of("untuned")[0].predictions:
        line.prediction = "The council paid 77 pounds."
    found = compare_results(results).checks
    assert (found.rows["untuned"]["wrong_numbers"].mean, found.rows["lead-3"]["wrong_numbers"].mean) == (100, 0)
    test = next(test for test in found.tests if test.metric == "wrong_numbers")
    assert (test.difference, test.decision, test.units) == (100, "different", "summaries in 100")


def test_without_articles_only_what_needs_none_is_measured() -> None:
    """If the articles cannot be read, the output says so, and no number is called wrong."""
    found = compare_results(make_results(("untuned", "lora"))).checks
    assert not found.documents_known and set(found.units) == set(checks.OF_TEXT)


def test_of_very_many_summaries_a_part_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many summaries, evenly spread documents are checked, the same for every method, and their number is
    recorded."""
    monkeypatch.setattr(checks, "MOST_SUMMARIES", 20)
    found = compare_results(make_results(("untuned", "lora"), documents=24)).checks
    assert found.num_documents == 10
