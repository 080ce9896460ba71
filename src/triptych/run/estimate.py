"""Estimate the duration of a suite: time a few documents with each method and scale to all of its runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from triptych.analysis.costs import losses_computed
from triptych.config.schedule import num_evaluations
from triptych.contracts import Method
from triptych.corpus.arrow import TokenizedSplit
from triptych.engine.batch_size import PROVISIONAL_BATCH_SIZE
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.model import EngineModel
from triptych.machine import start_machine
from triptych.run.entries import SuiteEntry
from triptych.run.models import ready_model
from triptych.run.preflight import CheckedSuite
from triptych.run.search import planned_trials
from triptych.run.timing import (
    READING_SECONDS,
    SummaryTimes,
    TrainingTimes,
    now,
    time_loss,
    time_summaries,
    time_training,
)

PROCESS_SECONDS = 6.0  # for a run's process to start and import its modules
PROBE_DOCUMENTS = 2  # summarized by every method; only one of them summarizes a whole batch


@dataclass(frozen=True)
class RunEstimate:
    """The estimated duration of a run, in seconds.

    Attributes:
        train_seconds: all epochs and the learning-rate search.
        evaluation_seconds: validation before training and after every epoch, and the loss of the test split.
        generation_seconds: generating summaries of the test split.
        search_seconds: the part of `train_seconds` for the search, which is done once for all seeds.
        document_seconds: training on one document.
        loss_seconds: computing the loss of one document.
        summary_seconds: generating one summary.
        start_seconds: starting the run's process, and loading and preparing the model.
    """

    train_seconds: float
    evaluation_seconds: float
    generation_seconds: float
    search_seconds: float
    document_seconds: float
    loss_seconds: float
    summary_seconds: float
    start_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The total, including the start of the process."""
        return self.start_seconds + self.train_seconds + self.evaluation_seconds + self.generation_seconds


@dataclass(frozen=True)
class MethodTimes:
    """A method's times for one document of typical length, in seconds.

    Attributes:
        loading: loading and preparing the model, once per run and per trial of its search.
        loss: computing its loss.
        summary: generating a summary of full length.
        training: training on it.
    """

    loading: float = 0.0
    loss: float = 0.0
    summary: float = 0.0
    training: TrainingTimes = field(default_factory=TrainingTimes)

    @property
    def judging(self) -> float:
        """Computing its loss in an evaluation or a trial, from the trunk cache if there is one."""
        return self.training.judging or self.loss


def estimate_runs(checked: CheckedSuite, device: str | None) -> dict[str, RunEstimate]:
    """Time a few documents with every entry and scale the times to its runs.

    Args:
        checked: the suite with its data prepared.
        device: cpu, cuda or mps; None: the best available.

    Returns:
        The estimate of each entry by label.
    """
    times = time_entries(checked, device)
    return {entry.label: estimate_run(checked, entry, times[entry.label]) for entry in checked.entries}


def time_entries(
    checked: CheckedSuite, device: str | None, report: Callable[[str, MethodTimes], None] = lambda label, times: None
) -> dict[str, MethodTimes]:
    """Time a micro-batch, the loss and summaries of a few documents with every entry.

    Args:
        checked: the suite with its data prepared.
        device: cpu, cuda or mps; None: the best available.
        report: called with the label and times of each entry as soon as they are known.

    Returns:
        The times of each entry by label; zeros for an entry without a model.
    """
    timer, found = _Timer(checked, device), {}
    for entry in checked.entries:
        found[entry.label] = timer.times(entry)
        report(entry.label, found[entry.label])
    return found


def estimate_run(checked: CheckedSuite, entry: SuiteEntry, times: MethodTimes) -> RunEstimate:
    """Estimate an entry's run at its maximum: all epochs, and summaries of full length.

    Args:
        checked: the suite, which may have fewer documents than the one that was timed.
        entry: the entry.
        times: the times of its method.
    """
    suite, corpus, took = checked.suite, checked.corpus, times.training
    t, all_of_it = suite.training, len(corpus.train)
    updates = math.ceil(all_of_it / t.global_batch_size)
    epoch = all_of_it * took.document + updates * took.update
    epochs = t.max_epochs if entry.trains else 0
    search = _search_seconds(checked, entry, times, epoch / updates)
    untouched_and_test = times.loss * losses_computed(len(corpus.validation), 0, len(corpus.test))
    kept = took.keeping if took.judging else 0.0  # the validation split's states are computed once
    evaluated = len(corpus.validation) * (kept + num_evaluations(epochs, t.eval_every) * times.judging)
    return RunEstimate(
        train_seconds=epochs * epoch + all_of_it * took.keeping + search,
        evaluation_seconds=untouched_and_test + evaluated,
        generation_seconds=times.summary * len(corpus.test),
        search_seconds=search,
        document_seconds=took.document + took.update / min(t.global_batch_size, all_of_it),
        loss_seconds=times.loss,
        summary_seconds=times.summary,
        start_seconds=PROCESS_SECONDS + times.loading,
    )


def _search_seconds(checked: CheckedSuite, entry: SuiteEntry, times: MethodTimes, step: float) -> float:
    """The duration of an entry's search, at `step` seconds per optimizer step."""
    suite, corpus = checked.suite, checked.corpus
    if not entry.trains:
        return 0.0
    assert isinstance(entry.plugin, Method)
    trials = planned_trials(suite, entry.plugin, len(corpus.train))
    judged = min(len(corpus.validation), suite.search.validation_documents)
    return sum(trials) * step + len(trials) * judged * times.judging


@dataclass
class _Timer:
    """Times the methods of a suite; the first one to summarize is timed on a whole batch for all of them.

    Attributes:
        batch: that method's times for a whole batch.
        probe: its times for `PROBE_DOCUMENTS`.
    """

    checked: CheckedSuite
    device: str | None
    batch: SummaryTimes | None = field(default=None, init=False)
    probe: SummaryTimes | None = field(default=None, init=False)

    def times(self, entry: SuiteEntry) -> MethodTimes:
        """The times of an entry."""
        if not isinstance(entry.plugin, Method):
            return MethodTimes()
        suite, corpus = self.checked.suite, self.checked.corpus_of(entry)
        machine = start_machine(self.device, suite.training.precision)
        began = now(machine)
        model = ready_model(suite, self.checked.base, entry.plugin, corpus, suite.seeds[0], machine)
        loading = now(machine) - began
        asked = suite.training.micro_batch_size
        loss = time_loss(model, corpus.validation, PROVISIONAL_BATCH_SIZE if asked == "auto" else asked)
        summary = self._summary_seconds(model, corpus.test, loss)
        training = TrainingTimes()
        if entry.trains:
            training = time_training(suite, entry.plugin, model, corpus.train, len(corpus.validation))
        return MethodTimes(loading, loss, summary, training)

    def _summary_seconds(self, model: EngineModel, test: TokenizedSplit, loss: float) -> float:
        """Seconds for one summary of full length.

        Generation time differs little between methods: a whole batch is timed once, and its times are scaled by each
        method's times on two documents.
        """
        decoding = DecodingPlan(**self.checked.suite.decoding.model_dump())
        together = min(decoding.batch_size, len(test))
        documents = [test.document_ids(i) for i in range(together)]
        if self.batch is None:
            read = max(min(together, int(READING_SECONDS / loss)), min(PROBE_DOCUMENTS, together))
            measured = time_summaries(model, documents[:read], decoding)
            self.batch = SummaryTimes(measured.reading * together / read, measured.step * together / read)
        probe = time_summaries(model, documents[:PROBE_DOCUMENTS], decoding)
        self.probe = self.probe or probe
        reading = self.batch.reading * probe.reading / self.probe.reading
        step = self.batch.step * (probe.step / self.probe.step if self.probe.step else 1.0)
        return (reading + step * (decoding.max_new_tokens - 1)) / together
