"""Counting in every script, compared with values worked out by hand and rouge_score given space-separated words."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem import SnowballStemmer
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize

from triptych.cli import main
from triptych.config.schema import make_suite
from triptych.errors import ConfigError
from triptych.metrics.rouge import RougeScore, sentence_per_line
from triptych.metrics.text_shape import TextShapeMetric, copied_spans, shape_words
from triptych.text import languages, words
from triptych.text.languages import choose
from triptych.text.tokenizers import UnicodeTokenizer

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ENGLISH = [
    "Police arrested two men on Friday after a chase.\nThe bank reopens on Monday.",
    "It was not the first time that they said so, and it will not be the last.",
    "Café owner José wins the prize with a song from his youth, and his friends sing it.",
]
SAMPLES = {  # a text in each language, and another that shares no word with it
    "zh": ("会议以22票赞成通过新桥方案。", "昨天下雨，学校关闭。"),
    "ja": ("東京タワーは高い。", "雨が降った。"),
    "ko": ("서울 시의회가 새 다리를 승인했다.", "어제 비가 많이 내렸다."),
    "th": ("สภาเมือง", "ฝนตก"),
    "hi": ("नगर परिषद की बैठक सोमवार को हुई।", "कल बारिश से स्कूल बंद रहे।"),
    "ar": ("صوت أعضاء المجلس على الجسر", "هبت رياح قوية أمس"),
    "ru": ("Совет города проголосовал за мост.", "Вчера весь день шёл дождь."),
    "el": ("Το συμβούλιο ενέκρινε τη γέφυρα.", "Χθες έβρεχε όλη μέρα."),
    "he": ("מועצת העיר אישרה את הגשר", "אתמול ירד גשם כל היום"),
    "de": ("Öl für Brücken", "Äl über Straßen"),
    "fr": ("été à Liège", "thé où Lièvre"),
    "tr": ("İşçi grevi sürüyor", "Çiçek pazarı açıldı"),
    "vi": ("Hội đồng thành phố họp", "Hôm qua trời mưa"),
}


def score(prediction: str, reference: str, language: str = "auto") -> dict[str, float]:
    return RougeScore(language=language).score(prediction, reference, "")


def spelled(found: list[str], names: dict[str, str]) -> str:
    """Words as rouge_score can read them: each replaced by a name in a-z and 0-9, separated by spaces."""
    return " ".join(names.setdefault(word, f"x{len(names)}") for word in found)


@settings(deadline=None, max_examples=300)
@given(
    st.text("aAbBcdefgings 0123.,'-_!?()\n\t$%é", max_size=80), st.text("aAbBcdefgings 0123.,'-_!?()\n é", max_size=80)
)
def test_english_is_rouge_scores_bit_for_bit(prediction, reference):
    """Counted as English, any text has exactly rouge_score's scores, bit for bit."""
    lines = map(sentence_per_line, (reference, prediction))
    expected = RougeScorer(list(TYPES), use_stemmer=True).score(*lines)
    assert score(prediction, reference, "english") == {name: 100.0 * expected[name].fmeasure for name in TYPES}


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=80))
def test_words_of_ascii_are_rouge_scores(text):
    """For ASCII text the words of any language are rouge_score's, without stemming."""
    assert words.split_words(text) == tokenize(text, None)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_script_loses_its_words(name):
    """In every script a text scores 100 against itself and 0 against a text that shares no word with it."""
    text, other = SAMPLES[name]
    for language in ("auto", "any", name):
        assert score(text, text, language)["rouge1"] == pytest.approx(100)
        assert score(other, text, language) == dict.fromkeys(TYPES, 0.0)
    shape = TextShapeMetric(language="any").score(text, text, other)
    assert shape["prediction_words"] > 1 and shape["longest_copied_words"] == 0 and shape["novel_bigrams"] == 1


def test_chinese_by_characters_is_rouge_score_over_spaced_characters():
    """Chinese scores are those of rouge_score with each character as a space-separated word."""
    prediction, reference = "会议通过了新的大桥方案\n没有人反对", "会议以多数票通过新桥方案\n居民没有反对"
    names: dict[str, str] = {}
    apart = ["\n".join(spelled(list(line), names) for line in text.split("\n")) for text in (reference, prediction)]
    expected = RougeScorer(list(TYPES), use_stemmer=False).score(*apart)
    assert score(prediction, reference) == {name: pytest.approx(100 * expected[name].fmeasure) for name in TYPES}


def test_scores_by_hand():
    """Scores worked out by hand: only identical characters or words count."""
    # 8 characters and the number in each; all but the number are shared
    assert score("会议以22票赞成通过。", "会议以23票赞成通过。")["rouge1"] == pytest.approx(100 * 8 / 9)
    assert score("会议以22票赞成通过。", "昨天下雨，22人受伤，学校关闭。")["rouge1"] == pytest.approx(
        100 * 2 / (9 + 12)
    )
    # the third of five words differs, and so do two of four pairs
    russian = score("Совет города утром одобрил мост", "Совет города вечером одобрил мост")
    assert russian["rouge1"] == pytest.approx(80) and russian["rouge2"] == pytest.approx(50)
    assert score("año", "aéo") == score("Öl", "Äl") == score("été", "thé") == dict.fromkeys(TYPES, 0.0)
    assert score("बैठक कल हुई", "बैठक आज हुई")["rouge1"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("使用GPT4模型，22票", ["使", "用", "gpt4", "模", "型", "22", "票"]),
        ("ＧＰＴ４ ２２", ["gpt4", "22"]),
        ("ｶﾞｷﾞ ガギ", ["ガ", "ギ", "ガ", "ギ"]),
        ("ラーメンの人々", ["ラ", "ー", "メ", "ン", "の", "人", "々"]),
        ("서울은 AI가", ["서울은", "ai가"]),
        ("น้ำท่วม", ["น้ำ", "ท่", "ว", "ม"]),
        ("ភ្នំពេញ", ["ភ្នំ", "ពេ", "ញ"]),
        ("ကမ္ဘာ", ["က", "မ္ဘာ"]),
        ("ກິນເຂົ້າ", ["ກິ", "ນ", "ເ", "ຂົ້", "າ"]),
        ("हिन्दी में ३", ["हिन्दी", "में", "३"]),
        ("می\u200cخواهم کــتاب", ["میخواهم", "کتاب"]),
        ("ﻛﺘﺎﺏ", ["كتاب"]),
        ('\u202bשלום\u202c צה״ל צה"ל', ["שלום", "צהל", "צהל"]),
        ("п'ять п’ять", ["пять", "пять"]),
        ("L'e\u0301te\u0301 été", ["l", "été", "été"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ΟΔΟΣ οδος", ["οδοσ", "οδοσ"]),
        ("👩‍👩‍👧 ok 👍🏽!", ["ok"]),
        ("co\u00adoperate a\u200bb", ["cooperate", "a", "b"]),
        ("col·lecció", ["collecció"]),
        ("", []),
    ],
)
def test_words_by_hand(text, expected):
    """Marks stay with their letters, unspaced scripts are split by character, and compatibility forms and invisible
    characters make no difference."""
    assert words.split_words(text) == expected


def test_turkish_has_two_letters_i():
    """In Turkish I is the capital of ı and İ the capital of i; elsewhere I is the capital of i."""
    assert words.split_words("IŞIK İstanbul", dotless_i=True) == ["ışık", "istanbul"]
    assert words.split_words("IŞIK") == ["işik"]
    assert score("IŞIK İSTANBUL", "ışık istanbul", "tr")["rouge1"] == pytest.approx(100)
    assert choose("auto", ["Kadın ışığı açtı, çocuk kapıyı kapattı."]).name == "turkish"


@pytest.mark.parametrize("language", languages.STEMMED)
def test_a_stemmer_only_where_its_language_is_named(language):
    """Words over three characters are stemmed by the named language's Snowball stemmer; `any` has no stemmer."""
    text = "los abandonados continuamente Häuser hauses городами книгами الكتاب maisons continuation"
    stem = SnowballStemmer(language).stem
    assert UnicodeTokenizer(language).tokenize(text) == [stem(w) if len(w) > 3 else w for w in words.split_words(text)]
    assert UnicodeTokenizer("any").tokenize(text) == words.split_words(text)


@pytest.mark.parametrize("language", languages.STEMMED)
def test_stemmers_take_any_word(language):
    """No word of any script makes a stemmer fail."""
    letters, dice = "aeiouyéñß'ияскнлайцв的ーกาहि1كتابواله" + "\u0301\u064b", random.Random(0)
    tokenizer = UnicodeTokenizer(language)
    for _ in range(300):
        tokenizer.tokenize("".join(dice.choices(letters, k=dice.randint(1, 14))))


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_told_by_its_function_words(text):
    """English references, also with an occasional accent, are counted as English."""
    assert choose("auto", [text]).name == "english"


@pytest.mark.parametrize(
    "text",
    [
        "Dewan kota dan warga memilih jembatan baru yang lebih kuat dari yang lama untuk jalan itu.",
        "De gemeenteraad heeft het plan voor een nieuwe brug met een grote meerderheid van stemmen aangenomen.",
        "Il consiglio della città ha approvato il nuovo ponte che apre in primavera.",
        "Rada miasta przyjęła plan budowy mostu i nie było sprzeciwu.",
        "Gradsko vijeće je odobrilo novi most koji će se otvoriti na proljeće.",
        "Baraza la jiji limepitisha mpango wa daraja jipya kwa kura nyingi katika kikao cha Jumatatu.",
        "Hội đồng thành phố đã thông qua kế hoạch xây cầu mới.",
        *[text for text, _ in SAMPLES.values()],
    ],
)
def test_nothing_else_is_stemmed_as_english(text):
    """References in another language, in any script, do not get the English stemmer."""
    assert choose("auto", [text] * 3).name in ("any", "turkish")


def test_a_mixture_is_not_english():
    """If a tenth or more of the references are in another language, no stemmer is used."""
    french = "Le conseil a voté pour le nouveau pont qui est ouvert et les habitants sont contents dans une ville."
    for other in (french, SAMPLES["zh"][0]):
        assert choose("auto", (ENGLISH * 3 + [other]) * 10).name == "any"
    assert "% Latin, " in choose("auto", [ENGLISH[0], SAMPLES["zh"][0]]).reason


def test_letters_that_would_be_dropped_are_refused():
    """English is refused, with a remedy, if a tenth or more of the letters or of the references would not be
    counted."""
    with pytest.raises(ConfigError, match=r"rouge\.language=auto") as refused:
        choose("english", [SAMPLES["zh"][0]], "news")
    assert "100% of the letters" in str(refused.value) and "'news'" in str(refused.value)
    with pytest.raises(ConfigError):
        choose("english", [ENGLISH[0]] * 8 + [SAMPLES["ru"][0]])
    # 2 of 64 letters: accepted, with a note
    assert choose("english", [ENGLISH[2]]).reason.endswith("3.1% of their letters are not a-z and not counted.")


def test_the_suite_names_the_language():
    """A language is given by name or code; an unknown one is refused with a list of the known ones."""
    assert make_suite({}).rouge.language == "auto"
    assert make_suite({"rouge": {"language": "DE"}}).rouge.language == "german"
    with pytest.raises(ConfigError, match=r"'rouge.language' is 'germna'.*german.*any"):
        make_suite({"rouge": {"language": "germna"}})


def test_signatures_name_language_tokenizer_and_stemmer():
    """The signature says what is counted, so scores under different rules never share a table."""
    assert "|stemmer:yes|" in (english := RougeScore(language="english").signature())
    assert "|lang:english|tok:rouge_score|" in english
    german = RougeScore(language="de").signature()
    assert "|stemmer:snowball-german|" in german and f"|lang:german|tok:unicode-{words.WORD_RULES_VERSION}|" in german
    assert "|stemmer:no|" in RougeScore(language="any").signature()


def test_shape_counts_readers_words():
    """Lengths, copies and novelty use the same words: characters in Chinese, whole words with their marks in Hindi."""
    shape = TextShapeMetric().score("市议会通过方案", "会议22票", "昨天市议会开会")
    assert (shape["prediction_words"], shape["reference_words"], shape["longest_copied_words"]) == (7, 4, 3)
    assert shape["novel_bigrams"] == pytest.approx(4 / 6)
    assert shape_words("नगर परिषद की बैठक।") == ["नगर", "परिषद", "की", "बैठक"]
    assert shape_words("Don't pay $3,500.50: O’Neil_x.") == ["don't", "pay", "3,500.50", "o’neil_x"]
    text = "Ja: ＡＢＣ e\u0301te\u0301 是。"
    assert [text[a:b] for a, b in copied_spans(text, "abc été 是", 3)] == ["ＡＢＣ e\u0301te\u0301 是"]


def test_time_is_linear_in_any_script():
    """A hundred thousand characters of any kind are split into words without delay."""
    for piece in ("的", "a\u0301", "\u200d", "ក្", "'", "ا", "l·", "״א", "٠"):
        assert len(words.split_words(piece * 100_000)) <= 100_000
        assert len(shape_words(piece * 100_000)) <= 100_000


def in_chinese(folder: Path) -> Path:
    """A data set of a few short Chinese stories."""
    folder.mkdir()
    for split, size in (("train", 6), ("validation", 2), ("test", 3)):
        stories = [
            {
                "id": f"{split}-{i}",
                "document": f"市议会第{i}次开会。会议通过新桥方案。旧桥开放{split}。没人反对。",
                "summary": f"会议{i}通过方案。",
            }
            for i in range(size)
        ]
        lines = [json.dumps(story, ensure_ascii=False) for story in stories]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def options(data: Path, out: Path) -> list[str]:
    limits = [
        *(f"limits.{split}_documents=0" for split in ("train", "validation", "test")),
        "limits.document_tokens=200",
    ]
    return [
        "--model",
        "tiny",
        "--data",
        str(data),
        "--seeds",
        "0",
        "--out",
        str(out),
        "--device",
        "cpu",
        "--set",
        *limits,
    ]


def test_a_run_says_and_keeps_what_it_counted(tmp_path, capsys):
    """A run prints what ROUGE counts and why, and its record has it: language, sentence and signature."""
    data, out = in_chinese(tmp_path / "zh"), tmp_path / "out"
    assert main(["train", "lead-3", *options(data, out)]) == 0
    said = "ROUGE counts whole words of any script, each character of Han as a word, without a stemmer"
    assert said in capsys.readouterr().err
    rouge = json.loads((out / "runs/lead-3/0/record.json").read_text())["rouge"]
    assert rouge["language"] == "any" and rouge["counted"].startswith(said) and "|lang:any|" in rouge["signature"]
    assert 0 < rouge["rouge1"] < 60  # three of four sentences compared with part of one
    lines = [json.loads(line) for line in (out / "runs/lead-3/0/predictions.jsonl").read_text().splitlines()]
    assert all(line["prediction"].count("\n") == 2 for line in lines)
    assert main(["list", "data", str(data)]) == 0
    assert said in capsys.readouterr().out


def test_chinese_counted_as_english_is_refused_before_anything_is_written(tmp_path, capsys):
    """A suite that would ignore the letters of its references ends with one message and status 2, and writes
    nothing."""
    data, out = in_chinese(tmp_path / "zh"), tmp_path / "out"
    assert main(["compare", "--methods", "lead-3", *options(data, out), "rouge.language=english"]) == 2
    message = capsys.readouterr().err
    assert "100% Han" in message and "--set rouge.language=auto" in message and not out.exists()
