"""A saved run, evaluated again from its adapter; or an adapter that peft saved, on data of your own."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triptych.config.schema import make_suite
from triptych.contracts import Method
from triptych.engine.model import EngineModel
from triptych.errors import ConfigError, ResultsError
from triptych.results.consistency import LOSS_TOLERANCE
from triptych.results.reading import read_finished, read_predictions
from triptych.results.records import Record
from triptych.run import events, scoring
from triptych.run.adapters import check_belongs, check_origin, load_tensors, read_manifest
from triptych.run.entries import make_entry
from triptych.run.workbench import Workbench
from triptych.use import peft_adapters
from triptych.use.summarizers import TrainedModel, load_summarizer


@dataclass(frozen=True)
class Evaluation:
    """Test loss and summaries made anew, beside those of the record."""

    run: str
    test_loss: float
    recorded_test_loss: float | None
    rouge1: float
    recorded_rouge1: float | None
    documents: int
    identical_predictions: int | None  # None: there are no stored ones
    signature: str = ""  # of the ROUGE scores
    recorded_signature: str | None = None

    @property
    def reproduced(self) -> bool:
        """Loss and summaries are those of the record; also where there is nothing to compare with."""
        if self.recorded_test_loss is None or self.recorded_rouge1 is None:
            return True
        if not math.isclose(self.test_loss, self.recorded_test_loss, rel_tol=LOSS_TOLERANCE):
            return False
        if self.identical_predictions is not None:
            return self.identical_predictions == self.documents
        return self.recorded_signature not in (None, self.signature) or abs(self.rouge1 - self.recorded_rouge1) < 1e-6

    def text(self) -> str:
        """The result in words."""
        if self.recorded_test_loss is None:
            return (
                f"{self.run}\n  test loss {self.test_loss:.6f}\n"
                f"  R-1       {self.rouge1:.4f} on {self.documents} documents"
            )
        same = (
            "not compared"
            if self.identical_predictions is None
            else f"{self.identical_predictions} of {self.documents}"
        )
        scored = (
            ""
            if self.recorded_signature in (None, self.signature)
            else (
                f"\n  the record was scored by other rules: {self.recorded_signature}\n  than now:                    "
                f"           {self.signature}"
            )
        )
        return (
            f"{self.run}\n  test loss {self.test_loss:.6f} (record {self.recorded_test_loss:.6f})\n"
            f"  R-1       {self.rouge1:.4f} (record {self.recorded_rouge1:.4f})\n"
            f"  summaries identical to the stored ones: {same}{scored}"
            + (
                ""
                if self.reproduced
                else "\n  NOT REPRODUCED: the loss or the summaries are not those of the record. Another "
                "device, precision or version may explain small differences; else a file was changed."
            )
        )


def evaluate_run(folder: Path, device: str | None, settings: dict[str, Any] | None = None) -> Evaluation:
    """Load what a run saved, or an adapter that peft saved, and compute test loss and summaries.

    Args:
        folder: `OUT/runs/LABEL/SEED`, or its copy with `record.json` and `adapter/` at least; or an adapter in PEFT's
            format.
        device: the device asked for, or None.
        settings: for an adapter, the suite's settings that say model, data and decoding; for a run, `model` and `data`
            alone may be given, where they lie elsewhere now.

    Raises:
        ResultsError: the folder holds nothing to evaluate, or what it holds does not belong to the model.
    """
    settings = settings or {}
    if peft_adapters.is_peft_folder(folder):
        return _evaluate_adapter(folder, device, settings)
    if set(settings) - {"model", "data"}:
        raise ConfigError(
            f"{str(folder)!r} is a run, which says itself how it is evaluated; give --model and --data at most."
        )
    record = read_finished(folder)
    row = make_entry(record.label, {"kind": record.kind, **record.options})
    if not isinstance(row.plugin, Method):
        raise ResultsError(f"{str(folder)!r} is a row without a model: there is nothing to load.")
    if record.loss.test is None or record.rouge is None:
        raise ResultsError(f"The record in {str(folder)!r} has no test loss or no ROUGE: it is not whole.")
    suite = make_suite({**record.config, **settings, **({"data_config": None} if "data" in settings else {})})
    run = Workbench.begin(suite, row, record.seed, folder, device, events.ignore)
    if record.data is None or run.corpus.data.fingerprint != record.data.fingerprint:
        raise ResultsError(f"{str(folder)!r} was made on other documents than {suite.data!r} holds now.")
    if record.data.token_fingerprint not in (None, run.corpus.data.token_fingerprint):
        raise ResultsError(
            f"The documents of {str(folder)!r} were tokenised or cut in another way than now: the tokenizer of "
            f"{suite.model!r} differs, or this is another version of Triptych. Give the same tokenizer with --model."
        )
    recorded, here = record.provenance and record.provenance.model_fingerprint, run.base.fingerprint
    if recorded not in (None, here):
        raise ResultsError(
            f"{str(folder)!r} was made with another model than {suite.model!r} is now: weights or configuration "
            "differ. Give the same one with --model."
        )
    model = run.fresh_model(row.plugin, record.seed)
    if row.trains:
        origin, tensors = read_manifest(folder / "adapter")
        check_belongs(origin, record, folder / "adapter")
        check_origin(origin, run.base, folder / "adapter")
        load_tensors(model.adapted, tensors, folder / "adapter")
    return _measure(run, model, record)


def _evaluate_adapter(folder: Path, device: str | None, settings: dict[str, Any]) -> Evaluation:
    """An adapter without a record: nothing to compare with."""
    found = load_summarizer(folder, settings.get("model"), device)
    assert isinstance(found, TrainedModel)
    row = (
        make_entry("prompt-tuning", {"num_virtual_tokens": found.adapted.num_virtual_tokens})
        if found.adapted.virtual_tokens is not None
        else make_entry("untuned", {})
    )
    suite = make_suite(
        {
            **settings,
            "model": found.suite.model,
            "model_revision": found.suite.model_revision,
            "methods": [row.label],
            "method": {row.label: row.options},
        }
    )
    run = Workbench.begin(suite, row, suite.seeds[0], folder, device, events.ignore)
    return _measure(run, replace(found.model, template=run.corpus.template, machine=run.machine), None)


def _measure(run: Workbench, model: EngineModel, record: Record | None) -> Evaluation:
    """Test loss and summaries, beside the record's where there is one."""
    test = run.loss(model, run.corpus.test)
    predictions = run.predict(model, test)
    kept = run.out / "predictions.jsonl"
    stored = read_predictions(kept) if record and kept.is_file() else None
    return Evaluation(
        run=str(run.out),
        test_loss=test.mean,
        recorded_test_loss=record.loss.test if record else None,
        rouge1=sum(p.scores["rouge1"] for p in predictions) / len(predictions),
        recorded_rouge1=record.rouge.rouge1 if record and record.rouge else None,
        documents=len(predictions),
        identical_predictions=None
        if stored is None
        else sum(a.prediction == b.prediction for a, b in zip(predictions, stored, strict=False)),
        signature=scoring.rouge(predictions, run.language).signature,
        recorded_signature=record.rouge.signature if record and record.rouge else None,
    )
