"""The plan of a suite as plain data: its methods and runs, the data, disk space; known before any run."""

from pydantic import BaseModel, ConfigDict

from triptych.config.schema import Suite
from triptych.results.records import Data


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedRow(_Part):
    """The runs of one method.

    Attributes:
        label: the method's label.
        kind: its kind of method or baseline.
        seeds: its seeds, one run each.
        done: number of runs already finished.
        num_trainable_parameters: parameters it trains; None: it has no model.
        num_added_parameters: parameters it adds to the base model; None: it has no model.
        targets: last parts of the names of the matrices it adapts; empty: none.
        stored_bytes: bytes of the trained parameters that one run stores.
        checkpoint_bytes: maximum bytes of the checkpoints of an unfinished run.
    """

    label: str
    kind: str
    seeds: tuple[int, ...]
    done: int = 0
    num_trainable_parameters: int | None = None
    num_added_parameters: int | None = None
    targets: tuple[str, ...] = ()
    stored_bytes: int = 0
    checkpoint_bytes: int = 0


class ExamplePair(_Part):
    """A training pair as the model reads it, with both texts shortened.

    Attributes:
        id: the pair's id.
        document: its beginning.
        summary: its beginning.
        document_tokens: number of document tokens that are read.
        summary_tokens: number of tokens in the whole summary.
    """

    id: str
    document: str
    summary: str
    document_tokens: int
    summary_tokens: int


class SuitePlan(_Part):
    """What a suite will do.

    Attributes:
        suite: its settings with every key set.
        preset: the preset that they are based on.
        out: the results folder.
        data: the documents: how many are used, dropped and truncated, which splits were cut, and what is not read.
        columns: which column is read as `document`, `summary` and `id`; empty if the source has no columns.
        example: the first training pair.
        language: what ROUGE counts, and why.
        num_base_parameters: parameters of the base model; None: no method has a model.
        rows: the methods in order.
        smaller: the suites of its data-size curve, each on fewer training documents.
        notes: sentences on features of the model that the suite does not use, such as a chat template.
        model_commit: the commit of a model on the Hub; None: it is local. That of the data is in `data`.
    """

    suite: Suite
    preset: str
    out: str
    data: Data
    columns: dict[str, str]
    example: ExamplePair
    language: str
    num_base_parameters: int | None
    rows: tuple[PlannedRow, ...]
    smaller: tuple["SuitePlan", ...] = ()
    notes: tuple[str, ...] = ()
    model_commit: str | None = None

    @property
    def num_runs(self) -> int:
        """Number of runs in this suite, including finished ones, without those of `smaller`."""
        return sum(len(row.seeds) for row in self.rows)

    @property
    def num_left(self) -> int:
        """Number of runs that are not done, including those of `smaller`."""
        return self.num_runs - sum(row.done for row in self.rows) + sum(plan.num_left for plan in self.smaller)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all stored parameters of this suite, without those of `smaller`."""
        return sum(row.stored_bytes * len(row.seeds) for row in self.rows)

    @property
    def checkpoint_bytes(self) -> int:
        """Maximum bytes of the checkpoints of one unfinished run."""
        return max((row.checkpoint_bytes for row in self.rows), default=0)
