"""What a suite is going to do, as plain data: its methods and runs, the data as it is read, disk; known at once."""

from pydantic import BaseModel, ConfigDict

from triptych.config.schema import Suite
from triptych.results.records import Data


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedRow(_Part):
    """The runs of one method.

    Attributes:
        label: the method's.
        kind: the method or baseline.
        seeds: one run each.
        done: how many of the runs are finished already.
        num_trainable_parameters: what it trains; None: it has no model.
        num_added_parameters: what it adds to the base model; None: it has no model.
        targets: endings of the names of matrices that the method adapts; empty: none.
        stored_bytes: of what one run stores of its trained parameters.
        checkpoint_bytes: of its checkpoints while a run is unfinished, at most.
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
    """A training pair as it is read, both texts shortened.

    Attributes:
        id: the pair's.
        document: its beginning.
        summary: its beginning.
        document_tokens: how many tokens of the document are read.
        summary_tokens: tokens of the whole summary.
    """

    id: str
    document: str
    summary: str
    document_tokens: int
    summary_tokens: int


class SuitePlan(_Part):
    """What a suite is going to do.

    Attributes:
        suite: its settings, every key written out.
        preset: the preset that they began from.
        out: the results folder.
        data: the documents: how many are used, dropped and truncated, what was cut, what is not read.
        columns: which column is read as `document`, `summary` and `id`; empty where the source has no columns.
        example: the first training pair.
        language: what ROUGE counts, and why.
        num_base_parameters: of the base model; None: no method has a model.
        rows: in order.
        smaller: the suites of its data-size curve, on fewer training documents each.
        notes: sentences on what the suite leaves unused of its model, such as a chat template.
        model_commit: of a model on the Hub; None: it is local. That of the data is in `data`.
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
        """Runs of this suite, those that are done among them; those of `smaller` come on top."""
        return sum(len(row.seeds) for row in self.rows)

    @property
    def num_left(self) -> int:
        """Runs that are not done, those of `smaller` among them."""
        return self.num_runs - sum(row.done for row in self.rows) + sum(plan.num_left for plan in self.smaller)

    @property
    def stored_bytes(self) -> int:
        """Of all trained parameters of this suite; those of `smaller` come on top."""
        return sum(row.stored_bytes * len(row.seeds) for row in self.rows)

    @property
    def checkpoint_bytes(self) -> int:
        """Of the checkpoints of one run while it is unfinished, at most."""
        return max((row.checkpoint_bytes for row in self.rows), default=0)
