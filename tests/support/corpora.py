"""A byte tokenizer, in-memory data sets, and corpora made from them."""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from triptych.config.schema import Limits, Split
from triptych.contracts import Dataset, Example
from triptych.corpus.prepare import Corpus, prepare
from triptych.models.prompts import Prompt

EOS = 256
SEPARATOR = "\n\nTL;DR:"  # eight tokens, one per byte


def byte_tokenizer(bos: str | None = None, eos: str | None = "<eos>", after: str = "") -> PreTrainedTokenizerFast:
    """One token per byte, so that lengths can be worked out by hand; `bos` is put before every text, `after` after
    it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, bos_token=bos)
    specials = [(token, tokenizer.convert_tokens_to_ids(token)) for token in {bos, eos} if token]
    layout = processors.TemplateProcessing(single=f"{bos or ''} $A{after}".strip(), special_tokens=specials)
    tokenizer.backend_tokenizer.post_processor = layout
    return tokenizer


class Memory(Dataset):
    """Examples kept in memory."""

    pairs: dict[str, list[tuple[str, str]]]
    version: str = "1"

    def splits(self) -> tuple[str, ...]:
        return tuple(self.pairs)

    def examples(self, split: str) -> Iterator[Example]:
        for row, (document, summary) in enumerate(self.pairs[split], 1):
            yield Example(f"{split}-{row}", document, summary)

    def fingerprint(self) -> str:
        return self.version


def make(
    cache: Path,
    dataset: Dataset | dict,
    tokenizer=None,
    *,
    split=None,
    window=None,
    reserved=0,
    new_tokens=1,
    vocabulary=10**6,
    most=10**9,
    separator=SEPARATOR,
    prompt=None,
    **limits,
) -> Corpus:
    everything = {"train_documents": 0, "validation_documents": 0, "test_documents": 0, "document_tokens": 64}
    return prepare(
        dataset if isinstance(dataset, Dataset) else Memory(pairs=dataset),
        tokenizer or byte_tokenizer(),
        source="memory",
        limits=Limits(**{**everything, "summary_tokens": 32, **limits}),
        split=split or Split(),
        prompt=prompt or Prompt(separator),
        window=window,
        reserved=reserved,
        new_tokens=new_tokens,
        vocabulary_size=vocabulary,
        cache=cache,
        max_cache_bytes=most,
    )
