"""Evaluate a saved run again from its adapter, or evaluate an adapter saved by peft on your own data."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triptych.config.schema import make_suite
from triptych.contracts import Method
from triptych.engine.model import EngineModel
from triptych.errors import ConfigError, ResultsError
from triptych.results.bundled import base_in_bundle, predictions_file, record_folder
from triptych.results.consistency import LOSS_TOLERANCE
from triptych.results.reading import read_finished, read_predictions
from triptych.results.records import Record
from triptych.run import events, scoring
from triptych.run.adapters import check_belongs, check_origin, load_tensors, read_manifest
from triptych.run.entries import make_entry, recorded_entry
from triptych.run.run_context import RunContext
from triptych.storage.given_documents import find_documents
from triptych.text import formats
from triptych.use import peft_adapters
from triptych.use.summarizers import TrainedModel, load_summarizer


@dataclass(frozen=True)
class Evaluation:
    """Recomputed test loss and summaries, next to those of the record.

    Attributes:
        run: the run's folder.
        test_loss: nats per target token.
        recorded_test_loss: test loss in the record; None without a record.
        rouge1: mean over documents, 0-100.
        recorded_rouge1: ROUGE-1 in the record; None without a record.
        documents: number of documents.
        identical_predictions: number of summaries equal to the stored ones; None if none are stored.
        signature: signature of the ROUGE scores.
        recorded_signature: signature of the scores in the record.
    """

    run: str
    test_loss: float
    recorded_test_loss: float | None
    rouge1: float
    recorded_rouge1: float | None
    documents: int
    identical_predictions: int | None
    signature: str = ""
    recorded_signature: str | None = None

    @property
    def reproduced(self) -> bool:
        """Whether loss and summaries equal those of the record, or there is nothing to compare with."""
        if self.recorded_test_loss is None or self.recorded_rouge1 is None:
            return True
        if not math.isclose(self.test_loss, self.recorded_test_loss, rel_tol=LOSS_TOLERANCE):
            return False
        if self.identical_predictions is not None:
            return self.identical_predictions == self.documents
        return self.recorded_signature not in (None, self.signature) or abs(self.rouge1 - self.recorded_rouge1) < 1e-6

    def text(self) -> str:
        """The result as lines of text."""
        if self.recorded_test_loss is None:
            return (
                f"{self.run}\n  test loss {self.test_loss:.6f}\n"
                f"  R-1       {self.rouge1:.4f} on {formats.number_of(self.documents, 'document')}"
            )
        compared = self.identical_predictions is not None
        same = f"{self.identical_predictions} of {self.documents}" if compared else "not compared"
        lines = [
            self.run,
            f"  test loss {self.test_loss:.6f} (record {self.recorded_test_loss:.6f})",
            f"  R-1       {self.rouge1:.4f} (record {self.recorded_rouge1:.4f})",
            f"  summaries identical to the stored ones: {same}",
        ]
        if self.recorded_signature not in (None, self.signature):
            lines += [
                f"  the record was scored by other rules: {self.recorded_signature}",
                f"  than now:                             {self.signature}",
            ]
        if not self.reproduced:
            lines.append(
                "  NOT REPRODUCED: the loss or the summaries are not those of the record. Another device, precision or "
                "version may explain small differences; otherwise a file was changed."
            )
        return "\n".join(lines)


def evaluate_run(folder: Path, device: str | None, settings: dict[str, Any] | None = None) -> Evaluation:
    """Load a saved run, or an adapter saved by peft, and compute test loss and summaries.

    Args:
        folder: `OUT/runs/LABEL/SEED`, or its copy with at least `record.json` and `adapter/`; `models/tuned/LABEL/SEED`
            of an unpacked bundle; or an adapter in PEFT's format.
        device: cpu, cuda or mps; None: the best available.
        settings: for an adapter, the suite's settings for model, data and decoding; for a run, only `model` and
            `data`, in case they have moved.

    Raises:
        ConfigError: an adapter without data to evaluate it on, or other settings for a run.
        ResultsError: the folder has nothing to evaluate, or its contents do not belong to the model.
    """
    settings = settings or {}
    if peft_adapters.is_peft_folder(folder):
        return _evaluate_adapter(folder, device, settings)
    if set(settings) - {"model", "data"}:
        raise ConfigError(
            f"{str(folder)!r} is a run and defines its own evaluation; only --model and --data may be given."
        )
    record = read_finished(record_folder(folder))
    entry = recorded_entry(record)
    if not isinstance(entry.plugin, Method):
        raise ResultsError(f"{str(folder)!r} is a run without a model: there is nothing to load.")
    if record.loss.test is None or record.rouge is None:
        raise ResultsError(f"The record in {str(folder)!r} has no test loss or no ROUGE: it is incomplete.")
    if "model" not in settings and (base := base_in_bundle(folder, str(record.config.get("model")))):
        settings = {**settings, "model": base}
    revisions = {key: record.config[key] for name in settings if (key := f"{name}_revision") in record.config}
    other = {**settings, **revisions, **({"data_config": None} if "data" in settings else {})}
    suite = make_suite(find_documents({**record.pinned_config(), **other}, folder))
    context = RunContext.begin(suite, entry, record.seed, folder, device, events.ignore)
    if record.data is None or context.corpus.data.fingerprint != record.data.fingerprint:
        raise ResultsError(f"{str(folder)!r} was made with other documents than {suite.data!r} has now.")
    if record.data.token_fingerprint not in (None, context.corpus.data.token_fingerprint):
        raise ResultsError(
            f"The documents of {str(folder)!r} were tokenized or cut differently than now: the tokenizer of "
            f"{suite.model!r} differs, or this is another version of Triptych. Give the same tokenizer with --model."
        )
    recorded, here = record.provenance and record.provenance.model_fingerprint, context.base.fingerprint
    if recorded not in (None, here):
        raise ResultsError(
            f"{str(folder)!r} was made with another model than {suite.model!r} is now: weights or configuration "
            "differ. Give the same one with --model."
        )
    model = context.fresh_model(entry.plugin, record.seed)
    if entry.trains:
        origin, tensors = read_manifest(folder / "adapter")
        check_belongs(origin, record, folder / "adapter")
        check_origin(origin, context.base, folder / "adapter")
        load_tensors(model.adapted, tensors, folder / "adapter")
    return _measure(context, model, record)


def _evaluate_adapter(folder: Path, device: str | None, settings: dict[str, Any]) -> Evaluation:
    """Evaluate an adapter without a record: there is nothing to compare with."""
    if "data" not in settings:
        raise ConfigError(
            f"{str(folder)!r} is an adapter without a record, which would name its documents: give --data."
        )
    found = load_summarizer(folder, settings.get("model"), device)
    assert isinstance(found, TrainedModel)
    entry = (
        make_entry("prompt-tuning", {"num_virtual_tokens": found.adapted.num_virtual_tokens})
        if found.adapted.virtual_tokens is not None
        else make_entry("untuned", {})
    )
    suite = make_suite(
        {
            **settings,
            "model": found.suite.model,
            "model_revision": found.suite.model_revision,
            "model_quantization": found.suite.model_quantization,
            "methods": [entry.label],
            "method": {entry.label: entry.options},
        }
    )
    context = RunContext.begin(suite, entry, suite.seeds[0], folder, device, events.ignore)
    return _measure(context, replace(found.model, template=context.corpus.template, machine=context.machine), None)


def _measure(context: RunContext, model: EngineModel, record: Record | None) -> Evaluation:
    """Compute test loss and summaries, next to those of the record if there is one."""
    test = context.loss(model, context.corpus.test)
    predictions = context.predict(model, test)
    file = predictions_file(context.out)
    stored = read_predictions(file) if record and file.is_file() else None
    return Evaluation(
        run=str(context.out),
        test_loss=test.mean,
        recorded_test_loss=record.loss.test if record else None,
        rouge1=sum(p.scores["rouge1"] for p in predictions) / len(predictions),
        recorded_rouge1=record.rouge.rouge1 if record and record.rouge else None,
        documents=len(predictions),
        identical_predictions=None
        if stored is None
        else sum(a.prediction == b.prediction for a, b in zip(predictions, stored, strict=False)),
        signature=scoring.rouge(predictions, context.language).signature,
        recorded_signature=record.rouge.signature if record and record.rouge else None,
    )
