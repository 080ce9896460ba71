"""The fast ROUGE equals rouge_score's, bit for bit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from triptych.metrics import rouge, subsequences
from triptych.metrics.rouge import RougeScore
from triptych.results import records
from triptych.text.tokenizers import tokenizer

tokens = st.lists(st.sampled_from("abcd"), max_size=80)
sentences = st.lists(st.lists(st.sampled_from("abcde"), max_size=12), max_size=6)


class BySpaces(Tokenizer):
    """Splits at spaces."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


SCORER = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"], tokenizer=BySpaces())


@settings(deadline=None, max_examples=300)
@given(tokens, tokens)
def test_common_places_are_those_of_rouge_score(reference, prediction):
    """Of several longest common subsequences, the one from rouge_score's table is found."""
    assert subsequences.common_places(reference, prediction) == rouge_scorer.lcs_ind(reference, prediction)


@settings(deadline=None, max_examples=300)
@given(sentences, sentences)
def test_scores_are_those_of_rouge_score(reference, prediction):
    """Every precision, recall and F1 is bit-equal to rouge_score's."""
    expected = SCORER.score(*("\n".join(" ".join(line) for line in lines) for lines in (reference, prediction)))
    flat = [[token for line in lines for token in line] for lines in (reference, prediction)]
    for n in (1, 2, 3):
        assert subsequences.rouge_n(*flat, n) == expected[f"rouge{n}"]
    assert subsequences.rouge_l(*flat) == expected["rougeL"]
    assert subsequences.rouge_l_sum(reference, prediction) == expected["rougeLsum"]


@pytest.mark.parametrize("size", [63, 64, 65, 500])
def test_long_sequences(size):
    """Sequences longer than a machine word are handled too."""
    reference, prediction = [str(i % 17) for i in range(size)], [str(i * 5 % 23) for i in range(size)]
    assert subsequences.common_places(reference, prediction) == rouge_scorer.lcs_ind(reference, prediction)


PIECES = st.sampled_from(
    ["Running", "runs", "fire", "fires.", "Straße", "año", "会议通过", "3.5", "İ", "ΟΔΟΣ", "\n", "\n\n", ". ", "U.S."]
)
TEXTS = st.lists(PIECES, max_size=25).map(" ".join)


@pytest.mark.parametrize("language", ["english", "any", "german", "turkish"])
def test_texts_score_as_rouge_score_scores_them(language):
    """Texts in any script, tokenized by line and stemmed once, are bit-equal to rouge_score with its tokenizer."""
    metric = RougeScore(language=language)
    own = DefaultTokenizer(use_stemmer=True) if language == "english" else tokenizer(language)
    plain = rouge_scorer.RougeScorer(list(records.ROUGE_TYPES), tokenizer=own)

    @settings(deadline=None, max_examples=150)
    @given(TEXTS, TEXTS)
    def check(reference, prediction):
        lines = [rouge.sentence_per_line(text) for text in (reference, prediction)]
        expected = {name: 100.0 * score.fmeasure for name, score in plain.score(*lines).items()}
        assert metric.score(prediction, reference, "") == expected
        for part in ("precision", "recall"):
            expected |= {f"{name}_{part}": 100.0 * getattr(score, part) for name, score in plain.score(*lines).items()}
        assert metric.scores(prediction, reference) == expected

    check()
