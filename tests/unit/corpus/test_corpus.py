"""The corpus: what happens to every pair, how a sequence is laid out, and when the cache can be trusted."""

import json
import os
import random
import shutil
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pydantic import Field

from support.corpora import EOS, SEPARATOR, Memory, byte_tokenizer, make
from triptych.config.schema import Split
from triptych.contracts import SPLITS, Example
from triptych.corpus.cutting import count_cut
from triptych.corpus.prepare import Corpus
from triptych.corpus.sequence import Template
from triptych.datasets.tables import Tables
from triptych.errors import ConfigError, DataError, ModelError
from triptych.models.prompts import Prompt
from triptych.models.tokens import RunningText, encode


class Watched(Memory):
    """Calls back whenever a split is read."""

    on_read: Callable[[], None] = Field(exclude=True)

    def examples(self, split: str) -> Iterator[Example]:
        self.on_read()
        return super().examples(split)


def stories(name: str, count: int) -> list[tuple[str, str]]:
    return [(f"{name} document {i}", f"{name} summary {i}") for i in range(count)]


def three(train: int = 6, validation: int = 3, test: int = 3) -> dict[str, list[tuple[str, str]]]:
    return {"train": stories("t", train), "validation": stories("v", validation), "test": stories("e", test)}


def documents(split) -> list[str]:
    return [split.document(i) for i in range(len(split))]


# The sequence


def test_layout_of_a_pair(tmp_path):
    """A document has its own ids, cut at the limit; a summary has those of a space and the summary, without EOS."""
    tokenizer = byte_tokenizer()
    pairs = {**three(), "train": [("  A document that is too long.\n", " Two\nlines \n")]}
    corpus = make(tmp_path, pairs, tokenizer, document_tokens=10)
    pair = corpus.train[0]
    assert tokenizer.decode(pair.document_ids) == "A document" and tokenizer.decode(pair.summary_ids) == " Two\nlines"
    assert pair.document_ids.dtype == pair.summary_ids.dtype == np.int32 and EOS not in pair.summary_ids
    assert corpus.train.document(0) == "A document that is too long." and corpus.train.reference(0) == "Two\nlines"
    assert corpus.data.splits["train"].truncated == 1
    assert corpus.template == Template((), tuple(tokenizer(SEPARATOR)["input_ids"]), EOS)


def test_special_tokens_in_a_text_are_text(tmp_path):
    """An EOS spelled out in a document or a summary is plain text, never the token that ends a summary."""
    corpus = make(tmp_path, {**three(), "train": [("before <eos> after", "one <eos> two")]})
    assert EOS not in corpus.train[0].document_ids and EOS not in corpus.train[0].summary_ids
    assert corpus.train[0].document_ids.tolist() == encode(["before <eos> after"], byte_tokenizer())[0]


@pytest.mark.parametrize("bos", [None, "<s>", "<eos>"])
@pytest.mark.parametrize("after", ["", " <eos>"])
def test_prefix_is_what_the_tokenizer_puts_first(bos, after):
    """The prefix is what the tokenizer puts before a text, even if BOS is EOS; what it puts after is dropped."""
    tokenizer = byte_tokenizer(bos, after=after)
    template = Template.of(RunningText.of(tokenizer, Prompt(SEPARATOR)))
    assert template.prefix_ids == ((tokenizer.bos_token_id,) if bos else ())
    ends = [tokenizer.eos_token_id] if after else []
    assert tokenizer(SEPARATOR)["input_ids"] == [*template.prefix_ids, *template.separator_ids, *ends]


def test_a_tokenizer_without_eos_is_refused():
    """A tokenizer without an EOS token is refused: no summary could end."""
    with pytest.raises(ModelError, match="no EOS token"):
        Template.of(RunningText.of(byte_tokenizer(eos=None), Prompt(SEPARATOR)))


def test_split_is_a_sequence(tmp_path):
    """A split counts, slices and ends like a sequence, over any number of Arrow batches."""
    train = make(tmp_path, three(train=1200)).train
    assert len(train) == len(train.ids) == 1200 and len(train._batches) > 1
    assert [pair.id for pair in train] == train.ids == [f"train-{i}" for i in range(1, 1201)]
    assert train[-1].id == "train-1200" and [pair.id for pair in train[510:514]] == train.ids[510:514]
    with pytest.raises(IndexError):
        train[1200]


# Cleaning


def test_every_dropped_pair_is_counted(tmp_path):
    """Empty, duplicate, over-long and unsampled pairs are counted separately, and with the used pairs add up to all
    pairs read."""
    pairs = {
        "train": [
            ("one", "s"),
            ("two", ""),
            ("  ", "s"),
            ("SHARED  with\ntest", "s"),
            ("shared with validation", "s"),
            ("long", "x" * 32),
            ("twice", "s"),
            ("twice", "other"),
            ("three", "x" * 31),
        ],
        "validation": [("shared with validation", "s"), ("v", "x" * 200), ("Shared with test", "s"), ("w", "s")],
        "test": [("shared with test", "s"), ("e", "s"), ("", "s")],
    }
    corpus = make(tmp_path, pairs, train_documents=3, summary_tokens=32)
    train, validation, test = (corpus.data.splits[name] for name in SPLITS)
    assert (train.read, train.dropped_empty, train.dropped_duplicate, train.dropped_long_summary) == (9, 2, 2, 1)
    assert (train.not_sampled, train.used, train.requested) == (1, 3, 3)
    assert (validation.read, validation.dropped_duplicate, validation.used, validation.requested) == (4, 1, 3, 0)
    assert (test.read, test.dropped_empty, test.dropped_duplicate, test.used) == (3, 1, 0, 2)
    for counts in (train, validation, test):
        dropped = counts.dropped_empty + counts.dropped_duplicate + counts.dropped_long_summary
        assert counts.read == dropped + counts.not_sampled + counts.used
    assert len(corpus.validation[1].summary_ids) == 201  # evaluation pairs keep their whole summary


def test_test_and_training_share_no_document(tmp_path):
    """No training document is in validation or test, whatever its spacing and capitalization, sampled there or not."""
    pairs = three(train=40, validation=40, test=40)
    pairs["train"] += [
        (document.upper().replace(" ", "\n "), summary) for document, summary in pairs["test"] + pairs["validation"]
    ]
    corpus = make(tmp_path, pairs, validation_documents=5, test_documents=5)
    assert documents(corpus.train) == [document for document, _ in stories("t", 40)]
    assert corpus.data.splits["train"].dropped_duplicate == 80


def test_no_pair_left_is_told_with_the_counts(tmp_path):
    """A split with no pairs left is refused, with the counts that say why."""
    pairs = {**three(), "validation": [("", "s"), ("e document 0", "s")]}
    with pytest.raises(DataError, match=r"validation split: 2 read, 1 empty, 1 duplicates") as caught:
        make(tmp_path, pairs)
    assert "memory" in str(caught.value) and not list(tmp_path.glob("*"))


def test_no_training_split_is_told(tmp_path):
    """Data with only evaluation splits is refused."""
    with pytest.raises(DataError, match="no training split, only validation, test"):
        make(tmp_path, {name: stories(name, 3) for name in ("validation", "test")})


# The sample


def test_sample_does_not_depend_on_order_or_size(tmp_path):
    """The sample depends only on the texts: a shuffled file gives the same one, and a smaller sample is part of a
    larger, in file order."""
    pairs = three(train=200)
    chosen = documents(make(tmp_path / "a", pairs, train_documents=50).train)
    assert [d for d, _ in pairs["train"] if d in chosen] == chosen and len(chosen) == 50
    assert set(documents(make(tmp_path / "b", pairs, train_documents=20).train)) < set(chosen)
    random.Random(0).shuffle(pairs["train"])
    assert set(documents(make(tmp_path / "c", pairs, train_documents=50).train)) == set(chosen)
    numbers = [int(document.split()[-1]) for document in chosen]
    assert 70 < np.mean(numbers) < 130  # not the beginning of the file


def test_less_than_requested_is_all_there_is(tmp_path):
    """If there is less data than requested, all of it is used, and both numbers are in the record."""
    counts = make(tmp_path, three(train=6), train_documents=100).data.splits["train"]
    assert (counts.used, counts.requested, counts.not_sampled) == (6, 100, 0)


# The cut


def test_data_without_splits_is_cut(tmp_path):
    """Data in one piece is cut by document into the requested fractions, whatever the order; the record says so."""
    pairs = stories("s", 200)
    whole = make(tmp_path / "a", {"all": pairs})
    assert [whole.data.splits[name].used for name in SPLITS] == [160, 20, 20]
    assert (
        "no validation and no test" in whole.data.cut and "0.8" in whole.data.cut and "split.seed 0" in whole.data.cut
    )
    parts = [set(documents(getattr(whole, name))) for name in SPLITS]
    assert set.union(*parts) == {document for document, _ in pairs} and sum(map(len, parts)) == 200
    shuffled = make(tmp_path / "b", {"train": random.Random(1).sample(pairs, 200)})
    assert [set(documents(getattr(shuffled, name))) for name in SPLITS] == parts
    other = make(tmp_path / "c", {"all": pairs}, split=Split(seed=1, fractions=(0.5, 0.25, 0.25)))
    assert [other.data.splits[name].used for name in SPLITS] == [100, 50, 50]
    assert not set(documents(other.test)) >= parts[2]


def test_what_a_cut_gives_is_counted_without_a_model(tmp_path):
    """`list data` gives the number of pairs in each split: as many as are read from it when the data is cut."""
    pairs = [*stories("s", 100), *[("a copy", f"summary {i}") for i in range(30)], ("", "s"), ("d", " ")]
    for name, split in (("all", Split()), ("train", Split(seed=3, fractions=(0.5, 0.3, 0.2)))):
        corpus = make(tmp_path / name, {name: pairs}, split=split)
        counted = count_cut(Memory(pairs={name: pairs}), split, "mine")
        assert counted == {each: corpus.data.splits[each].read for each in SPLITS} and sum(counted.values()) == 132
    two = Memory(pairs={"train": stories("t", 90), "test": stories("e", 7)})
    assert count_cut(two, Split(), "mine") == {"train": 80, "validation": 10}
    assert count_cut(Memory(pairs=three()), Split(), "mine") == {}


def test_copies_of_a_document_stay_together(tmp_path):
    """All copies of a document fall into one split, and empty pairs are counted in training."""
    pairs = [(f"document {i % 20}", f"summary {i}") for i in range(60)] + [("", "s")] * 5
    corpus = make(tmp_path, {"all": pairs})
    assert sum(corpus.data.splits[name].used for name in SPLITS) == 60
    assert sum(corpus.data.splits[name].dropped_duplicate for name in SPLITS) == 0
    assert corpus.data.splits["train"].dropped_empty == 5


def test_a_handful_is_cut_too(tmp_path):
    """Four documents are enough for one each in validation and test; two are refused with the counts."""
    corpus = make(tmp_path, {"all": stories("s", 4)})
    assert [corpus.data.splits[name].used for name in SPLITS] == [2, 1, 1]
    with pytest.raises(DataError, match=r"no pair is left in the train split: 0 read.*\[split\]"):
        make(tmp_path / "two", {"all": stories("s", 2)})


@pytest.mark.parametrize(("there", "missing"), [("test", "validation"), ("validation", "test")])
def test_one_missing_split_is_cut_from_training(tmp_path, there, missing):
    """A missing evaluation split is cut from training, and the other is left unchanged."""
    corpus = make(tmp_path, {"train": stories("t", 90), there: stories("e", 7)})
    assert [corpus.data.splits[name].used for name in ("train", missing, there)] == [80, 10, 7]
    assert f"no {missing} split: its training split was cut" in corpus.data.cut


def test_nothing_is_cut_where_nothing_is_missing(tmp_path):
    """Data with all three splits keeps them, and the record mentions no cut."""
    corpus = make(tmp_path, three())
    assert corpus.data.cut is None
    assert [documents(getattr(corpus, name)) for name in SPLITS] == [
        [d for d, _ in pairs] for pairs in three().values()
    ]


# The window


def test_every_sequence_fits_into_the_window(tmp_path):
    """Prefix, virtual tokens, document, separator, summary and EOS fit; only the document is truncated, and this is
    counted."""
    pairs = {name: [(f"{name} {i} " + "d" * 90, "s" * i) for i in (1, 5, 20, 38, 39, 60)] for name in SPLITS}
    corpus = make(tmp_path, pairs, byte_tokenizer("<s>"), window=60, reserved=10, summary_tokens=20, document_tokens=30)
    for name in SPLITS:
        split, counts = getattr(corpus, name), corpus.data.splits[name]
        for pair in split:
            length = 1 + 10 + len(pair.document_ids) + 8 + len(pair.summary_ids) + 1
            assert length <= 60 and len(pair.document_ids) == min(30, 60 - 20 - len(pair.summary_ids))
        assert counts.truncated == counts.used
        # A summary of n bytes is n + 1 tokens. Training takes 20; evaluation leaves at least one for the document.
        assert (counts.used, counts.dropped_long_summary) == ((2, 4) if name == "train" else (4, 2))


def test_a_window_that_is_too_small_is_told_with_the_sum(tmp_path):
    """A window without room for a sequence is refused before anything is read, with the sum and the window."""
    unread = Watched(pairs=three(), on_read=lambda: pytest.fail("the data was read"))
    with pytest.raises(ConfigError, match=r"has 61 positions, but .* = 62 are needed") as caught:
        make(tmp_path, unread, byte_tokenizer("<s>"), window=61, reserved=19, summary_tokens=32)
    assert "limits.summary_tokens" in str(caught.value)
    make(tmp_path, three(), byte_tokenizer("<s>"), window=62, reserved=19, summary_tokens=32)


# Frequencies


def test_token_frequencies_are_counts_of_the_training_documents(tmp_path):
    """Frequencies equal a plain count over the truncated training documents."""
    corpus = make(tmp_path, three(train=700), document_tokens=9)
    counted = Counter(token for pair in corpus.train for token in pair.document_ids.tolist())
    assert dict(enumerate(corpus.token_frequencies(300).tolist())) == {i: counted[i] for i in range(300)}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("part", ["document", "summary"])
def test_an_id_beyond_the_vocabulary_is_told_wherever_it_is(tmp_path, split, part):
    """An id without a token embedding is refused before work, in any split, in documents and summaries."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["xyzzy"])
    pairs = three()
    pairs[split][1] = ("a document with xyzzy", "a summary") if part == "document" else ("a document", "a xyzzy")
    with pytest.raises(
        ModelError, match=f"makes the id 257 in the {split} split, but the model has 257 token embeddings"
    ):
        make(tmp_path, pairs, tokenizer, vocabulary=257)
    assert make(tmp_path, pairs, tokenizer, vocabulary=258).template.eos_id == EOS


def test_special_ids_beyond_the_vocabulary_are_told_before_anything_is_read(tmp_path):
    """EOS, separator and prefix need token embeddings too; without one, nothing is prepared."""
    for tokenizer, separator, named in (
        (byte_tokenizer(), SEPARATOR, "EOS token"),
        (byte_tokenizer("<s>", eos="a"), SEPARATOR, "puts before a text"),
        (byte_tokenizer(eos="a"), "\n<sep>", "the separator"),
    ):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<sep>"]})
        with pytest.raises(ModelError, match=f"{named}, but the model has 256 token embeddings"):
            make(tmp_path / "cache", three(), tokenizer, separator=separator, vocabulary=256)
    assert not (tmp_path / "cache").exists()


def test_what_is_read_to_generate_does_not_depend_on_the_reference(tmp_path):
    """Two equal documents are read alike whatever their references; the loss reads less of one with a long reference,
    and this is counted."""
    document = "0123456789" * 5
    pairs = {**three(), "test": [(document + "a", "short"), (document + "b", "a much longer reference")]}
    corpus = make(tmp_path, pairs, window=50, new_tokens=10, summary_tokens=12, document_tokens=31)
    assert [corpus.test.document_ids(i).size for i in range(2)] == [31, 31]
    assert {len(corpus.test[i].summary_ids): len(corpus.test[i].document_ids) for i in range(2)} == {
        6: 31,
        24: 50 - 9 - 24,
    }
    counts = corpus.data.splits["test"]
    assert (counts.truncated, counts.shortened_for_loss) == (2, 1)
    assert (corpus.data.splits["train"].truncated, corpus.data.splits["train"].shortened_for_loss) == (0, 0)


def test_the_token_fingerprint_is_of_what_is_read(tmp_path):
    """Another cut or tokenizer gives another token fingerprint, while the texts' fingerprint stays the same."""
    one = make(tmp_path, three(), document_tokens=20).data
    again = make(tmp_path / "elsewhere", three(), document_tokens=20).data
    shorter = make(tmp_path, three(), document_tokens=8).data
    assert one == again and one.fingerprint == shorter.fingerprint
    assert one.token_fingerprint != shorter.token_fingerprint


# The cache


def same(a: Corpus, b: Corpus) -> bool:
    pairs = [(x, y) for name in SPLITS for x, y in zip(getattr(a, name), getattr(b, name), strict=True)]
    equal = all(
        np.array_equal(x.document_ids, y.document_ids) and np.array_equal(x.summary_ids, y.summary_ids)
        for x, y in pairs
    )
    return equal and a.data == b.data and a.template == b.template


def test_the_cache_is_used_again(tmp_path):
    """A second call gives the same corpus without reading any example."""
    pairs = three()
    first = make(tmp_path, pairs)
    again = make(tmp_path, Watched(pairs=pairs, on_read=lambda: pytest.fail("the data was read")))
    assert same(first, again) and len(list(tmp_path.iterdir())) == 1


def test_notes_are_those_of_the_source_as_it_is_now(tmp_path):
    """The source's notes in the corpus are current even if everything else comes from the cache."""
    (tmp_path / "data").mkdir()
    for name, pairs in three().items():
        (tmp_path / "data" / f"{name}.jsonl").write_text(
            "".join(json.dumps({"document": document, "summary": summary}) + "\n" for document, summary in pairs)
        )
    data = Tables(path=tmp_path / "data")
    first = make(tmp_path / "cache", data)
    assert first.data.notes == [] and first.data.sentences() == []
    (tmp_path / "data" / "extra.csv").write_text("document,summary\na,b\n")
    second = make(tmp_path / "cache", data)
    assert "Not read: extra.csv" in second.data.notes[0]
    assert len([entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"window": 1024},
        {"reserved": 1},
        {"document_tokens": 5},
        {"train_documents": 2},
        {"split": Split(seed=1)},
        {"tokenizer": byte_tokenizer("<s>")},
        {"dataset": Memory(pairs=three(), version="2")},
    ],
)
def test_the_cache_depends_on_everything(tmp_path, change):
    """Everything that prepared data depends on is part of the cache key."""
    make(tmp_path, three())
    make(tmp_path, change.pop("dataset", three()), **change)
    assert len(list(tmp_path.iterdir())) == 2


def test_padding_set_by_others_does_not_matter(tmp_path):
    """A tokenizer that was since switched to padding and truncation finds its entry, and gives the same ids."""
    tokenizer = byte_tokenizer()
    first = make(tmp_path, three(), tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert same(first, make(tmp_path, three(), tokenizer)) and len(list(tmp_path.iterdir())) == 1
    shutil.rmtree(tmp_path)
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert same(first, make(tmp_path, three(), tokenizer))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "manifest", "schema"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    """An entry damaged in any way is discarded and made again, equal to the first."""
    first = make(tmp_path, three())
    entry = next(tmp_path.iterdir())
    file, manifest = entry / "train.arrow", entry / "manifest.json"
    content = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(content[:-50])
    elif damage == "flipped":
        position = content.index(b"document 3")
        file.write_bytes(content[:position] + b"X" + content[position + 1 :])
    elif damage == "missing":
        file.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "data": {"source": 1}}))
    again = make(tmp_path, three())
    assert same(first, again) and documents(again.train) == [document for document, _ in three()["train"]]


def test_two_at_a_time_agree(tmp_path):
    """If another process finishes the same entry first, both have the same corpus and nothing is left over."""
    pairs, others = three(), []

    def another() -> None:
        if not others:
            others.append(None)
            others.append(make(tmp_path, pairs))

    corpus = make(tmp_path, Watched(pairs=pairs, on_read=another))
    assert same(corpus, others[1]) and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", [lambda lines: [*lines, lines[0]], lambda lines: lines[::-1]])
def test_data_that_changes_meanwhile_is_refused(tmp_path, change):
    """Data that changes while being read is refused, and nothing is kept."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "all.jsonl"
    lines = [json.dumps({"document": d, "summary": s}) for d, s in stories("s", 30)]
    file.write_text("\n".join(lines))
    tables = Tables(path=file)

    class Growing(Watched):
        """Reads a table that is still being written."""

        def examples(self, split: str) -> Iterator[Example]:
            self.on_read()
            return tables.examples(split)

        def fingerprint(self) -> str:
            return tables.fingerprint()

    growing = Growing(pairs={"all": []}, on_read=lambda: file.write_text("\n".join(change(lines))))
    with pytest.raises(DataError, match="changed while it was read"):
        make(tmp_path / "cache", growing)
    assert not list((tmp_path / "cache").iterdir())


def test_the_oldest_entries_go_first(tmp_path):
    """Above the allowed size the least recently used entries are removed, never one in use."""
    entries = []
    for window in (100, 101, 102):
        make(tmp_path, three(), window=window)
        entries += [entry for entry in tmp_path.iterdir() if entry not in entries]
        os.utime(entries[-1] / "manifest.json", (window, window))
    size = sum(file.stat().st_size for file in entries[0].iterdir())
    make(tmp_path, three(), window=100, most=int(2.5 * size))  # the oldest, but now in use
    assert set(tmp_path.iterdir()) == {entries[0], entries[2]}
    make(tmp_path, three(), window=100, most=1)
    assert set(tmp_path.iterdir()) == {entries[0]}


def test_leftovers_of_dead_processes_go(tmp_path):
    """What a process left unfinished more than a day ago is removed; what may still be in use is not."""
    for name, age in (("building-old", 100_000), ("building-new", 10)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    make(tmp_path, three())
    assert not (tmp_path / "building-old").exists() and (tmp_path / "building-new").exists()


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    """A cache folder that cannot be created gives one clear message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in.*TRIPTYCH_CACHE"):
        make(tmp_path / "file" / "cache", three())


def test_the_fingerprint_is_of_the_content(tmp_path):
    """The record's fingerprint is the same wherever the data lies and in any file format, and changes with a text."""
    prints = []
    for place, ending, changed in (("a", "jsonl", ""), ("b", "json", ""), ("c", "jsonl", "!")):
        (tmp_path / place).mkdir()
        for name, pairs in three().items():
            rows = [json.dumps({"text": document, "summary": summary + changed}) for document, summary in pairs]
            (tmp_path / place / f"{name}.{ending}").write_text("\n".join(rows))
        prints.append(make(tmp_path / "cache", Tables(path=tmp_path / place)).data.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_memory_stays_bounded(tmp_path):
    """Preparing a sample takes memory for a batch and a few numbers per row, not for the data."""

    class Long(Memory):
        """Many long documents, generated as they are read."""

        def examples(self, split: str) -> Iterator[Example]:
            return (
                Example(f"{split}{i}", f"{split} {i} " + "long " * 2000, "s")
                for i in range(800 if split == "train" else 4)
            )

    tracemalloc.start()
    counts = make(tmp_path, Long(pairs=three()), train_documents=8).data.splits["train"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (counts.read, counts.used) == (800, 8) and peak < 5 * 2**20, peak  # the data is 8 MB
