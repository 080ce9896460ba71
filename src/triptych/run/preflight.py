"""Find before any work begins whatever is wrong with a suite, its model, data and device; nothing is written to OUT."""

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
    """A suite that can be carried out, its documents prepared.

    Attributes:
        suite: the resolved suite.
        entries: all its entries.
        base: its base model.
        corpus: its documents, tokenised.
        parameters: by label, for entries with a model.
        language: of the summaries.
        targets: by label, the name endings of the matrices that the method adapts.
        emulated: the precision, where the device has no instructions for it; else empty.
        misplaced: by label, parameters that the method does not make on the model's device.
        asked: by label, the documents for entries with a prompt of their own.
        scaled: the suites of a data-size curve, by their number of training documents.
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
        """The documents with the prompt of an entry."""
        return self.asked.get(entry.label, self.corpus)

    def by_folder(self, out: Path) -> dict[Path, "CheckedSuite"]:
        """This suite and those of its data-size curve, by their results folders.

        Args:
            out: the results folder of this suite.
        """
        return {out: self} | {layout.scaled_folder(out, size): smaller for size, smaller in self.scaled.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is unused of the model, what is slow, and what of a method cannot be measured."""
        return (
            *self._of_chat,
            *self._of_precision,
            *(_of_device(label, names) for label, names in self.misplaced.items()),
        )

    @property
    def _of_chat(self) -> tuple[str, ...]:
        """Whether a chat template is left unused, in a sentence."""
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
        """Whether the device is slow in the precision asked for, in a sentence."""
        if not self.emulated:
            return ()
        return (
            f"training.precision = {self.emulated}: this device has no instructions for it and emulates it, which is "
            "usually several times as slow as fp32.",
        )

    @property
    def runs(self) -> list[tuple[SuiteEntry, int]]:
        """Each run in order: its entry and seed."""
        return runs_in_order(self.suite, self.entries)


def check_suite(
    suite: Suite, entries: Sequence[SuiteEntry], device: str | None, cache: Path, only: SuiteEntry | None = None
) -> CheckedSuite:
    """Make sure that model, data, device and every entry's options fit together.

    Args:
        suite: the resolved suite.
        entries: all its entries; how documents are cut depends on all of them.
        device: cpu, cuda or mps; None: the best there is.
        cache: folder of prepared data.
        only: the one entry that will be run, and so checked; None: every entry.

    Raises:
        InputError: something does not fit; the message says what to do.
    """
    tracking.check_tracker(suite)
    chosen_device = choose_device(device)
    precision = choose_precision(suite.training.precision, chosen_device)
    refuse_sharding(suite, precision)
    open_data(suite)  # a missing folder is reported before anything else of data and model
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
                f"scaling.train_documents has {number:,}, and the suite trains on {len(corpus.train):,} documents, "
                "which is the last point of the curve by itself: give smaller numbers."
            )
        smaller = smaller_suite(suite, entries, number)
        if only is None or only.trains:
            scaled[number] = check_suite(smaller, [each for each in entries if each.trains], device, cache, only)
    emulated = precision if is_emulated(precision, chosen_device) else ""
    return CheckedSuite(
        suite, list(entries), base, corpus, parameters, language, targets, emulated, misplaced, asked, scaled
    )


def _of_device(label: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"{label} makes {names[0]}{more} on a device of its own: its FLOPs cannot be counted, and on a GPU it fails. "
        f"{ON_DEVICE}"
    )


@contextmanager
def temporary_cache() -> Iterator[Path]:
    """A folder for prepared data that is removed afterwards, for a dry run."""
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        yield Path(folder)


def _sketch(base: BaseModel, entry: SuiteEntry) -> AdaptedModel:
    """The model without weights as an entry's method changes it.

    Raises:
        ConfigError: the options do not fit the model.
        ModelError: the method cannot work on this family.
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
            f"[method.{entry.label}] {type(structure).__name__} cannot be adapted so ({error}): leave this method out."
        ) from error
    if entry.trains and not sketch.trained_parameters():
        raise ConfigError(
            f"[method.{entry.label}] It trains 0 parameters: after adapt() those that are trained must "
            "require a gradient, as by requires_grad_(True). A method that is meant to train nothing says so in its "
            "class: trains: ClassVar[bool] = False."
        )
    return sketch


def _try_generating(
    suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel, corpus: Corpus, device: str | None
) -> None:
    """Let each method generate a few tokens with a recurrent family: its configuration does not show what fails there.

    Raises:
        ModelError: a method cannot, with its label.
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
    """Make sure that virtual tokens, a document and a summary fit into the model's context together."""
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
