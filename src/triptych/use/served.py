"""Generation settings of an export for other programs, and its scores with them next to the run's own decoding."""

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
GREEDY_SETTINGS = "generation_config.json"  # what other programs read by default
SAMPLING_SETTINGS = "sampling_generation_config.json"
TEMPERATURE, TOP_P = 0.7, 0.9  # of the sampling settings
DEFAULT_MEASURED = 16  # test documents


@dataclass(frozen=True)
class SettingsScores:
    """Scores of summaries with one kind of settings, as means over the measured documents.

    Attributes:
        settings: file of the settings in the export.
        rouge: F1 in 0-100, by `ROUGE_TYPES`.
        words: words of a summary.
        repeated_trigrams: share of a summary's trigrams that occurred earlier in it.
        at_cap: share of the summaries with the maximum number of tokens.
        gain: ROUGE-1 minus that of the run's own decoding on the same documents, with the 95% interval; None for the
            run itself. The ends of the interval are None if no spread can be estimated.
        same: whether every summary is the run's own, word for word.
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
    """What was measured for an export.

    Attributes:
        documents: number of test documents.
        same_tokens: how many of them have the tokens of training if given as one text with what is around them.
        scores: scores by settings, the run's own decoding first.
    """

    documents: int
    same_tokens: int
    scores: tuple[SettingsScores, ...]


@dataclass(frozen=True)
class _Written:
    """A summary, its scores by every metric, and whether it has the maximum length."""

    text: str
    scores: Mapping[str, float]
    at_cap: bool


def settings_for_servers(plan: DecodingPlan, eos: int) -> dict[str, GenerationConfig]:
    """Greedy and sampling settings for a document given as text or token ids, by their file in the export.

    They do not ban repeated phrases: with token ids, the document's phrases would be banned too. Most servers have
    neither beams nor such bans.

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
    """Summarize test documents of the run with an exported model, from token ids, with every kind of settings.

    Args:
        trained: the run.
        exported: the exported model, as loaded by transformers.
        run: the run's folder.
        most: maximum number of documents, evenly spaced over the test split; 0: measure nothing.
        progress: called with `(summaries written, total)`.

    Returns:
        The scores, or the reason for their absence.
    """
    if most < 1:
        return "it was not requested"
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
        return "the documents are no longer those of the run"
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
        except (ValueError, NotImplementedError) as error:  # raised by transformers if it refuses
            return f"transformers refused, {' '.join(str(error).split())[:300].rstrip('.')}"
        found[name] = [
            judge(index, scoring.to_text(trained.base.tokenizer, written[index]), len(written[index]))
            for index in range(len(chosen))
        ]
    same = sum(_same_tokens(prompt, trained) for prompt in prompts)
    return Measured(len(chosen), same, tuple(_means(name, rows, found[RUN_SETTINGS]) for name, rows in found.items()))


def _prompts(texts: Sequence[str], trained: TrainedModel) -> list[list[int]]:
    """Token ids of prefix, document and separator, as in training."""
    template, longest = trained.template, trained.max_document_tokens
    encoded = trained.text.document_ids(texts)
    return [[*template.prefix_ids, *ids[:longest], *template.separator_ids] for ids in encoded]


def _same_tokens(prompt: list[int], trained: TrainedModel) -> bool:
    """Whether a server that gets the prompt as one text reads the tokens of training."""
    tokenizer, template = trained.base.tokenizer, trained.template
    document = prompt[len(template.prefix_ids) : len(prompt) - len(template.separator_ids)]
    frame = trained.text.frame
    opening = frame.opening.removesuffix(trained.text.document_space)  # part of the document's ids
    text = opening + str(tokenizer.decode(document)) + frame.middle
    return list(tokenizer(text, add_special_tokens=not frame.chat, verbose=False)["input_ids"]) == prompt


def _by_the_run(trained: TrainedModel, run: Path, judge: "_Judge", texts: Sequence[str]) -> list[_Written]:
    """The run's own summaries: the stored ones, or new ones if they are missing."""
    file = predictions_file(run)
    if file.is_file():
        stored = read_predictions(file)
        return [_Written(line.prediction, line.scores, line.at_cap) for line in map(stored.__getitem__, judge.chosen)]
    again = dict(trained.stream(texts))
    return [judge(index, again[index].text, again[index].num_tokens or 0) for index in range(len(texts))]


@dataclass(frozen=True)
class _Judge:
    """Score summaries of chosen test documents.

    Attributes:
        corpus: the run's documents.
        chosen: positions in its test split.
        metrics: metrics by name.
        cap: maximum number of tokens of a summary.
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
    """Yield `(index, new token ids)` for prompts given as token ids, longest first; sampling has seed 0.

    Args:
        model: a transformers model in eval mode.
        prompts: token ids of each prompt.
        settings: settings for `generate`.
        batch_size: number of prompts padded together, on the left.
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
