"""Metrics compared with reference tools and values worked out by hand; every score lies in its range."""

import difflib
import logging
from importlib.metadata import version

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from triptych.contracts import Metric
from triptych.errors import ConfigError
from triptych.metrics.rouge import RougeScore, sentence_per_line
from triptych.metrics.text_shape import TextShapeMetric, longest_common_span, shape_words
from triptych.registry import registered
from triptych.run import scoring

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
PLAIN = RougeScorer(TYPES, use_stemmer=True)
REFERENCE = "Police arrested two men on Friday .\nThe bank reopens on Monday ."
texts = st.text("ab .\n'é", max_size=60)


def rouge(prediction: str, reference: str = REFERENCE) -> dict[str, float]:
    return RougeScore().score(prediction, reference, "")


def shape(prediction: str, document: str = "", reference: str = "") -> dict[str, float]:
    return TextShapeMetric().score(prediction, reference, document)


@pytest.mark.parametrize(
    "prediction",
    [
        "Two men were arrested on Friday.\nOn Monday the bank will reopen.",
        "The bank reopens on Monday.\nPolice arrest two men.",
        "Police\nPolice\nPolice",
        "Nothing in common\nat all?",
    ],
)
def test_rouge_is_that_of_rouge_score(prediction):
    """For texts with one sentence per line, all four scores are rouge_score's F1 times 100."""
    expected = PLAIN.score(REFERENCE, prediction)
    assert rouge(prediction) == {name: pytest.approx(100 * expected[name].fmeasure, abs=1e-12) for name in TYPES}


def test_rouge_by_hand():
    """Scores worked out by hand: 3 of 4 words and 2 of 3 bigrams are shared; stemming joins `reopened` and
    `reopens`."""
    scores = rouge("the bank reopened today", "the bank reopens now")
    assert scores["rouge1"] == pytest.approx(75) and scores["rouge2"] == pytest.approx(200 / 3)
    assert scores["rougeL"] == scores["rougeLsum"] == pytest.approx(75)
    assert rouge(REFERENCE) == dict.fromkeys(TYPES, 100.0)


def test_summary_level_rouge_needs_lines():
    """With one sentence per line rougeLsum is not rougeL, and sentences on one line are split to the same score."""
    swapped = "The bank reopens on Monday.\nPolice arrested two men on Friday."
    scores = rouge(swapped)
    assert scores["rougeLsum"] == pytest.approx(100) and scores["rougeL"] < 60
    assert rouge(swapped.replace("\n", " ")) == scores
    one_line = PLAIN.score(REFERENCE.replace("\n", " "), swapped.replace("\n", " "))
    assert one_line["rougeLsum"] == one_line["rougeL"]  # the trap, in the plain tool


def test_lines_are_sentences_where_there_are_lines():
    """A text of several lines is used as it is; a single line is split into sentences."""
    assert sentence_per_line(" A b. C d.\nE f. ") == "A b. C d.\nE f."
    assert sentence_per_line("Mr. A left. B stayed.\n") == "Mr. A left.\nB stayed."


def test_what_is_scored_is_the_prediction_alone():
    """Only the given text is scored, whatever the document; an echoed document lowers the score."""
    document = "Police arrested two men on Friday after a long chase through the town, and much else happened besides."
    summary = "Police arrested two men on Friday."
    assert RougeScore().score(summary, REFERENCE, document) == rouge(summary)
    assert rouge(f"{document} {summary}")["rouge1"] < rouge(summary)["rouge1"]


def test_length_rules_rouge_and_is_reported():
    """The same content at another length has another ROUGE score, so the length is reported with it."""
    short, long = (
        "Police arrested two men.",
        "Police arrested two men on Friday. The bank reopens on Monday, it is said.",
    )
    assert rouge(long)["rouge1"] > 1.5 * rouge(short)["rouge1"]
    assert (shape(short)["prediction_words"], shape(long)["prediction_words"]) == (4, 14)
    assert shape(short, reference=REFERENCE)["reference_words"] == 11


@pytest.mark.parametrize("nothing", ["", " \n ", "?!", "…"])
def test_an_empty_prediction_scores_zero_and_is_counted(nothing):
    """A prediction without words scores 0 and is counted as empty."""
    assert rouge(nothing) == dict.fromkeys(TYPES, 0.0)
    assert rouge("a", nothing) == dict.fromkeys(TYPES, 0.0)
    scores = shape(nothing, "some document", REFERENCE)
    assert (
        scores["empty"] == 1
        and scores["prediction_words"] == scores["novel_bigrams"] == scores["repeated_trigrams"] == 0
    )
    assert shape("word")["empty"] == 0


def test_signature_says_what_scores_depend_on():
    """The ROUGE signature gives types, statistic, stemmer, sentence rule and the version of rouge_score."""
    signature = RougeScore().signature()
    assert signature.startswith("rouge1+rouge2+rougeL+rougeLsum|F1|stemmer:yes|sentences:lines-or-triptych-2|")
    assert f"rouge_score:{version('rouge_score')}|" in signature


def test_scoring_is_silent(caplog, capfd):
    """Creating and using the scorer prints and logs nothing."""
    with caplog.at_level(logging.DEBUG):
        RougeScore().score("a", "b", "c")
    assert not caplog.records and capfd.readouterr() == ("", "")


def test_text_shape_by_hand():
    """Shares and spans worked out by hand."""
    document = "The quick brown fox jumps over the lazy dog, and the fox sleeps."
    scores = shape("A quick brown fox jumps. The lazy fox sleeps.", document)
    # Bigrams: a-quick quick-brown brown-fox fox-jumps jumps-the the-lazy lazy-fox fox-sleeps; new: the 1st, 5th and
    # 7th.
    assert scores["novel_bigrams"] == pytest.approx(3 / 8) and scores["longest_copied_words"] == 4
    repeated = shape("one two three one two three one two three")
    assert repeated["repeated_trigrams"] == pytest.approx(4 / 7)  # 7 trigrams, 3 different
    assert shape("one")["novel_bigrams"] == shape("one two")["repeated_trigrams"] == 0
    assert shape(document, document)["longest_copied_words"] == 13


def test_words_keep_what_belongs_together():
    """Numbers, contractions and compounds are one word; case and surrounding punctuation do not count."""
    assert shape_words("“Don't pay $3,500.50,” said U.S.-born O’Neil: well-known?") == [
        "don't",
        "pay",
        "3,500.50",
        "said",
        "u.s",
        "born",
        "o’neil",
        "well-known",
    ]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30))
def test_longest_span_is_difflibs(a, b):
    """The longest common span is as long as the one found by Python's difflib."""
    match = difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
    assert longest_common_span(a, b) == match.size


@settings(deadline=None)
@given(texts, texts, texts)
def test_scores_lie_in_their_range(prediction, reference, document):
    """Every registered metric gives finite numbers under fixed names for any text: shares in 0-1, ROUGE in 0-100."""
    assert {"rouge", "text-shape"} <= set(registered(Metric))
    assert all(0 <= value <= 100 for value in rouge(prediction, reference).values())
    scores = shape(prediction, document, reference)
    assert all(0 <= scores[name] <= 1 for name in ("empty", "novel_bigrams", "repeated_trigrams"))
    assert 0 <= scores["longest_copied_words"] <= scores["prediction_words"]
    assert scores.keys() == shape("", "", "").keys()


@pytest.mark.parametrize("name", ["rouge1", "loss", "targets", "empty", "prediction_words", "share_at_cap"])
def test_a_score_cannot_take_the_name_of_another_field(name):
    """A metric whose score is named like a field of ROUGE, the text shape or the loss is refused."""

    class Own(Metric):
        """One score."""

        def score(self, prediction, reference, document):
            return {name: 1.0}

        def signature(self):
            return "own|1"

    for metrics in ({"own": Own()}, {"own": Own(), **scoring.metrics("any", ["rouge", "text-shape"])}):
        with pytest.raises(ConfigError, match=r"rename"):
            scoring.score_text(metrics, "a b", "a c", "a b c")
