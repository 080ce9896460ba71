"""What is in a summary but not in its article (numbers, names, words), and how extractive the summary is."""

import os
import subprocess
import sys

import pytest

from triptych.text.grounding import Article, finished, grounding, marks, names_in, telling_sentences

ARTICLE = (
    "Rinex, the chip maker, will close its plant in Drancliff. Some 1,300 jobs may go, the company said on Tuesday. "
    "Chief executive Vera Flolton leaves after nine years. Shares fell by 5%."
)


def kinds(summary: str, article: str = ARTICLE, names: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """The marks of a summary as pairs of kind and text."""
    return [(mark.kind, summary[mark.begin : mark.end]) for mark in marks(summary, Article(article), names)]


@pytest.mark.parametrize(
    ("summary", "found"),
    [
        ("Rinex will close its plant.", []),
        ("The company said 1300 jobs may go.", []),  # the thousands separator makes no difference
        ("Shares fell by 5.0%.", []),
        ("Shares fell by 6%.", [("number", "6")]),
        ("Vera Flolton leaves after 9 years.", []),  # spelled out in the article
        ("Vera Flolton leaves after ten years.", [("number", "ten")]),
        ("The company Flinex will close.", [("name", "Flinex")]),
        ("Rinex's plant in Drancliff will close.", []),
        ("Yesterday the company said so.", [("word", "Yesterday"), ("word", "so")]),
        ("", []),
    ],
)
def test_what_the_article_does_not_hold_is_marked(summary: str, found: list[tuple[str, str]]) -> None:
    """A number or name is marked if no form of it is in the article, and a sentence's first word is not a name just
    because it is capitalized."""
    assert kinds(summary) == found


def test_a_name_at_the_beginning_of_a_sentence_is_known_from_other_texts() -> None:
    """A capitalized first word is a name if it is one within a sentence elsewhere, and never lower case."""
    names = names_in(["The maker Flinex grew.", "Shareholders met.", "He saw shareholders and Mark.", "A mark."])
    assert names == {"flinex"}
    assert kinds("Flinex will close. Shareholders go.", names=names) == [("name", "Flinex"), ("word", "Shareholders")]


def test_german_nouns_are_no_names() -> None:
    """In German a capital letter does not indicate a name, so no name is marked."""
    assert [mark.kind for mark in marks("Die Bank schließt.", Article("Es regnet.", "german"), frozenset())] == [
        "word"
    ] * 3


def test_coverage_and_density_are_those_of_the_paper() -> None:
    """By hand, following Grusky et al. 2018: fragments `a b c` and `e`, of five words: 4/5 and (9 + 1)/5."""
    found = grounding("a b c x e", Article("a b c d e"), frozenset())
    assert (found["coverage"], found["density"]) == (80.0, 2.0)
    assert (found["new_words"], found["new_triples"]) == (20.0, pytest.approx(200 / 3))
    copied = grounding("One two. Three four.", Article("One two. Three four. Five six. Seven eight."), frozenset())
    assert (copied["coverage"], copied["density"], copied["lead_overlap"]) == (100.0, 4.0, 100.0)
    empty = grounding("", Article(ARTICLE), frozenset())
    assert set(empty.values()) == {0.0}


def test_a_text_is_finished_where_a_sentence_ends() -> None:
    """A full stop ends a text, also before a closing quote or bracket, and so do other scripts' stops."""
    assert all(map(finished, ["Done.", 'He said: "no."', "終わり。", "क्या।"]))
    assert not any(map(finished, ["The end of", "", "a, b,"]))


def test_telling_sentences_are_those_that_a_summary_rests_on() -> None:
    """The sentences with the summary's words are selected, in the article's order, without duplicates or useless
    ones."""
    chosen = telling_sentences(ARTICLE, ["Shares fell as Rinex will close its plant."], 2)
    assert chosen == ["Rinex, the chip maker, will close its plant in Drancliff.", "Shares fell by 5%."]
    assert telling_sentences(ARTICLE, ["nothing shared here"], 3) == []
    assert telling_sentences("", ["a"], 3) == []


def test_telling_sentences_do_not_depend_on_the_order_of_sets() -> None:
    """The same sentences are chosen under every Python hash seed, so a report is the same byte by byte."""
    code = (
        "from triptych.text.grounding import telling_sentences as t; import random; r = random.Random(1); "
        "w = [f'w{n}' for n in range(30)]; u = r.choices; "
        "a = [' '.join(' '.join(u(w, k=7)).capitalize() + '.' for _ in range(12)) for _ in range(60)]; "
        "print([t(x, [' '.join(w)], 6) for x in a])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(said) == 1 and said != {b"[]\n"}
