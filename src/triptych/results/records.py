"""Data models of the files of a results folder, closed to unknown keys; needs no torch."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from triptych.text import formats
from triptych.text.synthetic import SyntheticPart

SCHEMA_VERSION: Literal[1] = 1
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# F1, precision and recall of each type, as named in the scores of a prediction
ROUGE_PARTS = ("precision", "recall")
ROUGE_SCORES = tuple(f"{name}{part}" for name in ROUGE_TYPES for part in ("", *(f"_{each}" for each in ROUGE_PARTS)))
_IN_WORDS = "in words"  # marks a cost that is not a number


# Names of meter readings, and other places where two runs of the same suite differ
READINGS = ("_seconds", "_per_second", "peak_memory_bytes", "energy_joules", "shared_note")
READINGS_BEFORE = READINGS[:-1]  # in digests of records from before the note on a shared device was excluded
NOT_REPEATED = (".digest", ".provenance.time", ".provenance.command", ".files.history.jsonl")


class Part(BaseModel):
    """Closed to unknown keys: a record contains exactly what is documented."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types: dictionaries, lists, strings, numbers and None."""
        return self.model_dump(mode="json")


class Parameters(Part):
    """Counts by unique storage, taken from outside after the method was applied."""

    num_base_parameters: int
    num_added_parameters: int
    num_trainable_parameters: int
    num_total_parameters: int
    stored_bytes: int


class Loss(Part):
    """Nats per target token (summary and one EOS), the sum over a split divided once; None if there is no loss."""

    initial: float | None = None
    validation: float | None = None
    test: float | None = None


class Rouge(Part):
    """Means over the test split, F1 in 0-100, unrounded."""

    rouge1: float
    rouge2: float
    rougeL: float
    rougeLsum: float
    signature: str
    language: str | None = None  # of the words counted; None in records from before it was recorded
    counted: str | None = None  # a sentence on what is counted, and why
    precision: dict[str, float] = {}  # means by type, 0-100; {} in records from before they were kept
    recall: dict[str, float] = {}


class Cost(Part):
    """What a run took. Clocks never overlap; training time is only the sum of synchronized step times."""

    startup_seconds: float = 0.0
    preparation_seconds: float = 0.0
    compile_seconds: float = 0.0
    search_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    generation_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    wall_seconds: float = 0.0
    train_flops: float | None = None
    plain_flops: float | None = None
    search_flops: float | None = None
    device_seconds: float | None = None  # devices (GPUs, or the cores of a CPU) x training seconds
    busy_seconds: float | None = None  # devices busy during these; busy / device seconds is the mean utilization
    busy_note: Annotated[str | None, _IN_WORDS] = None
    shared_note: Annotated[str | None, _IN_WORDS] = None  # what else used the GPU or cores during training
    peak_memory_bytes: int | None = None  # the peak during training, weights included: see `peak_memory_kind`
    # "allocated" by CUDA's allocator; on a CPU "anonymous" (backed by no file), or "unique" if the system does not
    # report that; "resident" (with the pages of mapped files) in records of older versions
    peak_memory_kind: Annotated[str | None, _IN_WORDS] = None
    added_peak_memory_bytes: int | None = None  # the peak above what was in use before the first step
    reserved_peak_memory_bytes: int | None = None  # reserved by CUDA's allocator; None elsewhere
    energy_joules: float | None = None
    energy_kind: Annotated[str | None, _IN_WORDS] = None
    energy_note: Annotated[str | None, _IN_WORDS] = None
    tokens_per_second: float | None = None
    documents_per_second: float | None = None
    generation_latency_seconds: float | None = None  # batch of one: the test document of median length


SEARCH_COSTS = ("search_seconds", "search_flops")  # one run does the search for all seeds of a method
NUMERIC_COSTS = tuple(name for name, field in Cost.model_fields.items() if _IN_WORDS not in field.metadata)


class SplitCounts(Part):
    """How many pairs of a split were read, dropped for each reason, and used."""

    read: int = 0
    dropped_empty: int = 0
    dropped_duplicate: int = 0
    dropped_long_summary: int = 0
    not_sampled: int = 0
    used: int = 0
    truncated: int = 0  # documents that were only partly read
    shortened_for_loss: int = 0  # documents shortened further for the loss, next to a long reference
    requested: int = 0


class Data(Part):
    """The data of a run; the same for every method of a suite.

    Attributes:
        commit: commit of the Hub repository with the documents; None if they come from elsewhere or it was not
            recorded.
        cut: a sentence on the splits that were cut by a seed, if any.
        notes: sentences on how the source was read, such as which of its files were skipped.
    """

    source: str
    synthetic: bool
    fingerprint: str
    token_fingerprint: str | None = None  # of the tokenized and truncated texts; None if not recorded
    splits: dict[str, SplitCounts]
    commit: str | None = None
    cut: str | None = None
    notes: list[str] = []

    def sentences(self) -> list[str]:
        """The notes and the sentence on what was cut."""
        return [*self.notes, *([self.cut] if self.cut else [])]


class Trial(Part):
    """One learning rate tried in the search, and the validation loss it reached; None if it diverged."""

    learning_rate: float
    validation_loss: float | None
    documents: int | None = None  # trained on; None in records of earlier versions, whose trials had equal numbers
    search_seconds: float = 0.0
    search_flops: float = 0.0


class SearchResult(Part):
    """The learning-rate search of a method."""

    trials: list[Trial]
    chosen: float
    at_edge: bool
    charged_to: int = 0  # the seed whose run made the search

    @property
    def last_round(self) -> list[Trial]:
        """The trials that were trained on the most documents; the best of them was chosen."""
        most = max(trial.documents or 0 for trial in self.trials)
        return [trial for trial in self.trials if (trial.documents or 0) == most]

    @property
    def rates(self) -> list[float]:
        """The learning rates tried, each once, in increasing order."""
        return sorted({trial.learning_rate for trial in self.trials})

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest learning rate tried."""
        return self.rates[0], self.rates[-1]

    @property
    def better_beyond(self) -> bool:
        """Whether a better rate may lie beyond those tried: the best of at least three is at an edge."""
        return self.at_edge and len(self.rates) > 2

    @property
    def seconds(self) -> float:
        """Seconds that the trials took."""
        return sum(trial.search_seconds for trial in self.trials)

    @property
    def flops(self) -> float:
        """FLOPs that the trials executed."""
        return sum(trial.search_flops for trial in self.trials)


class TrainingSummary(Part):
    """How training went."""

    epochs: int | float  # steps / steps per epoch
    steps: int
    evaluations: int | None = None  # None in records of earlier versions: one per epoch
    best_epoch: int | float
    best_step: int | None = None  # the step of the kept weights; 0: before training
    best_rate: float | None = None  # the learning rate at that step
    decay_start: int | None = None  # the step at which `warmup_stable_decay` began to lower the rate
    restarted_at: int | None = None  # the step from which training restarted because its decay had gained nothing
    stopped_early: bool
    tokens: int
    targets: int
    documents: int
    micro_batch_size: int | None = None  # documents per pass; halved when memory ran out
    # whether blocks were recomputed in the backward pass because memory ran out with one document per pass
    recomputed: bool = False


class TextShape(Part):
    """Statistics of the predictions, as means over the test split; shares in 0-1.

    For predictions of another tool, the share at the cap is unknown, and so may be what needs the document.
    """

    prediction_words: float
    reference_words: float
    share_at_cap: float | None
    share_empty: float
    novel_bigrams: float | None
    longest_copied_words: float | None
    repeated_trigrams: float


class Architecture(Part):
    """The shape of the base model, as its configuration gives it."""

    model_type: str
    num_blocks: int
    hidden_size: int

    @property
    def is_gpt2_small(self) -> bool:
        """Whether it has the shape of GPT-2 small, which the report's equations are written for."""
        return (self.model_type, self.num_blocks, self.hidden_size) == ("gpt2", 12, 768)


class Provenance(Part):
    """What the figures depend on."""

    time: str
    command: str
    versions: dict[str, str]
    commit: str | None
    dirty: bool | None
    model: str
    model_fingerprint: str | None
    synthetic_model: bool = False  # whether the model is an embedded one
    architecture: Architecture | None = None  # None: no model, or a record from before it was recorded
    hardware: dict[str, Any]
    device: str
    precision: str


class Record(Part):
    """`record.json`: one run, which is a method of the suite with one seed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    label: str
    kind: str
    seed: int
    status: Literal["done", "failed"]
    config: dict[str, Any]
    options: dict[str, Any]
    parameters: Parameters | None = None
    loss: Loss = Loss()
    rouge: Rouge | None = None
    text_shape: TextShape | None = None
    further_scores: dict[str, float] = {}  # scores of other metrics, as means over the test split
    signatures: dict[str, str] = {}  # of every metric, by name
    cost: Cost = Cost()
    data: Data | None = None
    search: SearchResult | None = None
    training: TrainingSummary | None = None
    notes: dict[str, Any] = {}
    provenance: Provenance | None = None
    # SHA-256 of history, predictions and the adapter's two JSON files, by path; {}: not recorded
    files: dict[str, str] = {}
    texts_left_out: bool = False  # `predictions.jsonl` is a copy with the SHA-256 of each text instead of the text
    error: str | None = None
    digest: str | None = None  # of everything that is the same in a repeated run; None in records of earlier versions

    @property
    def trained(self) -> bool:
        """Whether anything was trained in the run."""
        return self.parameters is not None and self.parameters.num_trainable_parameters > 0

    def pinned_config(self) -> dict[str, Any]:
        """The settings, with model and data revisions on the Hub replaced by the commits that were read.

        A branch may have moved to another commit since.
        """
        fingerprint = self.provenance.model_fingerprint if self.provenance is not None else None
        name, _, commit = (fingerprint or "").rpartition("@")  # for a local model, it is only a digest
        model = commit if name and name == self.config.get("model") else None
        pinned = {"model_revision": model, "data_revision": self.data.commit if self.data is not None else None}
        return {**self.config, **{key: value for key, value in pinned.items() if value is not None}}

    def __repr__(self) -> str:
        loss = "" if self.loss.test is None else f", test loss {self.loss.test:.4f}"
        score = "" if self.rouge is None else f", R-1 {self.rouge.rouge1:.2f}"
        return f"<Record {self.label}, seed {self.seed}: {self.status}{loss}{score}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        from triptych.results.html import record_html

        return record_html(self)

    @model_validator(mode="before")
    @classmethod
    def _is_as_written(cls, data: Any) -> Any:
        """Refuse a record that was changed in any way after it was written."""
        if not isinstance(data, dict) or not isinstance(data.get("digest"), str):
            return data
        if not any(data["digest"] == _digest(data, readings) for readings in (READINGS, READINGS_BEFORE)):
            raise ValueError(
                "the record was changed after its run wrote it (its digest does not match); if the change is intended, "
                "remove its digest"
            )
        return data

    def sealed(self) -> dict[str, Any]:
        """The record as JSON for `record.json`, with its digest."""
        data = self.model_dump(mode="json")
        return {**data, "digest": _digest(data)}


def _digest(record: dict[str, Any], readings: tuple[str, ...] = READINGS) -> str:
    """SHA-256 of what is the same in a repeated run: a record as JSON without times, memory, energy, date and command.

    Whitespace and the order of keys do not matter.

    Args:
        record: the record as JSON.
        readings: name endings of what is left out.
    """

    def repeated(value: Any, path: str = "") -> Any:
        if not isinstance(value, dict):
            return [repeated(each, path) for each in value] if isinstance(value, list) else value
        return {
            name: repeated(each, f"{path}.{name}")
            for name, each in value.items()
            if f"{path}.{name}" not in NOT_REPEATED and not name.endswith(readings)
        }

    return hashlib.sha256(json.dumps(repeated(record), sort_keys=True).encode()).hexdigest()


class Prediction(Part):
    """A line of `predictions.jsonl`, in file order of the test split."""

    id: str
    prediction: str
    reference: str
    scores: dict[str, float]
    num_tokens: int | None = None
    at_cap: bool = False


class Estimate(Part):
    """A mean over seeds and documents with its 95% interval; low and high are None if no spread can be estimated."""

    mean: float
    low: float | None
    high: float | None


class RowLoss(Part):
    """Means over seeds of a method's losses; `mean`, `low` and `high` are for the test loss."""

    initial: float | None = None
    validation: float | None = None
    test: float | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None


class RowSummary(Part):
    """One method, baseline or system of a comparison, over its seeds."""

    label: str
    kind: str
    seeds: list[int]
    failed_seeds: list[int]
    rouge1: Estimate | None
    rouge2: Estimate | None
    rougeL: Estimate | None
    rougeLsum: Estimate | None
    loss: RowLoss
    cost: dict[str, float | None]  # means over seeds of the numeric fields of `Cost`; sums for `SEARCH_COSTS`
    parameters: Parameters | None
    text_shape: TextShape | None  # means over seeds
    further_scores: dict[str, float | None] = {}  # means over seeds
    rouge_precision: dict[str, float | None] = {}  # means over seeds, by type; {} if no run has them
    rouge_recall: dict[str, float | None] = {}
    # standard deviation of the seeds' means, for `loss` and each ROUGE type; empty with one seed
    seed_sd: dict[str, float] = {}
    shared_device: bool = False  # others used the GPU while a run trained: times and energy include theirs
    flags: list[str]  # warnings about this method, in full sentences

    @property
    def failed(self) -> bool:
        """Whether no seed of the method finished, so that there is nothing to show."""
        return bool(self.failed_seeds) and self.rouge1 is None and self.loss.test is None

    @property
    def trained(self) -> bool:
        """Whether the method trained anything."""
        return self.num_trainable_parameters > 0

    @property
    def num_trainable_parameters(self) -> int:
        """Parameters that the method trained; 0 for a method without a model."""
        return 0 if self.parameters is None else self.parameters.num_trainable_parameters


class PairedTest(Part):
    """Method `a` against method `b` on one measure, on the same documents.

    `low` and `high` bound the difference at the level `confidence`, which the correction assigns to this test: they
    exclude zero exactly when `p_value_adjusted` is below 0.05. None: the spread cannot be estimated.
    """

    a: str
    b: str
    metric: str
    difference: float  # mean of a - b over documents and seeds
    low: float | None
    high: float | None
    p_value: float
    p_value_adjusted: float  # corrected over all pairs of methods on this measure
    decision: Literal["different", "equivalent", "undecided"] | None = None  # None in files from before it was recorded
    # of the measure; the verdict is based on the primary one
    role: Literal["primary", "second", "secondary"] = "secondary"
    units: str = ""
    confidence: float = 0.95  # of low and high
    single_low: float | None = None  # the uncorrected 95% interval of this difference
    single_high: float | None = None
    margin: float | None = None  # smaller differences do not matter
    p_not_worse: float | None = None  # corrected, one-sided: against a being worse than b by the margin or more
    p_not_better: float | None = None  # the same for b and a; equivalent if both are below 0.05
    detectable: float | None = None  # the difference that this design detects with 80% power after correction
    seeds: list[int] = []  # numbers of seeds of a and b; 0 for an untrained method
    # what the test is about: with one seed, only the trained models
    inference: Literal["methods", "trained models"] = "methods"


class ScalingPoint(Part):
    """The trained methods at one number of training documents; the last point is the suite itself."""

    train_documents: int
    rows: dict[str, RowSummary]
    tests: list[PairedTest]  # between methods at this size, corrected over the pairs of each measure
    gains: list[PairedTest]  # a method (`LABEL@N`) against itself at the size before, Holm over a measure's gains
    verdict: str


class Inference(Part):
    """How the intervals and decisions of a comparison were made."""

    primary: str  # the measure that the verdict is based on, from the suite
    margins: dict[str, float]  # of each tested measure, in its unit
    units: dict[str, str]  # of each tested measure
    confidence: float  # of a method's intervals, and jointly of one measure's differences
    level: float  # of the corrected tests
    intervals: str
    correction: str
    power: float  # at which `detectable` is given
    detectable: dict[str, float | None]  # by measure, over the pairs: the largest difference that may go undetected


class OutputChecks(Part):
    """What the summaries contain that their articles do not, and how they end; see `triptych.analysis.checks`."""

    documents_known: bool  # false: the articles could not be read, so only measures that need none were computed
    num_documents: int  # whose summaries were checked, the same for every method
    units: dict[str, str]  # of every measure
    references: dict[str, float]  # the means of the references themselves
    rows: dict[str, dict[str, Estimate]]  # by label and measure
    tests: list[PairedTest]  # corrected over the pairs of each measure


class KeptChecks(Part):
    """`checks.json` of a copy without texts: what was found before the texts were removed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    checks: OutputChecks


class Comparison(Part):
    """`comparison.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    source: Literal["runs", "files"] = "runs"  # of the predictions: this tool's runs, or files written by other tools
    suite: str
    model: str  # empty for files
    data: str
    synthetic: bool  # whether the model or the data are embedded ones, which say nothing about real ones
    synthetic_parts: list[SyntheticPart] = []  # which of them; also empty in files from before it was recorded
    num_documents: int
    subset: str = ""  # a sentence if these are only part of the test set; else empty
    seeds: list[int]
    rows: dict[str, RowSummary]
    tests: list[PairedTest]
    pareto: list[str]  # labels that no other method beats on both test R-1 and training time
    pareto_parameters: list[str] = []  # the same for test R-1 and trainable parameters
    verdict: str  # a few sentences; "no clear winner" is possible
    flags: list[str]  # warnings about the whole comparison
    signature: str | None  # of the ROUGE scores
    inference: Inference | None = None  # None in files from before it was recorded
    scaling: list[ScalingPoint] = []  # by increasing size; empty if the suite asks for none
    checks: OutputChecks | None = None  # of the summaries; None in files from before there were any
    design: dict[str, float] | None = None  # the suite's sizes as chosen for a budget; None if they were not

    @property
    def primary_measure(self) -> str:
        """The measure that the verdict is based on: the suite's, or `rouge1` in files from before it was recorded."""
        return "rouge1" if self.inference is None else self.inference.primary

    def __repr__(self) -> str:
        seeds = formats.number_of(len(self.seeds), "seed")
        documents = formats.number_of(self.num_documents, "test document")
        return f"<Comparison {self.suite!r}: {', '.join(self.rows)}; {seeds}, {documents}. {self.verdict}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        from triptych.results.html import comparison_html

        return comparison_html(self)

    def to_frame(self) -> Any:
        """The methods as a pandas DataFrame: the columns of `comparison.csv`, indexed by label."""
        import pandas

        from triptych.results.flat import flat_rows

        return pandas.DataFrame(flat_rows(self)).set_index("label")

    def tests_to_frame(self) -> Any:
        """The paired tests as a pandas DataFrame: a row for each pair and measure, with the fields of `PairedTest`."""
        import pandas

        return pandas.DataFrame([test.model_dump() for test in self.tests], columns=list(PairedTest.model_fields))


class MeasureChance(Part):
    """Standard deviations that a plan assumes for the difference between two trained methods on one measure."""

    measure: str
    units: str
    source: str  # the pilots, or a note that it is assumed
    pair: list[str]  # the two methods whose documents vary most; empty if assumed
    document_sd: float  # of a document's difference, without the seeds' part
    noise_sd: float  # seed-by-document, for the difference with one seed of each method
    seed_sd: float  # of a seed's mean over all documents, for one method
    seed_sd_low: float | None  # 90% range from the pilot's seeds; None if assumed
    seed_sd_high: float | None


class PlannedDesign(Part):
    """A design, the same for every method."""

    train_documents: int
    max_epochs: int
    validation_documents: int
    test_documents: int
    seeds: list[int]
    power: float  # probability of detecting the requested difference
    detectable: float  # difference detected with 80% power, in the primary measure's units
    detectable_loss: float | None  # the same for the test loss, in nats; None if not known
    seconds: float | None  # of all runs in sequence, at most; None if costs are not known


class Need(Part):
    """The minimum number of test documents for a number of seeds."""

    seeds: int
    documents: int | None  # None if no number of documents is enough
    available: bool  # whether the data have that many
    seconds: float | None


class DesignPlan(Part):
    """The output of `triptych plan`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    primary: str
    detect: float  # the true difference to detect, in the primary measure's units
    detect_loss: float | None  # on the test loss, in nats
    power: float  # required probability of detecting it
    level: float  # two-sided level of one test after correction
    pairs: int  # of trained methods, over which tests are corrected
    chance: list[MeasureChance]  # the primary measure first
    needs: list[Need]  # by number of seeds
    needs_loss: list[Need]
    bottleneck: Literal["documents", "seeds", "none"]  # of the suite's design
    own: PlannedDesign  # the suite as it is
    # the cheapest that detects the difference with the suite's training; None if there is none
    needed: PlannedDesign | None
    within_seconds: float | None = None
    best: PlannedDesign | None = None  # for the budget
    row_seconds: dict[str, float] = {}  # for each method in the design that `command` runs
    sentences: list[str]  # full sentences
    command: str


class ScoredFile(Part):
    """One file of predictions or references."""

    name: str  # of the system; empty for references
    seed: int = 0  # index of the system's set of predictions, in the order given
    file: str
    sha256: str


class ScoredFiles(Part):
    """`scored.json`: what a folder of scored predictions was made from; each set is a run in `runs/NAME/SEED`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    data: str  # where the references come from, in words
    systems: list[ScoredFile]
    references: ScoredFile | None = None
    joined_by: Literal["id", "order"]
    documents_known: bool
    settings: dict[str, Any] = {}  # suite keys for scoring and judging
    flags: list[str] = []  # warnings, in full sentences
    time: str
    command: str
    versions: dict[str, str]


class RescoredRun(Part):
    """A run's scores by one metric: by score name, one for each document in the order of the predictions."""

    label: str
    seed: int
    predictions_sha256: str  # of the scored predictions.jsonl
    scores: dict[str, list[float]]


class Rescored(Part):
    """`OUT/scores/METRIC.json`: scores of a results folder's stored predictions, computed after its runs."""

    schema_version: Literal[1] = SCHEMA_VERSION
    metric: str
    signature: str
    documents_known: bool
    runs: list[RescoredRun]
    time: str
    command: str
    versions: dict[str, str]
