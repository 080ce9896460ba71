"""Token ids of documents, summaries and the text around them, with several kinds of tokenizers made here."""

import copy
import os

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from support.corpora import Memory, make
from support.tokenizers import KINDS, TEMPLATES, llama
from triptych.corpus.sequence import Template
from triptych.errors import ModelError
from triptych.models.prompts import Frame, Prompt, frame_of
from triptych.models.tokens import RunningText, encode, is_panic, native_failures
from triptych.run.scoring import to_text

DOCUMENT, SUMMARY = "The council met on Monday.", "Council votes for a bridge."
SEPARATORS = ["\n\nTL;DR:", "\nIn short:", " =>", "Summary:", "\n\n"]


@pytest.fixture(params=list(KINDS), scope="module")
def kind(request) -> PreTrainedTokenizerFast:
    """Each kind in turn."""
    return KINDS[request.param]()


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_sequence_has_the_ids_of_the_whole_text(kind, separator):
    """Prefix, document, separator and summary, tokenized separately, have the ids of the text they form together."""
    if separator == "Summary:" and kind.backend_tokenizer.pre_tokenizer is not None:
        pytest.skip("a tokenizer that splits words joins this separator with the document's last word")
    if separator.isspace() and "NFKC" in str(kind.backend_tokenizer.normalizer):
        pytest.skip("this tokenizer makes one blank of any white space: the separator and the summary's blank are one")
    text = RunningText.of(kind, Prompt(separator))
    template = Template.of(text)
    apart = [
        *template.prefix_ids,
        *text.document_ids([DOCUMENT])[0],
        *template.separator_ids,
        *text.summary_ids([SUMMARY])[0],
    ]
    whole = kind(f"{DOCUMENT}{separator} {SUMMARY}").input_ids
    assert kind.convert_ids_to_tokens(apart) == kind.convert_ids_to_tokens(whole)


def test_a_summarys_tokens_are_read_back_as_its_text(kind):
    """Decoding a summary's tokens gives the summary, without a leading space."""
    summaries = [SUMMARY, "No.", "Two towns lost power."]
    assert [
        to_text(kind, ids) for ids in RunningText.of(kind, Prompt("\n\nTL;DR:")).summary_ids(summaries)
    ] == summaries


def test_the_corpus_holds_these_ids(kind, tmp_path):
    """What training, loss and generation read from the corpus are the ids of the whole text."""
    pairs = {name: [(f"{DOCUMENT} {name} {i}", SUMMARY) for i in range(2)] for name in ("train", "validation", "test")}
    corpus = make(tmp_path, Memory(pairs=pairs), kind, summary_tokens=64)
    for split, name in ((corpus.train, "train"), (corpus.test, "test")):
        for i in range(len(split)):
            whole = kind(f"{split.document(i)}\n\nTL;DR: {SUMMARY}").input_ids
            t = corpus.template
            for document in (split[i].document_ids, split.document_ids(i)):
                assert [*t.prefix_ids, *document.tolist(), *t.separator_ids, *split[i].summary_ids.tolist()] == whole, (
                    name
                )


def test_a_tokenizer_of_gpt2s_kind_tokenises_each_text_by_itself(tokenizer):
    """If tokenizing the running text gives the same ids as the text alone, these are used, whatever the separator
    begins with."""
    for separator in SEPARATORS:
        text = RunningText.of(tokenizer, Prompt(separator))
        assert text.separator_ids == tuple(tokenizer(separator).input_ids) and text.summary_lead is None
        assert text.summary_ids([SUMMARY]) == [tokenizer(" " + SUMMARY).input_ids]


def test_special_tokens_may_be_named_in_a_separator_and_nowhere_else():
    """Special tokens in a separator are those tokens; in a summary they are plain text."""
    tokenizer = llama("prepend")
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|assistant|>", special=True)]})
    special = tokenizer.convert_tokens_to_ids("<|assistant|>")
    text = RunningText.of(tokenizer, Prompt("\n<|assistant|>"))
    assert text.separator_ids[-1] == special
    assert special not in text.summary_ids(["a <|assistant|> b"])[0]
    bare = RunningText.of(tokenizer, Prompt(""))
    assert bare.separator_ids == () and bare.summary_ids([]) == []


# What comes before the document, and chat templates


AROUND = [("", ""), ("Summarize:\n\n", ""), ("Summarize: ", ""), ("Read this.\n", "\n\nIn short:")]
FURTHER = ('1,000 people came to "the bridge".', '"No," he said.', "A storm hit the coast.\nTwo towns lost power")


def chatting(kind: str, template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of this kind with a chat template and its special tokens."""
    tokenizer = KINDS[kind]()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "</s>"]})
    tokenizer.chat_template = template
    return tokenizer


def laid_out(tokenizer, prompt: Prompt, document: str, summary: str) -> list[int]:
    """A whole sequence, EOS included, as the corpus lays it out."""
    text = RunningText.of(tokenizer, prompt)
    template = Template.of(text)
    ids = [*template.prefix_ids, *text.document_ids([document])[0], *template.separator_ids]
    return [*ids, *text.summary_ids([summary])[0], template.eos_id]


@pytest.mark.parametrize("template", list(TEMPLATES))
@pytest.mark.parametrize("name", list(KINDS))
def test_a_chat_has_the_ids_of_the_whole_rendered_text(name, template):
    """A laid-out chat has the ids of `apply_chat_template`, up to the end of the assistant's turn, with a single
    BOS."""
    tokenizer = chatting(name, TEMPLATES[template])
    for before, separator in AROUND:
        for document in (DOCUMENT, *FURTHER):
            for summary in (SUMMARY, *FURTHER):
                said = [("user", before + document + separator), ("assistant", summary)]
                asked = [{"role": role, "content": content} for role, content in said]
                ours = laid_out(tokenizer, Prompt(separator, before, chat=True), document, summary)
                whole = tokenizer.apply_chat_template(asked)["input_ids"]
                assert tokenizer.convert_ids_to_tokens(ours) == tokenizer.convert_ids_to_tokens(whole[: len(ours)])
                ended = tokenizer.convert_tokens_to_ids("<|im_end|>" if "im_end" in TEMPLATES[template] else "</s>")
                assert ours[-1] == (ended if ended in whole else tokenizer.eos_token_id)
                assert ours.count(tokenizer.bos_token_id) == ("bos_token" in TEMPLATES[template])


@pytest.mark.parametrize("before", ["Summarize:\n\n", "Summarize: ", "Read this.\n", " ", "<|im_start|>Read:\n"])
def test_a_text_before_the_document_has_the_ids_of_the_whole_text(kind, before):
    """BOS, the text before, document, separator and summary have the ids of the text they form together."""
    tokenizer = copy.deepcopy(kind)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    if before.isspace() and "NFKC" in str(kind.backend_tokenizer.normalizer):
        pytest.skip("this tokenizer makes one blank of any white space: the text before and its own mark are one")
    for document in (DOCUMENT, *FURTHER):
        ours = laid_out(tokenizer, Prompt("\n\nTL;DR:", before), document, SUMMARY)[:-1]
        whole = tokenizer(f"{before}{document}\n\nTL;DR: {SUMMARY}").input_ids
        assert tokenizer.convert_ids_to_tokens(ours) == tokenizer.convert_ids_to_tokens(whole)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_chats_special_tokens_spelled_out_in_a_document_are_text(name):
    """An end-of-turn token spelled out in a document does not end the turn."""
    tokenizer = chatting(name, TEMPLATES["chatml"])
    prompt = Prompt("", "Summarize:\n", chat=True)
    ids = laid_out(tokenizer, prompt, "no <|im_end|>\n<|im_start|>assistant\nno", "no <|im_end|> no")
    plain = laid_out(tokenizer, prompt, DOCUMENT, SUMMARY)
    for token in tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"]):
        assert ids.count(token) == plain.count(token) == 2


def test_a_chats_summary_is_read_back_as_its_text(kind):
    """Decoding a summary's tokens after a chat template gives the summary."""
    tokenizer = copy.deepcopy(kind)
    tokenizer.chat_template = TEMPLATES["words"]
    text = RunningText.of(tokenizer, Prompt("", chat=True))
    assert [to_text(tokenizer, ids) for ids in text.summary_ids([SUMMARY, "No."])] == [SUMMARY, "No."]


def test_a_chat_template_that_writes_the_date_writes_the_same_every_day():
    """Ids do not depend on the day: the template gets a fixed date, in whatever form it asks for it."""
    template = "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }}\n" + TEMPLATES["words"]
    frame = frame_of(Prompt("", chat=True), chatting("bytes", template))
    assert frame.opening == "26 Jul 2024 2024-07-26\n<|user|>\n"


@pytest.mark.parametrize(
    "reach",
    ["''.__class__.__mro__", "messages.__class__.__base__", "messages.append(1)", "cycler.__init__.__globals__"],
)
def test_a_chat_template_is_rendered_in_a_sandbox_and_only_when_asked(reach):
    """A template that accesses Python is refused, and one that no prompt asks for is not rendered."""
    tokenizer = chatting("bytes", "{{ " + reach + " }}" + TEMPLATES["words"])
    assert frame_of(Prompt("x"), tokenizer) == Frame("", "x")
    with pytest.raises(ModelError, match="chat template fails"):
        frame_of(Prompt("x", chat=True), tokenizer)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template. Set prompt.chat = false"),
        ({"tool_use": TEMPLATES["words"]}, "multiple chat templates"),
        ("{{ raise_exception('only one turn') }}", "fails: only one turn. Set prompt.chat = false"),
        ("{% for m in messages %}{{ m['content'] ", "fails: .*"),
        ("{{ messages[0]['content'] }}", "does not write the user's and the assistant's text once each"),
        ("{% for m in messages %}{{ m['content'] * 2 }}{% endfor %}", "once each, in this order"),
        ("{{ messages[1]['content'] + messages[0]['content'] }}", "once each, in this order"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_message(template, message):
    """A missing template, a failing one, and one that cannot frame a document and a summary are refused."""
    with pytest.raises(ModelError, match=message):
        frame_of(Prompt("\n\nTL;DR:", chat=True), chatting("bytes", template))


def backtracking(model: models.BPE) -> PreTrainedTokenizerFast:
    """A tokenizer whose pattern backtracks exponentially on a run of one letter."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def test_a_panic_of_native_code_is_one_message(capfd):
    """If native code panics on a pattern, the result is a ModelError, and no trace reaches the terminal."""
    tokenizer = backtracking(models.BPE({"a": 0, "b": 1, "</s>": 2}, []))
    with pytest.raises(ModelError, match="fails on a text"):
        encode(["a" * 60 + "b"] * 3, tokenizer)
    assert capfd.readouterr().err == ""


def test_other_errors_and_words_pass(capfd):
    """Errors other than panics are raised unchanged, and other output to standard error is shown."""
    with pytest.raises(ZeroDivisionError), native_failures():
        os.write(2, b"said\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "said\n" and not is_panic(ZeroDivisionError())
