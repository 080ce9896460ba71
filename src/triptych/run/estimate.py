"""What a suite will take: each method's steps, losses and summaries, measured on a few documents before it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from triptych.contracts import Method
from triptych.engine.batch_size import PROVISIONAL_BATCH_SIZE
from triptych.engine.evaluation import split_loss
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import make_ready
from triptych.engine.training import Loop, TrainingState, steps_per_epoch
from triptych.machine import Machine, start_machine
from triptych.run import setup
from triptych.run.entries import SuiteEntry
from triptych.run.preflight import CheckedSuite
from triptych.run.recipe import training_plan


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take, in seconds; training from two measured steps.

    Attributes:
        train_seconds: all epochs, and the learning-rate search.
        evaluation_seconds: validation before, after every epoch and at the end, and the test split.
        generation_seconds: of the test split.
        search_seconds: the part of `train_seconds` that the search takes, once for all seeds.
        document_seconds: of training on one document.
        loss_seconds: of computing the loss of one document.
        summary_seconds: of generating one summary.
    """

    train_seconds: float
    evaluation_seconds: float
    generation_seconds: float
    search_seconds: float
    document_seconds: float
    loss_seconds: float
    summary_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.train_seconds + self.evaluation_seconds + self.generation_seconds


def estimate_runs(checked: CheckedSuite, device: str | None) -> dict[str, RunEstimate]:
    """Measure two optimizer steps (the first warms up, the second counts) and a batch of summaries of every entry.

    Training is assumed to last all its epochs, and a summary to use all its tokens, so the estimate is an upper one.

    Args:
        checked: the suite, its data prepared.
        device: cpu, cuda or mps; None: the best there is.

    Returns:
        The estimate of each entry, by its label.
    """
    return {entry.label: _estimate_run(checked, entry, device) for entry in checked.entries}


def _estimate_run(checked: CheckedSuite, entry: SuiteEntry, device: str | None) -> RunEstimate:
    if not isinstance(entry.plugin, Method):
        return RunEstimate(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    suite, corpus = checked.suite, checked.corpus
    machine = start_machine(device, suite.training.precision)
    model = setup.prepare_model(checked.base, entry.plugin, corpus, suite.seeds[0], machine)
    model = model if suite.engine.plain else make_ready(model)
    t, d = suite.training, suite.decoding
    micro_batch = PROVISIONAL_BATCH_SIZE if t.micro_batch_size == "auto" else t.micro_batch_size
    step = _step_seconds(checked, entry.plugin, model, micro_batch) if entry.trains else 0.0
    few = [corpus.validation[i] for i in range(min(micro_batch, len(corpus.validation)))]
    loss = _seconds(machine, lambda: split_loss(model, few, len(few))) / len(few)
    documents = [corpus.test.document_ids(i) for i in range(min(d.batch_size, len(corpus.test)))]
    tokens = min(8, d.max_new_tokens)
    decoding = DecodingPlan(**d.model_dump() | {"max_new_tokens": tokens})
    generation = _seconds(machine, lambda: generate(model, documents, decoding))
    generation *= d.max_new_tokens / tokens / len(documents)
    plan = training_plan(suite, entry.plugin, entry.plugin.learning_rate, 0, micro_batch)
    steps = steps_per_epoch(len(corpus.train), plan)
    epochs = t.max_epochs if entry.trains else 0
    budget = suite.search
    trials = budget.trials if entry.trains and budget.trials > 1 else 0
    trial_documents = min(len(corpus.train), budget.train_documents)
    trial_steps = steps_per_epoch(trial_documents, plan) * budget.epochs
    trial_validation = min(len(corpus.validation), budget.validation_documents) * budget.epochs
    search = trials * (step * trial_steps + loss * trial_validation)
    return RunEstimate(
        train_seconds=step * steps * epochs + search,
        evaluation_seconds=loss * (len(corpus.validation) * (epochs + 2) + len(corpus.test)),
        generation_seconds=generation * len(corpus.test),
        search_seconds=search,
        document_seconds=step / min(t.global_batch_size, len(corpus.train)),
        loss_seconds=loss,
        summary_seconds=generation,
    )


def _step_seconds(checked: CheckedSuite, method: Method, model: EngineModel, micro_batch: int) -> float:
    """The second of two optimizer steps over a full global batch; the first warms up."""
    corpus, suite = checked.corpus, checked.suite
    plan = training_plan(suite, method, 0.0, 0, micro_batch)  # at this rate the weights stay as they are
    plan = replace(plan, max_epochs=2, patience=1, warmup_fraction=0.0, schedule="constant")  # one step an epoch
    batch = [corpus.train[i] for i in range(min(suite.training.global_batch_size, len(corpus.train)))]
    loop = Loop(model, batch, plan, TrainingState.begin(model.adapted, plan, model.machine.loss_scaler()))
    _seconds(model.machine, loop.step)
    loop.end_epoch(0.0)
    seconds = _seconds(model.machine, loop.step)
    model.eval()
    return seconds


def _seconds(machine: Machine, work: Callable[[], object]) -> float:
    machine.synchronize()
    start = time.perf_counter()
    work()
    machine.synchronize()
    return time.perf_counter() - start
