"""Training checkpoints, from which an interrupted run resumes with bit-identical results."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.config.schema import Suite
from triptych.engine.training import num_copies
from triptych.errors import ResultsError
from triptych.results import json_files, tensor_files
from triptych.storage.files import digest

MAX_TIME_SHARE = 0.02  # share of a run's time that saving may take
NUM_KEPT = 2


def room_needed(trained_bytes: int, suite: Suite) -> int:
    """Maximum disk space of an unfinished run's checkpoints in bytes: those kept, plus the one being written.

    Args:
        trained_bytes: size of the trained tensors.
        suite: the run's settings.
    """
    return (NUM_KEPT + 1) * num_copies(suite.training.optimizer, suite.training.schedule) * trained_bytes


@dataclass(frozen=True)
class Checkpoint:
    """The state saved after a step: named tensors, and facts that fit into JSON."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run, `STEP.safetensors` with `STEP.json`; the last two are kept.

    The JSON file is written last and contains a SHA-256 of tensors, facts and the run's identity: a checkpoint is valid
    only if this file exists and matches.

    Args:
        folder: where they are; created with the first one.
        identity: everything the run depends on; a checkpoint with a different identity is not read.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        self.folder = folder
        self._identity = dict(identity)
        self._cost = 0.0
        self._last = time.perf_counter()

    def due(self) -> bool:
        """Whether enough time has passed since the last checkpoint to keep its measured cost below `MAX_TIME_SHARE`.

        The first one is due immediately, to measure the cost.
        """
        return (time.perf_counter() - self._last) * MAX_TIME_SHARE >= self._cost

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, keep the previous one, and remove older ones and those of later steps.

        Later steps exist if the run was resumed from an earlier checkpoint.

        Args:
            step: optimizer steps so far.
            tensors: the training state's tensors.
            facts: everything else, as JSON values.

        Raises:
            ResultsError: it cannot be written; previous checkpoints are intact.
        """
        began = time.perf_counter()
        file = self.folder / f"{step}.safetensors"
        digest = tensor_files.write_tensors(file, tensors)
        seal = self._seal(step, digest, facts)
        json_files.write_json(file.with_suffix(".json"), {"sha256": seal, "facts": dict(facts)})
        steps = self._steps()
        for old in [n for n in steps if n > step] + [n for n in steps if n <= step][NUM_KEPT:]:
            for suffix in (".json", ".safetensors"):
                (self.folder / f"{old}{suffix}").unlink(missing_ok=True)
        self._last = time.perf_counter()
        self._cost = self._last - began

    def latest(self) -> Checkpoint | None:
        """The newest intact checkpoint of this run; damaged ones are skipped."""
        for step in self._steps():
            file = self.folder / f"{step}.safetensors"
            try:
                content = json_files.read_json(file.with_suffix(".json"))
                if content["sha256"] == self._seal(step, digest(file), content["facts"]):
                    return Checkpoint(step, tensor_files.read_tensors(file), content["facts"])
            except (ResultsError, KeyError, TypeError):
                continue
        return None

    def _seal(self, step: int, digest: str, facts: Mapping[str, Any]) -> str:
        return hashlib.sha256(json.dumps([self._identity, step, digest, facts], sort_keys=True).encode()).hexdigest()

    def _steps(self) -> list[int]:
        """The steps of the checkpoints in the folder, newest first."""
        return sorted((int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal()), reverse=True)
