"""Tokenizers of several kinds, trained here on a few sentences, and chat templates for them."""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.corpora import byte_tokenizer

TEXTS = [
    "The council met on Monday and voted for a new bridge. Council votes for a bridge.",
    "A storm hit the coast. Two towns lost power; nobody was hurt. Storm cuts power in two towns.",
    "Summary: in short, the mayor says no. In brief: No.\n\n TL;DR =>",
] * 20


def finished(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with an EOS token that puts BOS before every text."""
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama(scheme: str) -> PreTrainedTokenizerFast:
    """SentencePiece-like BPE: `prepend` as in Llama 2's files, else Metaspace with that scheme."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if scheme == "prepend":
        backend.normalizer = spaces
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # during training, for speed
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
    """SentencePiece's Unigram with normalized whitespace, as in T5 and XGLM."""
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


def turns(user: str, assistant: str, before: str = "") -> str:
    """A chat template from what it writes for a user's and an assistant's turn."""
    return (
        before
        + "{% for m in messages %}{% if m['role'] == 'user' %}"
        + user
        + "{% else %}"
        + assistant
        + "{% endif %}{% endfor %}"
    )


def alike(turn: str, before: str = "") -> str:
    """A chat template that writes both turns the same way."""
    return turns(turn, turn, before)


BOS = "{{ bos_token }}"
TEMPLATES = {
    "chatml": alike("{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"),
    "llama 2": turns("{{ '[INST] ' + m['content'] + ' [/INST]' }}", "{{ ' ' + m['content'] + '</s>' }}", BOS),
    "words": alike("{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"),
    "trimmed": alike("{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] | trim) + '<|im_end|>\n' }}", BOS),
    "nothing between": alike("{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}", BOS),
}
