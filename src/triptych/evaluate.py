"""A saved run, evaluated again from its adapter."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from triptych import experiment, store
from triptych.adapters import load_tensors, read_manifest
from triptych.config import make_suite
from triptych.contracts import Method
from triptych.errors import ResultsError
from triptych.models import hub
from triptych.records import Prediction, Record
from triptych.rows import make_row


@dataclass(frozen=True)
class Evaluation:
    """Test loss and summaries made anew, beside those of the record."""

    run: str
    test_loss: float
    recorded_test_loss: float | None
    rouge1: float
    recorded_rouge1: float | None
    documents: int
    identical_predictions: int

    def text(self) -> str:
        """The result in words."""
        return (
            f"{self.run}\n  test loss {self.test_loss:.6f} (record {self.recorded_test_loss:.6f})\n"
            f"  R-1       {self.rouge1:.4f} (record {self.recorded_rouge1:.4f})\n"
            f"  summaries identical to the stored ones: {self.identical_predictions} of {self.documents}"
        )


def evaluate(folder: Path, device: str | None) -> Evaluation:
    """Load what a run saved and compute its test loss and summaries again.

    Raises:
        ResultsError: the folder holds no finished run of a method, or its adapter does not belong to the model.
    """
    try:
        record = Record.model_validate(store.read_json(folder / "record.json"))
    except ValidationError as error:
        raise ResultsError(f"{str(folder / 'record.json')!r} is no record: {error.errors()[0]['msg']}.") from None
    row = make_row(record.label, {"kind": record.kind, **record.options})
    if record.status != "done" or not isinstance(row.plugin, Method) or record.loss.test is None or record.rouge is None:
        raise ResultsError(f"{str(folder)!r} holds no finished run of a method: there is nothing to load.")
    suite = make_suite(record.config)
    run = experiment.Run.begin(suite, row, record.seed, folder, device, lambda event: None)
    if record.data is None or run.corpus.data.fingerprint != record.data.fingerprint:
        raise ResultsError(f"{str(folder)!r} was made on other documents than {suite.data!r} holds now.")
    adapted = run.adapt(row.plugin, record.seed).adapted
    if row.trains:
        origin, tensors = read_manifest(folder / "adapter")
        here = hub.fingerprint(suite.model, suite.model_revision)
        if origin.model_fingerprint != here:
            raise ResultsError(f"{str(folder)!r} was trained on another model than {suite.model!r} is now: weights differ.")
        load_tensors(adapted, tensors, folder / "adapter")
    test = run.loss(adapted, run.corpus.test)
    predictions = run.predict(adapted, test)
    stored = store.read_lines(folder / "predictions.jsonl", Prediction)
    return Evaluation(
        run=str(folder),
        test_loss=test.mean,
        recorded_test_loss=record.loss.test,
        rouge1=sum(p.scores["rouge1"] for p in predictions) / len(predictions),
        recorded_rouge1=record.rouge.rouge1 if record.rouge else None,
        documents=len(predictions),
        identical_predictions=sum(a.prediction == b.prediction for a, b in zip(predictions, stored, strict=False)),
    )
