"""Discussion and conclusion of two small comparisons, written out by hand: one with a clear winner, one undecided."""

import pytest

from support.made_up import make_comparison, make_results
from triptych.reporting.claims import claims
from triptych.results.reading import Results
from triptych.results.records import Comparison, Estimate, PairedTest, RowLoss, TextShape

# label: test loss and its interval, R-1 and its interval, training seconds, words, share at the limit, new pairs
ROWS = {
    "untuned": (4.0, 3.9, 4.1, 14.0, 13.0, 15.0, 0.0, 90.0, 0.95, 0.8),
    "lead-3": (None, None, None, 30.0, 29.0, 31.0, 0.0, 70.0, 0.0, 0.0),
    "lora": (3.0, 2.9, 3.1, 32.0, 31.0, 33.0, 40.0, 40.0, 0.02, 0.3),
    "full": (2.8, 2.7, 2.9, 35.0, 34.0, 36.0, 90.0, 41.0, 0.0, 0.4),
}
GAINS = {
    ("untuned", label, measure): (sign * 1.0, sign * 2.0, sign * 0.5, "different")
    for label in ("lora", "full")
    for measure, sign in (("rouge1", -1), ("loss", 1))
}
WINNER = GAINS | {
    ("lora", "full", "rouge1"): (-3.0, -4.5, -1.5, "different"),
    ("lead-3", "lora", "rouge1"): (-2.0, -3.5, -0.5, "different"),
    ("lead-3", "full", "rouge1"): (-5.0, -6.5, -3.5, "different"),
    ("lora", "full", "loss"): (0.2, 0.1, 0.3, "different"),
}
UNDECIDED = GAINS | {
    ("lora", "full", "rouge1"): (-3.0, -7.0, 1.0, "undecided"),
    ("lead-3", "lora", "rouge1"): (-2.0, -6.0, 2.0, "undecided"),
    ("lead-3", "full", "rouge1"): (-5.0, -9.5, -0.5, "different"),
    ("lora", "full", "loss"): (0.2, -0.1, 0.5, "undecided"),
}


def small(tests: dict, seeds: tuple[int, ...]) -> tuple[Results, Comparison]:
    """A comparison of four methods with the numbers above and these tests."""
    results = make_results(tuple(ROWS), seeds=seeds)
    comparison = make_comparison(results).model_copy(update={"synthetic_parts": [], "num_documents": 500})
    for label, row in comparison.rows.items():
        loss, loss_low, loss_high, mean, low, high, seconds, words, capped, new = ROWS[label]
        row.loss = RowLoss(test=loss, mean=loss, low=loss_low, high=loss_high)
        row.rouge1 = Estimate(mean=mean, low=low, high=high)
        row.cost["train_seconds"] = seconds
        row.text_shape = TextShape(
            prediction_words=words,
            reference_words=41.0,
            share_at_cap=capped,
            share_empty=0.0,
            novel_bigrams=new,
            longest_copied_words=12.0,
            repeated_trigrams=0.01,
        )
    comparison.tests = [
        PairedTest(
            a=a,
            b=b,
            metric=metric,
            difference=difference,
            low=low,
            high=high,
            p_value=0.01,
            p_value_adjusted=0.02,
            decision=decision,
            detectable=2.5,
        )
        for (a, b, metric), (difference, low, high, decision) in tests.items()
    ]
    comparison.inference.detectable = {"rouge1": 2.5}
    return results, comparison


def paragraphs(tests: dict, seeds: tuple[int, ...]) -> dict[str, str]:
    """Discussion and conclusion by the names of their parts."""
    topics = ("learned", "differences", "cost-and-quality", "limiting", "conclusion")
    return {claim.name: claim.text for claim in claims(*small(tests, seeds)) if claim.topic in topics}


SHARED = {
    "loss-against-rouge": (
        "full lowers the test loss of untuned by 1.2000 nats per target token and raises R-1 by 21.00. lora, the only "
        "other method that improves both significantly, reaches 83.3% and 85.7% of the two gains. It reaches more of "
        "the gain in R-1 than of the gain in loss: the form of a summary, which ROUGE rewards at once, seems to be "
        "learned first, and the choice of words, which the loss measures, later."
    ),
    "stopping-and-length": (
        "Share of summaries cut off at the limit of new tokens: lora 2.0%, full 0.0%, untuned 95.0%. Compared with "
        "the references' 41.0 words, summaries are about as long: lora (40.0) and full (41.0). Shorter summaries lose "
        "recall and gain precision, so part of a difference in ROUGE between methods can be due to length."
    ),
    "copying-in-words": (
        "Word pairs that are not in the article: lora 30.0%, full 40.0%; longest run of copied words: lora 12.0, full "
        "12.0, where the article's first sentences (lead-3) copy 12.0 words in a row. full uses the most word pairs "
        "that are not in the article, lora the fewest; a new pair may be paraphrase or invention, and only a reader or "
        "the checks of names and numbers can tell which."
    ),
    "gaps": ("Training and validation loss at the evaluated epoch: lora 3.2000 and 2.7500; full 3.1000 and 2.6500."),
    "front-of-trained": (
        "Pareto front of the trained methods by mean R-1 and training time: lora (32.00, 40.0 s), full (35.00, 90.0 "
        "s). By mean R-1 and trainable parameters: lora (32.00, 294,912), full (35.00, 124,439,808)."
    ),
}
OF_WINNER = SHARED | {
    "apart": (
        "By R-1, full has the best mean, 35.00 (95% interval 34.00 to 36.00): significantly above lora (+3.00 [1.50, "
        "4.50]). By test loss, full has the best mean, 2.8000 (95% interval 2.7000 to 2.9000): significantly below "
        "lora (−0.2000 [−0.3000, −0.1000])."
    ),
    "undecided": "By R-1, every pair of trained methods is decided.",
    "cost-and-quality": (
        "full, with the best mean R-1, trains 2.2 times as long as lora, the fastest (90.0 s against 40.0 s); the "
        "difference in R-1 is +3.00 [1.50, 4.50] (significant)."
    ),
    "limiting": (
        "What limits these results: each method was trained with 3 seeds, so the spread between training runs is "
        "known only roughly; the scores are for 500 test documents; the validation loss of lora and full was still "
        "falling when training ended."
    ),
    "would-change": "What would strengthen these results: more epochs for lora and full.",
    "conclusion": (
        "By R-1, the best trained method is full: 35.00 (95% interval 34.00 to 36.00), significantly above lora. It "
        "trains 124,439,808 parameters; lora trains the fewest, 294,912. By test loss, the best trained method is "
        "full: 2.8000 (95% interval 2.7000 to 2.9000), significantly below lora. lora and full score significantly "
        "above the article's first three sentences (lead-3, R-1 30.00)."
    ),
}
OF_UNDECIDED = SHARED | {
    "apart": (
        "By R-1, full has the best mean, 35.00 (95% interval 34.00 to 36.00): not significantly different from lora. "
        "By test loss, full has the best mean, 2.8000 (95% interval 2.7000 to 2.9000): not significantly different "
        "from lora."
    ),
    "undecided": (
        "By R-1, these data do not show which is better: lora − full (−3.00 [−7.00, 1.00]); the interval contains "
        "zero. That does not make them equal: a true difference below 2.50 points of R-1 would often have been "
        "missed."
    ),
    "cost-and-quality": (
        "full, with the best mean R-1, trains 2.2 times as long as lora, the fastest (90.0 s against 40.0 s); the "
        "difference in R-1 is +3.00 [−1.00, 7.00] (not significant)."
    ),
    "limiting": (
        "What limits these results: each method was trained once, so how much results vary between training runs is "
        "unknown; the scores are for 500 test documents; the validation loss of lora and full was still falling when "
        "training ended."
    ),
    "would-change": (
        "What would strengthen these results: three or more training seeds, to compare the methods and not only these "
        "trained models; about 2,000 test documents, to find differences of 1.25 points of R-1 between trained models; "
        "more epochs for lora and full."
    ),
    "conclusion": (
        "By R-1, no trained method is significantly the best: full has the best mean, 35.00 (95% interval 34.00 to "
        "36.00), but is not significantly better than lora. Of the methods that do not differ significantly from the "
        "best by R-1, lora has the fewest trainable parameters (294,912, against 124,439,808); these data do not show "
        "whether it is as good as full (difference +3.00 [−1.00, 7.00]). By test loss, no trained method is "
        "significantly the best: full has the best mean, 2.8000 (95% interval 2.7000 to 2.9000), but is not "
        "significantly better than lora. full scores significantly above the article's first three sentences (lead-3, "
        "R-1 30.00). With one training seed, all of this is about the trained models, not about the methods."
    ),
}


@pytest.mark.parametrize(
    ("tests", "seeds", "expected"),
    [(WINNER, (0, 1, 2), OF_WINNER), (UNDECIDED, (0,), OF_UNDECIDED)],
    ids=["a clear winner", "undecided"],
)
def test_discussion_and_conclusion_say_what_a_reader_of_the_numbers_would(tests, seeds, expected) -> None:
    """Every paragraph of the discussion follows from the numbers, and names a winner only if the tests do."""
    assert paragraphs(tests, seeds) == expected


def test_a_method_whose_validation_loss_rose_again_is_named() -> None:
    """If a later epoch had a higher validation loss than the evaluated one, the paragraph on the gap says so."""
    results, comparison = small(WINNER, (0,))
    results.of("full")[0].record.training.best_epoch = 2
    text = next(claim.text for claim in claims(results, comparison) if claim.name == "gaps")
    assert text.endswith(
        "full has a higher validation loss after that epoch: more of the same training would fit the "
        "training pairs, not the task."
    )


def test_with_one_seed_a_winner_is_a_model() -> None:
    """With one seed, a rejection makes no method a winner: the conclusion is about the trained model."""
    text = paragraphs(WINNER, (0,))["conclusion"]
    assert text.startswith("By R-1, the model trained with full leads on these documents: 35.00")
    assert text.endswith("about the trained models, not about the methods.") and "best trained method" not in text


def test_nothing_is_discussed_where_nothing_was_trained() -> None:
    """Without a trained method there is neither discussion nor conclusion."""
    results = make_results(("untuned", "lead-3"))
    topics = {claim.topic for claim in claims(results, make_comparison(results))}
    assert not topics & {"recipe", "learned", "differences", "cost-and-quality", "limiting", "conclusion"} - {"recipe"}
