"""Token ids of separators and summaries, on tokenizers of several kinds that are made here."""

import os

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.corpora import Memory, byte_tokenizer, make
from triptych.corpus.sequence import Template, encode_documents
from triptych.errors import ModelError
from triptych.models.tokens import RunningText, encode, is_panic, native_failures
from triptych.run.scoring import to_text

TEXTS = [
    "The council met on Monday and voted for a new bridge. Council votes for a bridge.",
    "A storm hit the coast. Two towns lost power; nobody was hurt. Storm cuts power in two towns.",
    "Summary: in short, the mayor says no. In brief: No.\n\n TL;DR =>",
] * 20
DOCUMENT, SUMMARY = "The council met on Monday.", "Council votes for a bridge."
SEPARATORS = ["\n\nTL;DR:", "\nIn short:", " =>", "Summary:", "\n\n"]


def finished(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with BOS before every text and EOS."""
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama(scheme: str) -> PreTrainedTokenizerFast:
    """SentencePiece-like BPE: `prepend` as in the files of Llama 2, else Metaspace with that scheme."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if scheme == "prepend":
        backend.normalizer = spaces
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # while it is trained, to be quick
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=True)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False))
    if scheme == "prepend":
        backend.pre_tokenizer = None
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return finished(backend)


def unigram() -> PreTrainedTokenizerFast:
    """SentencePiece's own kind, with white space normalised, as in T5 and XGLM."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>"]
    backend.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    return finished(backend)


def bytes_with_spaces() -> PreTrainedTokenizerFast:
    """GPT-2's kind with a space put before every text, as in some fine-tuned models."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return finished(backend)


KINDS = {
    "prepend": lambda: llama("prepend"),
    "metaspace first": lambda: llama("first"),
    "metaspace always": lambda: llama("always"),
    "metaspace never": lambda: llama("never"),
    "unigram": unigram,
    "bytes with spaces": bytes_with_spaces,
    "bytes": lambda: byte_tokenizer("<s>"),
}


@pytest.fixture(params=list(KINDS), scope="module")
def kind(request) -> PreTrainedTokenizerFast:
    """Each kind in turn."""
    return KINDS[request.param]()


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_sequence_has_the_ids_of_the_whole_text(kind, separator):
    """Prefix, document, separator and summary, tokenised apart, are the ids of the text that they make together."""
    if separator == "Summary:" and kind.backend_tokenizer.pre_tokenizer is not None:
        pytest.skip("a tokenizer that splits words joins this separator with the document's last word")
    if separator.isspace() and "NFKC" in str(kind.backend_tokenizer.normalizer):
        pytest.skip("this tokenizer makes one blank of any white space: the separator and the summary's blank are one")
    template = Template.of(kind, separator)
    apart = [
        *template.prefix_ids,
        *encode_documents([DOCUMENT], kind)[0],
        *template.separator_ids,
        *RunningText(kind, separator).summary_ids([SUMMARY])[0],
    ]
    whole = kind(f"{DOCUMENT}{separator} {SUMMARY}").input_ids
    assert kind.convert_ids_to_tokens(apart) == kind.convert_ids_to_tokens(whole)


def test_a_summarys_tokens_are_read_back_as_its_text(kind):
    """What a summary was tokenised to gives the summary, without a blank before it."""
    summaries = [SUMMARY, "No.", "Two towns lost power."]
    assert [to_text(kind, ids) for ids in RunningText(kind, "\n\nTL;DR:").summary_ids(summaries)] == summaries


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
    """Where running text gives the ids of the text alone, those are taken, whatever the separator begins with."""
    for separator in SEPARATORS:
        text = RunningText(tokenizer, separator)
        assert text.separator_ids == tuple(tokenizer(separator).input_ids) and text.summary_lead is None
        assert text.summary_ids([SUMMARY]) == [tokenizer(" " + SUMMARY).input_ids]


def test_special_tokens_may_be_named_in_a_separator_and_nowhere_else():
    """A separator's special tokens are those tokens; in a summary they are only text."""
    tokenizer = llama("prepend")
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|assistant|>", special=True)]})
    special = tokenizer.convert_tokens_to_ids("<|assistant|>")
    text = RunningText(tokenizer, "\n<|assistant|>")
    assert text.separator_ids[-1] == special
    assert special not in text.summary_ids(["a <|assistant|> b"])[0]
    assert RunningText(tokenizer, "").separator_ids == () and RunningText(tokenizer, "").summary_ids([]) == []


def backtracking(model: models.BPE) -> PreTrainedTokenizerFast:
    """A tokenizer whose pattern takes exponentially many steps on a run of one letter."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def test_a_panic_of_native_code_is_one_message(capfd):
    """A pattern that the native code gives up on is a ModelError, and no trace of it reaches the terminal."""
    tokenizer = backtracking(models.BPE({"a": 0, "b": 1, "</s>": 2}, []))
    with pytest.raises(ModelError, match="fails on a text"):
        encode(["a" * 60 + "b"] * 3, tokenizer)
    assert capfd.readouterr().err == ""


def test_other_errors_and_words_pass(capfd):
    """What is no panic is raised as it is, and what is written to standard error meanwhile is shown."""
    with pytest.raises(ZeroDivisionError), native_failures():
        os.write(2, b"said\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "said\n" and not is_panic(ZeroDivisionError())
