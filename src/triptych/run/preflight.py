"""Check a suite, its model, data and device before any work begins; nothing is written to OUT."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel, Method
from triptych.corpus.prepare import Corpus
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import check_generation
from triptych.errors import ConfigError, ModelError
from triptych.machine import choose_device, choose_precision, is_emulated, start_machine
from triptych.measure.parameters import count_parameters
from triptych.models.base import BaseModel
from triptych.models.parts import declared_positions, is_recurrent
from triptych.models.prompts import has_chat_template
from triptych.results import layout
from triptych.results.records import Parameters
from triptych.run import scoring, tracking
from triptych.run.corpus import (
    corpus_of_entry,
    has_own_prompt,
    load_corpus,
    longest_prompt,
    open_data,
    prompt_of,
    reserved_positions,
)
from triptych.run.entries import SuiteEntry, runs_in_order, smaller_suite
from triptych.run.models import (
    ON_DEVICE,
    describe_parameters,
    misplaced_parameters,
    prepare_model,
    sketch_model,
    target_matrices,
)
from triptych.run.refusals import refuse_sharding, refuse_to_cut, refuse_trained_weights
from triptych.text import languages


@dataclass
class CheckedSuite:
    """A suite that can be run, with its documents prepared.

    Attributes:
        suite: the resolved suite.
        entries: all its entries.
        base: its base model.
        corpus: its documents, tokenized.
        parameters: parameter counts by label, for entries with a model.
        language: the language of the summaries.
        targets: by label, the last parts of the names of the matrices that the method adapts.
        emulated: the precision if the device has no instructions for it; otherwise empty.
        misplaced: by label, parameters that the method does not create on the model's device.
        asked: by label, the documents of entries with their own prompt.
        scaled: the suites of a data-size curve, by number of training documents.
    """

    suite: Suite
    entries: list[SuiteEntry]
    base: BaseModel
    corpus: Corpus
    parameters: dict[str, Parameters]
    language: languages.Language
    targets: dict[str, tuple[str, ...]]
    emulated: str = ""
    misplaced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: dict[str, Corpus] = field(default_factory=dict)
    scaled: dict[int, "CheckedSuite"] = field(default_factory=dict)

    def corpus_of(self, entry: SuiteEntry) -> Corpus:
        """The documents with an entry's prompt."""
        return self.asked.get(entry.label, self.corpus)

    def by_folder(self, out: Path) -> dict[Path, "CheckedSuite"]:
        """This suite and those of its data-size curve, by results folder.

        Args:
            out: this suite's results folder.
        """
        return {out: self} | {layout.scaled_folder(out, size): smaller for size, smaller in self.scaled.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on unused features of the model, slow precision, and methods that cannot be measured fully."""
        return (
            *self._of_chat,
            *self._of_precision,
            *(_of_device(label, names) for label, names in self.misplaced.items()),
        )

    @property
    def _of_chat(self) -> tuple[str, ...]:
        """A note if a chat template is left unused."""
        asked = [prompt_of(self.suite), *(prompt_of(self.suite, entry) for entry in self.entries)]
        if not has_chat_template(self.base.tokenizer) or any(prompt.chat for prompt in asked):
            return ()
        return (
            f"{self.suite.model} has a chat template, and no method uses it: a model that was tuned to follow "
            "instructions is then not asked as it was trained. [prompt] chat = true uses it for every method; "
            '[method.untuned-chat] kind = "untuned", chat = true for a further method without training.',
        )

    @property
    def _of_precision(self) -> tuple[str, ...]:
        """A note if the device is slow in the requested precision."""
        if not self.emulated:
            return ()
        return (
            f"training.precision = {self.emulated}: this device has no instructions for it and emulates it, which is "
            "usually several times as slow as fp32.",
        )

    @property
    def runs(self) -> list[tuple[SuiteEntry, int]]:
        """The runs in order, as entry and seed."""
        return runs_in_order(self.suite, self.entries)


def check_suite(
    suite: Suite, entries: Sequence[SuiteEntry], device: str | None, cache: Path, only: SuiteEntry | None = None
) -> CheckedSuite:
    """Check that model, data, device and every entry's options fit together.

    Args:
        suite: the resolved suite.
        entries: all its entries; truncation depends on all of them.
        device: cpu, cuda or mps; None: the best available.
        cache: folder of prepared data.
        only: the only entry to run and check; None: every entry.

    Raises:
        InputError: something does not fit; the message says what to do.
    """
    tracking.check_tracker(suite)
    chosen_device = choose_device(device)
    precision = choose_precision(suite.training.precision, chosen_device)
    refuse_sharding(suite, precision)
    open_data(suite)  # report a missing folder before any other problem of data and model
    base = BaseModel.of(suite)
    _check_context_length(suite, entries, base)
    base.check_quantization()
    checked = list(entries) if only is None else [only]
    adapted = {entry.label: _sketch(base, entry) for entry in checked if isinstance(entry.plugin, Method)}
    refuse_trained_weights(base, adapted)
    refuse_to_cut(suite, adapted)
    structure = base.structure()
    size = count_parameters(structure).total
    parameters = {label: describe_parameters(each, size) for label, each in adapted.items()}
    targets = {label: names for label, each in adapted.items() if (names := target_matrices(each))}
    misplaced = {label: names for label, each in adapted.items() if (names := misplaced_parameters(each))}
    if adapted:
        base.check_weights()
    corpus = load_corpus(suite, entries, base, cache)
    asked = {
        entry.label: corpus_of_entry(suite, entry, base, corpus, cache)
        for entry in checked
        if has_own_prompt(suite, entry)
    }
    language = scoring.choose_language(suite, corpus)
    if is_recurrent(structure):
        _try_generating(suite, checked, base, corpus, device)
    scaled = {}
    for number in suite.scaling.train_documents:
        if number >= len(corpus.train):
            raise ConfigError(
                f"scaling.train_documents has {number:,}, but the suite trains on {len(corpus.train):,} documents, "
                "which is already the last point of the curve: give smaller numbers."
            )
        smaller = smaller_suite(suite, entries, number)
        if only is None or only.trains:
            scaled[number] = check_suite(smaller, [each for each in entries if each.trains], device, cache, only)
            _refuse_other_documents(number, corpus, scaled[number].corpus)
    emulated = precision if is_emulated(precision, chosen_device) else ""
    return CheckedSuite(
        suite, list(entries), base, corpus, parameters, language, targets, emulated, misplaced, asked, scaled
    )


def _refuse_other_documents(number: int, corpus: Corpus, smaller: Corpus) -> None:
    """Make sure that a point of the data-size curve has the whole suite's validation and test documents, cut alike."""
    for split in ("validation", "test"):
        if smaller.data.splits[split] != corpus.data.splits[split]:
            raise ConfigError(
                f"scaling.train_documents: on {number:,} documents, other {split} documents fit into the model's "
                "context, or more of them, since only methods that train are run there and another method's prompt is "
                "longer. Shorten that prompt, leave that method out, or set limits.document_tokens lower."
            )


def _of_device(label: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"{label} makes {names[0]}{more} on a device of its own: its FLOPs cannot be counted, and on a GPU it fails. "
        f"{ON_DEVICE}"
    )


@contextmanager
def temporary_cache() -> Iterator[Path]:
    """A temporary folder for the prepared data of a dry run."""
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        yield Path(folder)


def _sketch(base: BaseModel, entry: SuiteEntry) -> AdaptedModel:
    """The model without weights, changed by an entry's method.

    Raises:
        ConfigError: the options do not fit the model.
        ModelError: the method does not support this family.
    """
    assert isinstance(entry.plugin, Method)
    try:
        sketch = sketch_model(base, entry.plugin)
    except ConfigError as error:
        raise ConfigError(f"[method.{entry.label}] {error}") from None
    except (AttributeError, NotImplementedError) as error:
        structure = base.structure()
        if not is_recurrent(structure):
            raise
        raise ModelError(
            f"[method.{entry.label}] {type(structure).__name__} cannot be adapted this way ({error}): leave this "
            "method out."
        ) from error
    if entry.trains and not sketch.trained_parameters():
        raise ConfigError(
            f"[method.{entry.label}] It trains 0 parameters: after adapt(), trained parameters must require "
            "a gradient, for example by requires_grad_(True). A method that trains nothing declares it in its class: "
            "trains: ClassVar[bool] = False."
        )
    return sketch


def _try_generating(
    suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel, corpus: Corpus, device: str | None
) -> None:
    """Generate a few tokens with each method: for a recurrent family, the configuration does not show what fails.

    Raises:
        ModelError: a method fails; the message has its label.
    """
    machine = start_machine(device, suite.training.precision)
    decoding = DecodingPlan(**suite.decoding.model_dump())
    for entry in entries:
        if isinstance(entry.plugin, Method):
            model = prepare_model(base, entry.plugin, corpus, suite.seeds[0], machine).to_machine()
            try:
                check_generation(model, decoding)
            except ModelError as error:
                raise ModelError(f"[method.{entry.label}] {error}") from error


def _check_context_length(suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel) -> None:
    """Check that virtual tokens, a document and a summary fit into the model's context together."""
    around = longest_prompt(suite, entries, base)
    length, virtual = base.context_length, reserved_positions(entries)
    new = max(suite.limits.summary_tokens, suite.decoding.max_new_tokens)
    needed = virtual + suite.limits.document_tokens + new + around
    if length is None or needed <= length:
        return
    room = length - virtual - new - around
    example = f", for example --set limits.document_tokens={room}" if room > 0 else ""
    fitting = f" The limits of --preset demo fit {suite.model}." if base.is_synthetic else ""
    most = declared_positions(base.config)
    reason = f" that are safe to use of its {most}: beyond them LongRoPE reads every document of a batch differently"
    raise ConfigError(
        f"{virtual} virtual + limits.document_tokens {suite.limits.document_tokens} + {new} summary + "
        f"{around} prefix, separator and EOS tokens make {needed} positions, and the model has "
        f"{length}{reason if most != length else ''}: lower limits.document_tokens, limits.summary_tokens, "
        f"decoding.max_new_tokens or num_virtual_tokens{example}.{fitting}"
    )
