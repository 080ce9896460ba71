"""Sentence splitting and the Lead-3 baseline, compared with texts split by hand and the known scores for
CNN/DailyMail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.paths import CHECKOUT
from triptych.baselines.lead import Lead3
from triptych.datasets.tables import Tables
from triptych.metrics.rouge import RougeScore
from triptych.text.sentences import split_sentences

CNN_DAILYMAIL = CHECKOUT.parent / "shared" / "data" / "cnn_dailymail"


@pytest.mark.parametrize(
    "sentences",
    [
        ["One.", "Two!", "Three?", "And four"],
        ["LONDON, England (CNN) -- The Queen spoke.", "She left."],
        ["(CNN)Mr. Smith met Mrs. Jones and Dr. Lee on St. John's Road.", "They talked."],
        ["George W. Bush and J.K. Rowling met J. Edgar.", "A tree fell."],
        ["It cost $3.5 million, or 2.5% of No. 1's income.", "He paid at 5 p.m. on Jan. 5."],
        ["The U.S. Senate met at 9 a.m. Friday.", "He lives in the U.S.", "The vote is open."],
        ["Apple Inc. Chief Tim Cook spoke for Apple Inc.", "He sat down."],
        ['"We won."', '"Really?" she asked.', "“Yes!”", "(He nodded.)", "[It was so.]", "‘Good.’"],
        ['He said "no." and left.', "Why?!", "1,200 people came.", "“Now,” he said."],
        ["By .", "Emma Innes .", "PUBLISHED: .", "11:30 EST ."],
        ["Well ... no.", "And so on."],
        ["He got Vitamin C.", "It helped.", "Plan B.", "The end."],
        ["Is it in the U.S.?", "Nobody knows.", "Dr. Who ...", "Reruns tonight."],
        ["市议会开会。", "会议通过方案！", "真的吗？！", "“他来了。”", "“走！”，他说。", "是的……", "没人反对"],
        ["東京は高い。", "「行くぞ！」と言った。", "本当？", "はい"],
        ["完成３．５公里．", "很好。"],
        ["我走了.", "你来吗?", "好"],
        ["बैठक हुई।", "पुल बनेगा॥", "ठीक। — कवि"],
        ["اجتمع المجلس؟", "نعم۔", "صوت الأعضاء.\u200f", "انتهى!"],
        ["הוא בא.", "היא הלכה?", "כן!"],
        ["Պետք է։", "Այո։"],
        ["እሺ።", "ነው፧"],
        ["ကောင်း။", "၁၊ ၂"],
        ["ជំរាបសួរ។", "សួស្តី៕"],
        ["Πού είναι;", "Εδώ.", "Αλλά· ναι."],
        ["Он пришёл.", "В. В. Путин ушёл.", "Да!"],
        ["Er sagte: „Ich komme.“", "Dann ging er.", "»Ja.«", "Nein."],
        ["Il a dit : « Oui. »", "Puis il partit !", "Fin"],
        ["Hola.", "¿Qué tal?", "¡Muy bien!"],
        ["ნინო მოვიდა.", "ის წავიდა."],
        ["회의가 열렸다.", "다리를 승인했다."],
        ["สภาเมืองประชุม และ อนุมัติสะพาน"],
        ["Visit www.example.com for 3.11.2 or e.g. Python.", "Then stop."],
    ],
)
def test_sentences_split_by_hand(sentences):
    """Stops in abbreviations, initials, numbers and datelines do not end a sentence; those before closing quotes do."""
    assert split_sentences(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["市议会开会。", "会议通过方案！", "“他来了。”", "他说。", "她走了……", "没人反对"],
        ["東京は高い。", "「行くぞ！」と言った。", "本当？", "はい"],
        ["我走了.", "你来吗?", "好"],
        ["གྲོང་ཁྱེར་ལྷན་ཚོགས་འཚོགས།", "ཟམ་པ་གསར་པ་ཐོབ། །", "སུས་ཀྱང་མ་བྱས༎", "ཁ་ཕྱེ་ཡོད"],
    ],
)
def test_sentences_without_spaces(sentences):
    """In scripts without spaces, a stop needs no space after it."""
    assert split_sentences("".join(sentences)) == sentences


def test_lines_are_split_too():
    """A line break ends a sentence, and each line is split further; white space is not a sentence."""
    assert split_sentences("One\ntwo. Three.\r\n\n  \nfour ") == ["One", "two.", "Three.", "four"]
    assert split_sentences("") == split_sentences(" \n\t") == []


@given(st.text("aB1 .!?\"')(\nU.S é…", max_size=80))
def test_no_character_is_lost(text):
    """Sentences contain every character of the text in order, except surrounding white space; none is empty."""
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "piece",
    [
        ".",
        "A. ",
        ". ",
        "?! ",
        '." ',
        "Mr. (",
        "x",
        "。",
        "。」",
        "。，",
        "．",
        "……",
        "।",
        "α; ",
        "« ",
        "؟\u200f",
        "། ",
        "། །x",
    ],
)
def test_time_is_linear(piece):
    """An adversarial text, such as a hundred thousand stops in a row, takes no longer than any other."""
    text = piece * 100_000 + "x"
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_lead_3_takes_the_first_three():
    """The baseline gives the first three sentences, one per line, and fewer if there are fewer."""
    assert Lead3().predict(["A b. C d. E f. G h.", "Only one", ""]) == ["A b.\nC d.\nE f.", "Only one", ""]


@pytest.mark.parametrize(
    "header",
    [
        "By . Associated Press . PUBLISHED: . 07:57 EST, 3 May 2013 . | . UPDATED: . 08:12 EST, 3 May 2013 . ",
        "By . Mark Duell . and Hugo Gye . UPDATED: . 18:30 EST, 3 March 2012 . ",
        "By . Daily Mail Reporter . Last updated at 1:25 AM on 3rd August 2011 . ",
        "By . Jane Evans . ",
        "PUBLISHED: . 05:31 EST, 6 June 2013 . ",
    ],
)
def test_lead_3_passes_over_a_byline(header):
    """DailyMail's byline and dates are not sentences of the article; a text that only begins with `By` keeps its first
    sentence."""
    article = "A dog was put down . It bit a boy . A cat came . The boy is well ."
    assert Lead3().predict([header + article]) == ["A dog was put down .\nIt bit a boy .\nA cat came ."]
    assert Lead3().predict(["By noon it rained. By one it stopped."]) == ["By noon it rained.\nBy one it stopped."]
    assert Lead3().predict(["By . " * 20_000])[0].startswith("By .")


@pytest.mark.skipif(not CNN_DAILYMAIL.is_dir(), reason=f"needs {CNN_DAILYMAIL}, which is not part of the repository")
def test_lead_3_on_real_news():
    """On 500 documents of CNN/DailyMail's test split, Lead-3 is within 0.5 of 30.1 / 11.8 / 26.8."""
    examples = list(Tables(path=CNN_DAILYMAIL).examples("test"))
    rouge = RougeScore()
    predictions = Lead3().predict([example.document for example in examples])
    scores = [rouge.score(p, e.summary, e.document) for p, e in zip(predictions, examples, strict=True)]
    means = {name: np.mean([score[name] for score in scores]) for name in ("rouge1", "rouge2", "rougeLsum")}
    assert len(examples) == 500
    assert means == {name: pytest.approx(known, abs=0.5) for name, known in zip(means, (30.1, 11.8, 26.8), strict=True)}
