"""Settings with which an export serves in other programs, and its scores by them next to the run's own decoding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from triptych.analysis.inference import sample_of
from triptych.contracts import Metric
from triptych.corpus.prepare import Corpus
from triptych.engine.generation.decoding import DecodingPlan
from triptych.errors import InputError
from triptych.results.bundled import predictions_file, record_folder
from triptych.results.reading import read_finished, read_predictions
from triptych.results.records import ROUGE_TYPES
from triptych.run import scoring
from triptych.run.corpus import load_corpus
from triptych.run.entries import suite_entries
from triptych.storage.cache_place import cache_folder
from triptych.use.summarizers import TrainedModel

RUN_SETTINGS = "run_generation_config.json"
GREEDY_SETTINGS = "generation_config.json"  # what other programs read unasked
SAMPLING_SETTINGS = "sampling_generation_config.json"
TEMPERATURE, TOP_P = 0.7, 0.9  # of the sampling settings
DEFAULT_MEASURED = 16  # test documents


@dataclass(frozen=True)
class SettingsScores:
    """How summaries by one kind of settings score, as means over the measured documents.

    Attributes:
        settings: the file of the settings in the export.
        rouge: F1 in 0-100, by the names of `ROUGE_TYPES`.
        words: of a summary.
        repeated_trigrams: share of a summary's trigrams that occurred earlier in it.
        at_cap: share of the summaries that have as many tokens as they may have.
        gain: ROUGE-1 minus that of the run's own decoding on the same documents, with the 95% interval; None for the
            run itself, and its ends None where no spread can be estimated.
        same: every summary is the run's own, word for word.
    """

    settings: str
    rouge: Mapping[str, float]
    words: float
    repeated_trigrams: float
    at_cap: float
    gain: tuple[float, float | None, float | None] | None = None
    same: bool = False


@dataclass(frozen=True)
class Measured:
    """What was measured of an export.

    Attributes:
        documents: how many test documents.
        same_tokens: of these, how many give the tokens of training when document and what is around it are one text.
        scores: of the run's own decoding first.
    """

    documents: int
    same_tokens: int
    scores: tuple[SettingsScores, ...]


@dataclass(frozen=True)
class _Written:
    """A summary, its scores by every metric, and whether it is as long as it may be."""

    text: str
    scores: Mapping[str, float]
    at_cap: bool


def settings_for_servers(plan: DecodingPlan, eos: int) -> dict[str, GenerationConfig]:
    """Greedy and sampling settings for a document that is given as text or token ids, by their file in the export.

    Without a ban on repeated phrases: given as token ids, the document's phrases would be banned too. Neither beams nor
    such bans exist in most servers.

    Args:
        plan: the decoding of the run's suite.
        eos: the token id that ends a summary.
    """
    ends = {"max_new_tokens": plan.max_new_tokens, "eos_token_id": eos, "pad_token_id": eos}
    if plan.min_new_tokens:
        ends["min_new_tokens"] = plan.min_new_tokens
    return {
        GREEDY_SETTINGS: GenerationConfig(do_sample=False, **ends),
        SAMPLING_SETTINGS: GenerationConfig(do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0, **ends),
    }


def measure(
    trained: TrainedModel,
    exported: PreTrainedModel,
    run: Path,
    most: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measured | str:
    """Let an exported model summarize test documents of its run by every kind of settings, from token ids.

    Args:
        trained: the run.
        exported: what was exported, as transformers loads it.
        run: the run's folder.
        most: how many documents, evenly over the test split; 0: nothing is measured.
        progress: called with `(summaries written, summaries in all)`.

    Returns:
        The scores, or the reason why there are none.
    """
    if most < 1:
        return "it was not asked for"
    recorded = record_folder(run)
    if not (recorded / "record.json").is_file():
        return "the adapter came without a run"
    record = read_finished(recorded)
    try:
        corpus = load_corpus(trained.suite, suite_entries(trained.suite), trained.base, cache_folder())
        counted = record.rouge.language if record.rouge else None
        language = counted or scoring.choose_language(trained.suite, corpus).name
    except InputError:
        return "the documents are no longer where the run read them"
    if record.data is None or corpus.data.fingerprint != record.data.fingerprint:
        return "the documents are not those of the run any more"
    total = len(corpus.test)
    chosen = [place * total // min(most, total) for place in range(min(most, total))]
    texts = [corpus.test.document(place) for place in chosen]
    prompts = _prompts(texts, trained)
    judge = _Judge(corpus, chosen, scoring.metrics(language, scoring.ALWAYS), trained.decoding.max_new_tokens)
    offered = settings_for_servers(trained.decoding, trained.template.eos_id)
    found = {RUN_SETTINGS: _by_the_run(trained, run, judge, texts)}
    count = len(chosen) * len(offered)
    for name, settings in offered.items():
        before = len(chosen) * (len(found) - 1)
        written: dict[int, list[int]] = {}
        try:
            for index, ids in write_summaries(exported, prompts, settings, trained.decoding.batch_size):
                written[index] = ids
                progress(before + len(written), count)
        except (ValueError, NotImplementedError) as error:  # what transformers refuses with
            return f"transformers refused, {' '.join(str(error).split())[:300].rstrip('.')}"
        found[name] = [
            judge(index, scoring.to_text(trained.base.tokenizer, written[index]), len(written[index]))
            for index in range(len(chosen))
        ]
    same = sum(_same_tokens(prompt, trained) for prompt in prompts)
    return Measured(len(chosen), same, tuple(_means(name, rows, found[RUN_SETTINGS]) for name, rows in found.items()))


def _prompts(texts: Sequence[str], trained: TrainedModel) -> list[list[int]]:
    """Token ids of prefix, document and separator, as the model was trained to read them."""
    template, longest = trained.template, trained.max_document_tokens
    encoded = trained.text.document_ids(texts)
    return [[*template.prefix_ids, *ids[:longest], *template.separator_ids] for ids in encoded]


def _same_tokens(prompt: list[int], trained: TrainedModel) -> bool:
    """Whether a server that is given the prompt as one text reads the tokens of training."""
    tokenizer, template = trained.base.tokenizer, trained.template
    document = prompt[len(template.prefix_ids) : len(prompt) - len(template.separator_ids)]
    frame = trained.text.frame
    opening = frame.opening.removesuffix(trained.text.document_space)  # which is part of the document's ids
    text = opening + str(tokenizer.decode(document)) + frame.middle
    return list(tokenizer(text, add_special_tokens=not frame.chat, verbose=False)["input_ids"]) == prompt


def _by_the_run(trained: TrainedModel, run: Path, judge: "_Judge", texts: Sequence[str]) -> list[_Written]:
    """The run's own summaries: those that it stored, or where they are missing, written again."""
    file = predictions_file(run)
    if file.is_file():
        stored = read_predictions(file)
        return [_Written(line.prediction, line.scores, line.at_cap) for line in map(stored.__getitem__, judge.chosen)]
    again = dict(trained.stream(texts))
    return [judge(index, again[index].text, again[index].num_tokens or 0) for index in range(len(texts))]


@dataclass(frozen=True)
class _Judge:
    """Scores summaries of chosen test documents.

    Attributes:
        corpus: the run's documents.
        chosen: places in its test split.
        metrics: what scores, by name.
        cap: the most tokens that a summary may have.
    """

    corpus: Corpus
    chosen: Sequence[int]
    metrics: Mapping[str, Metric]
    cap: int

    def __call__(self, index: int, text: str, num_tokens: int) -> _Written:
        """The scores of a summary of the chosen document `index`."""
        test, place = self.corpus.test, self.chosen[index]
        scores = scoring.score_text(self.metrics, text, test.reference(place), test.document(place))
        return _Written(text, scores, num_tokens >= self.cap)


def _means(name: str, rows: Sequence[_Written], own: Sequence[_Written]) -> SettingsScores:
    def mean(score: str) -> float:
        return float(np.mean([row.scores[score] for row in rows]))

    gain = None
    if name != RUN_SETTINGS:
        gains = np.array([[row.scores["rouge1"] - base.scores["rouge1"] for row, base in zip(rows, own, strict=True)]])
        sample = sample_of(gains, (-100.0, 100.0))
        gain = (sample.mean, *sample.interval())
    return SettingsScores(
        name,
        {kind: mean(kind) for kind in ROUGE_TYPES},
        mean("prediction_words"),
        mean("repeated_trigrams"),
        float(np.mean([row.at_cap for row in rows])),
        gain,
        name != RUN_SETTINGS
        and all(row.text.split() == base.text.split() for row, base in zip(rows, own, strict=True)),
    )


@torch.no_grad()
def write_summaries(
    model: PreTrainedModel, prompts: Sequence[list[int]], settings: GenerationConfig, batch_size: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield `(index, new token ids)` of prompts that are given as token ids, the longest first; chance has seed 0.

    Args:
        model: of transformers, in eval mode.
        prompts: token ids of each.
        settings: for `generate`.
        batch_size: prompts that are padded, on the left, to one length.
    """
    eos = int(settings.eos_token_id)  # type: ignore[arg-type]
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            longest = len(prompts[batch[0]])
            ids = torch.full((len(batch), longest), eos)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
                mask[row, longest - len(prompts[index]) :] = 1
            ids, mask = ids.to(model.device), mask.to(model.device)
            new = model.generate(ids, attention_mask=mask, generation_config=settings)[:, longest:]  # type: ignore
            for index, row_ids in zip(batch, new.tolist(), strict=True):
                yield index, row_ids[: row_ids.index(eos)] if eos in row_ids else row_ids
