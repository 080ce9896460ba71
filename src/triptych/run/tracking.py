"""Send a run's numbers to an experiment tracker through accelerate: losses and rates by step, then the record's.

Only numbers, labels and settings are sent, never a document, reference or summary.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from triptych.config.schema import Suite
from triptych.errors import ConfigError
from triptych.results.records import Record
from triptych.run.events import EvaluationEvent, Event, StepEvent

BY_STEP = ("loss", "learning_rate", "train_loss", "validation_loss", "tokens", "train_seconds", "train_flops")


def check_tracker(suite: Suite) -> None:
    """Check that the requested tracker is installed.

    Raises:
        ConfigError: its package is not installed.
    """
    package = suite.tracking.with_
    if package is not None and find_spec(package) is None:
        raise ConfigError(
            f"tracking.with = {package!r} needs the package {package}, which is not installed: pip install {package}, "
            "or leave tracking out."
        )


class Tracker:
    """Sends the numbers of one run; does nothing if the suite sets no tracker.

    Args:
        suite: the suite; `tracking` names the tracker, its name is the project, and its settings are sent.
        run: the run's name in the project, `LABEL-SEED`.
        folder: the folder for a tracker that writes files.

    Raises:
        ConfigError: the tracker is missing or does not start (for example, if not logged in).
    """

    def __init__(self, suite: Suite, run: str, folder: Path):
        check_tracker(suite)
        self._tracker = None
        kind = suite.tracking.with_
        if kind is None:
            return
        try:
            self._tracker = _make(kind, suite.name, run, folder)
            self._tracker.start()
            self._tracker.store_init_configuration({"run": run, **_flat(suite.of_runs())})
        except Exception as error:  # third-party code: any failure means no tracking
            raise ConfigError(f"tracking.with = {kind!r}: the tracker does not start: {error}") from error

    def follow(self, event: Event) -> None:
        """Send the numbers of a step or an evaluation; other events have none."""
        if self._tracker is not None and isinstance(event, StepEvent | EvaluationEvent):
            fields = event.fields()
            values = {f"training/{name}": fields[name] for name in BY_STEP if fields.get(name) is not None}
            self._tracker.log(values, step=event.step)

    def finish(self, record: Record) -> None:
        """Send the record's measurements and close the tracker."""
        if self._tracker is None:
            return
        parts = {"loss": record.loss, "rouge": record.rouge, "cost": record.cost, "parameters": record.parameters}
        values = _flat({name: part.model_dump() for name, part in parts.items() if part is not None}, numbers=True)
        self._tracker.log(values, step=record.training.steps if record.training else 0)
        self._tracker.finish()


def _make(kind: str, project: str, run: str, folder: Path):
    from accelerate import tracking

    if kind == "tensorboard":
        return tracking.TensorBoardTracker(run, folder)
    if kind == "mlflow":
        return tracking.MLflowTracker(experiment_name=project, run_name=run)
    return {"wandb": tracking.WandBTracker, "trackio": tracking.TrackioTracker}[kind](project, name=run)


def _flat(values: dict[str, Any], numbers: bool = False, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to `a/b`: numbers as they are, other values as text, or left out if `numbers` is true."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, numbers, f"{prefix}{name}/")
        elif isinstance(value, (bool, int, float)):
            flat[prefix + name] = value
        elif not numbers:
            flat[prefix + name] = str(value)
    return flat
