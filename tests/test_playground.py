"""The page to try it: what it answers, and that what it shows is text. The browser's part is in test_playground_browser.py."""

import re
import sys
from pathlib import Path

import pytest

from triptych import cli
from triptych.baselines.lead import Lead3
from triptych.config import Suite
from triptych.errors import ConfigError
from triptych.metrics.text_shape import copied_spans
from triptych.playground import MAX_CHARACTERS, Document, Playground, show, show_message
from triptych.rows import Row
from triptych.trained import TrainedBaseline

ARTICLE = "The council met on Monday. It agreed to build a bridge. Work begins in May. Nobody voted against the plan."
HOSTILE = "<script>alert(1)</script> ${alert(2)} {{alert(3)}} <img src=x onerror=alert(4)>. Second & last."


@pytest.fixture
def playground() -> Playground:
    """Two rows without a model."""
    rows = [Row("lead-3", "lead-3", Lead3()), Row("<b>mine</b>", "lead-3", Lead3())]
    loaded = [TrainedBaseline(row, Lead3(), Path("run"), Suite()) for row in rows]
    return Playground(loaded, [Document("d1", ARTICLE, "A bridge.")], "demo", synthetic=True)


def test_rows_answer_one_after_the_other(playground):
    """Every row stands there at once and is filled in when it is done, with seconds, words, ROUGE and what it copied."""
    states = list(playground.answer(ARTICLE, "The council agreed to build a bridge."))
    assert [sum(answer.text is not None for answer in state) for state in states] == [0, 1, 2]
    done = states[-1][0]
    assert done.label == "lead-3" and done.num_words == 15 and done.seconds >= 0
    assert done.scores["rouge1"] > 50 and [done.text[a:b] for a, b in done.copied] == [done.text.rstrip(".")]
    assert list(playground.answer(ARTICLE))[-1][0].scores is None


@pytest.mark.parametrize("text", ["", " \n", "a" * (MAX_CHARACTERS + 1), "a\0b", "a\ud800b"])
def test_what_is_no_article_is_met_with_a_message(playground, text):
    """Nothing, too much, or damaged text is refused before any row works, with words for its reader."""
    with pytest.raises(ConfigError, match=r"no article yet|is the most|is damaged"):
        next(playground.answer(text))


def test_whatever_was_generated_is_text(playground):
    """Markup in an article, a summary, a label or a message is shown, never interpreted."""
    page = show(list(playground.answer(HOSTILE))[-1]) + show_message(HOSTILE)
    tags = set(re.findall(r"<(\w+)", page))
    assert tags == {"ul", "li", "h2", "p", "mark", "span"} and "&lt;script&gt;" in page and "&lt;b&gt;mine" in page


def test_copied_spans_are_what_both_say():
    """A run of four words or more is marked from its first to its last letter, whatever the case; shorter ones are not."""
    text = "Today the Council MET on Monday, and it agreed."
    assert [text[a:b] for a, b in copied_spans(text, ARTICLE, 4)] == ["the Council MET on Monday"]
    assert copied_spans("İt agreed to build a bridge", ARTICLE, 4) == [(3, 27)]
    assert copied_spans("", ARTICLE, 4) == copied_spans("It agreed", ARTICLE, 4) == []


def test_without_gradio_the_extra_is_named(tmp_path, capsys, monkeypatch):
    """Where gradio is absent, `play` ends with status 2 and says how to get it."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["play", str(tmp_path)]) == 2
    assert "triptych[play]" in capsys.readouterr().err
