"""The demo's data set `newswire` and model `tiny`."""

import hashlib
import json
import math
import re
import subprocess
import sys

import pytest
import torch
from rouge_score import rouge_scorer
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.paths import CHECKOUT
from triptych.baselines.lead import Lead3
from triptych.contracts import SPLITS
from triptych.datasets.newswire import Newswire
from triptych.datasets.newswire.names import PRETRAIN
from triptych.datasets.newswire.slots import COMMON_SLOTS, SMALL, company, person, place
from triptych.datasets.newswire.stories import STORIES
from triptych.datasets.newswire.writer import KINDS, write_story
from triptych.errors import DataError

ROOT = CHECKOUT
TINY = ROOT / "src" / "triptych" / "assets" / "tiny"
EVERY_SPLIT = (*SPLITS, PRETRAIN)
SEPARATOR = "\n\nTL;DR:"

PINNED = {
    ("train", 0): "9c1e2874fd911204fb1309796e1d8c8160f24b70d5d512f3cbb33434b224acb2",
    ("validation", 7): "2fad5fa053e53770ade821a8bd4e20e981a839c1b6c2ced9610d50812e571eb7",
    ("test", 123): "6fc9b14c24e31448dc72e4f9494d6fd320d2e111698c3414537270b940bf488a",
    (PRETRAIN, 4567): "26a62f7a17886a6631fe19d7c0c5bceb9827d775b0c690deb36406e6c50fe72e",
}


def generate(split: str, index: int) -> tuple[str, str, str]:
    """The id, document and summary of a story."""
    story = write_story(split, index)
    return story.id, story.document, story.summary


def sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def test_articles_are_news_length():
    """An article has 120 to 250 words and two to four highlights, each a sentence on a separate line."""
    for split in EVERY_SPLIT:
        for index in range(200):
            _, document, summary = generate(split, index)
            assert 120 <= len(document.split()) <= 250
            highlights = summary.split("\n")
            assert 2 <= len(highlights) <= 4
            assert all(re.fullmatch(r"[A-Z0-9$].*[^ ]\.", line) for line in highlights)


def test_no_template_is_left_unfilled():
    """No bracket, brace, double space or line break of a template appears in an article."""
    for index in range(500):
        _, document, summary = generate("train", index)
        assert not re.search(r"[][{}|\n]|  | [.,]", document)
        assert not re.search(r"[][{}|]|  | [.,]", summary)


def test_many_kinds_of_story():
    """Every split tells at least eight kinds of story, and every kind there is."""
    assert len(KINDS) >= 8
    for split in SPLITS:
        assert {write_story(split, index).kind for index in range(200)} == set(KINDS)


def test_articles_hardly_repeat():
    """Among a thousand articles no two are alike, nor are any two summaries."""
    stories = [generate("train", index) for index in range(1000)]
    assert len({document for _, document, _ in stories}) == 1000
    assert len({summary for _, _, summary in stories}) == 1000


@pytest.mark.parametrize(("split", "index"), PINNED)
def test_articles_are_pinned(split, index):
    """An article has the same bytes on every machine, as long as the generator's version is the same."""
    assert sha256(*generate(split, index)) == PINNED[split, index]


def test_an_example_does_not_depend_on_the_count():
    """Example i is the same however many are requested."""
    few = list(Newswire(train_documents=5).examples("train"))
    many = list(Newswire(train_documents=50).examples("train"))
    assert many[:5] == few
    assert len(many) == 50


def test_a_seed_gives_other_stories():
    """Another data seed gives other articles under other ids, and another fingerprint."""
    one, other = Newswire(train_documents=20), Newswire(train_documents=20, data_seed=1)
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == Newswire(train_documents=20).fingerprint()
    left, right = list(one.examples("train")), list(other.examples("train"))
    assert not {example.id for example in left} & {example.id for example in right}
    assert not {example.document for example in left} & {example.document for example in right}


def test_an_unknown_split_is_refused():
    """A split that newswire does not have gives an error that lists the splits it has."""
    with pytest.raises(DataError, match="train, validation, test"):
        next(Newswire().examples("dev"))


def test_splits_share_no_facts():
    """No surname, place or organization of one split is named in another, whatever the data seed."""
    named, texts = {}, {}
    for number, split in enumerate(EVERY_SPLIT):
        stories = [write_story(split, index, seed=number) for index in range(400)]
        texts[split] = set(re.findall(r"[A-Z][a-z]+", " ".join(story.document + story.summary for story in stories)))
        named[split] = {
            story.facts[slot][1].split()[-1]
            for story in stories
            for slot, sort in {**COMMON_SLOTS, **STORIES[story.kind].slots}.items()
            if sort in (person, place, company)
        }
        assert len(named[split]) > 300
    for split in EVERY_SPLIT:
        for other in EVERY_SPLIT:
            if other != split:
                assert not named[split] & texts[other]


def test_highlights_report_what_the_article_says():
    """Every name and figure in a highlight is in the article, in the same form or spelled out."""
    for index in range(300):
        story = write_story("test", index)
        document, summary = story.document, story.summary
        for slot, sort in {**COMMON_SLOTS, **STORIES[story.kind].slots}.items():
            if sort in (person, place, company) and story.facts[slot][1] in summary:
                assert story.facts[slot][0] in document
        for figure in re.findall(r"\d[\d,.]*\d|\d", summary.replace("-1 ", " ").replace("to 1 ", "to one ")):
            assert figure in document or SMALL[int(figure)] in document.lower()


def test_lead_3_is_beatable_but_no_pushover():
    """The first three sentences score between 30 and 60 ROUGE-1 on the test split."""
    examples = list(Newswire().examples("test"))
    leads = Lead3().predict([example.document for example in examples])
    scorer = rouge_scorer.RougeScorer(["rouge1"], use_stemmer=True)
    scores = [
        scorer.score(example.summary, lead)["rouge1"].fmeasure for example, lead in zip(examples, leads, strict=True)
    ]
    assert 30 <= 100 * sum(scores) / len(scores) <= 60


@pytest.fixture(scope="module")
def tiny():
    return AutoModelForCausalLM.from_pretrained(TINY), AutoTokenizer.from_pretrained(TINY)


def test_tiny_is_what_its_record_says():
    """The shipped weights are those described in training.json, in float32, and take less than 12 MB."""
    record = json.loads((TINY / "training.json").read_text())
    weights = (TINY / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == record["sha256"]
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 12_000_000
    assert json.loads((TINY / "config.json").read_text())["dtype"] == "float32"


def test_tiny_is_a_gpt2(tiny):
    """The folder loads as a GPT-2 with a tied head, a window of 512 and GPT-2's special tokens."""
    model, tokenizer = tiny
    assert model.config.model_type == "gpt2" and model.config.n_positions == 512
    assert model.lm_head.weight is model.transformer.wte.weight
    assert tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>" and tokenizer.pad_token is None
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.eos_token_id == model.config.eos_token_id


def test_the_tokenizer_gives_texts_back():
    """Decoding any text's tokens gives the text unchanged, and an article with its summary fits the window."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    for text in ("Köln — 1,234.5 %\n\n  naïve\t✓ END.", "".join(map(chr, range(32, 400)))):
        assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text
    for index in range(300):
        _, document, summary = generate("test", index)
        assert len(tokenizer.encode(document + SEPARATOR + " " + summary)) < 512 - 20 - 1


def test_tiny_has_learned_to_copy(tiny):
    """On articles with unseen names, tiny is far better than guessing, and predicts highlights better given the
    article."""
    model, tokenizer = tiny
    model.eval()

    def loss(prefix: str, text: str) -> float:
        before, ids = tokenizer.encode(prefix), tokenizer.encode(text)
        with torch.no_grad():
            logits = model(torch.tensor([before + ids])).logits[0, len(before) - 1 : -1]
        return float(functional.cross_entropy(logits, torch.tensor(ids)))

    stories = [generate("test", index) for index in range(8)]
    cue = "\n\nHighlights:"
    alone = sum(loss("." + cue, " " + summary) for _, _, summary in stories) / 8
    grounded = sum(loss(document + cue, " " + summary) for _, document, summary in stories) / 8
    article = sum(loss(document[:1], document[1:]) for _, document, _ in stories) / 8
    assert article < math.log(len(tokenizer)) / 3
    assert grounded < alone / 2


@pytest.mark.slow
def test_the_pretraining_script_runs(tmp_path):
    """The pretraining script writes a loadable model with its record, and the same tokenizer as the shipped one."""
    command = [sys.executable, ROOT / "scripts" / "pretrain_tiny.py", "--steps", "2", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["steps"] == 2
    assert record["sha256"] == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    AutoModelForCausalLM.from_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == AutoTokenizer.from_pretrained(TINY).get_vocab()
