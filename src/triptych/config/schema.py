"""The sections and keys of a suite file, with their ranges, defaults and help."""

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from triptych.errors import ConfigError, explain_validation
from triptych.registry import Settings
from triptych.text import languages


class Section(Settings):
    """A table of keys, or the whole suite."""


class Columns(Section):
    """Which columns to read; a column that is not named is recognized by its usual names."""

    id: str | None = Field(None, description="the column with an id for each document")
    document: str | None = Field(None, description="the column with the documents")
    summary: str | None = Field(None, description="the column with the summaries")


class Split(Section):
    """How to split data that has no splits."""

    seed: int = Field(0, description="the seed of the split")
    fractions: tuple[float, float, float] = Field(
        (0.8, 0.1, 0.1), description="the fractions for training, validation and test; they sum to 1"
    )

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("three positive fractions that sum to 1 are needed (train, validation, test)")
        return value


class PromptSettings(Section):
    """The text that asks a model for a summary, the same for every method; `separator` comes after the document."""

    before: str = Field("", description="the text before the document; it may contain special tokens")
    chat: bool = Field(
        False,
        description="true: use the model's own chat template, with before, document and separator as the user's turn "
        "and the summary as the assistant's",
    )


class Limits(Section):
    """How much of the data is used, in documents and tokens; 0 documents means all."""

    train_documents: int = Field(21000, ge=0, description="training pairs, a seeded sample; 0: all")
    validation_documents: int = Field(6000, ge=0, description="validation pairs; 0: all")
    test_documents: int = Field(3000, ge=0, description="test pairs; 0: all")
    document_tokens: int = Field(512, ge=1, description="longer documents are truncated, and counted")
    summary_tokens: int = Field(128, ge=1, description="training pairs with a longer summary are dropped, and counted")


class Training(Section):
    """The training budget and recipe, the same for every method."""

    max_epochs: int = Field(10, ge=1, description="maximum number of epochs")
    eval_every: float = Field(
        1.0, gt=0, le=1, description="epochs between two evaluations of the validation split; 0.25 on large data"
    )
    patience: int = Field(2, ge=1, description="evaluations without a better validation loss before training stops")
    global_batch_size: int = Field(32, ge=1, description="documents per optimizer step")
    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        8,
        description='documents per forward pass on one device; "auto": the most that fit, found once per method '
        "and kept",
    )
    max_grad_norm: float = Field(1.0, gt=0, description="the gradient of trained parameters is clipped to this norm")
    warmup_fraction: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="the fraction of all optimizer steps (of at most 2 epochs for warmup_stable_decay) in which the "
        "learning rate rises",
    )
    schedule: Literal["warmup_stable_decay", "linear", "cosine", "constant"] = Field(
        "warmup_stable_decay",
        description="the learning rate after the warm-up: at its peak until validation stops improving, then to 0 from "
        "the best weights; or linear or cosine to 0 over max_epochs; or constant",
    )
    optimizer: Literal["adamw", "adafactor"] = Field(
        "adamw", description="the optimizer; adafactor needs less memory for its state"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="the precision of forward passes; auto: chosen for the device"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="dropout rate in training, for every method and wherever the model has dropout, including frozen "
        "parts; 0: off; not set: the model's own rates, only in what is trained",
    )


class Engine(Section):
    """How the work is carried out; no setting here changes a result."""

    plain: bool = Field(False, description="true: turn every exact saving off")
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full: each process of torchrun or accelerate launch holds a part of every weight, using torch's "
        "fully_shard (FSDP2), for models that do not fit on one device; no effect with one process",
    )


class Cache(Section):
    """Prepared data and trunk states, kept between runs."""

    max_gigabytes: float = Field(
        20, gt=0, le=1e9, description="above this size, the least recently used entries are deleted"
    )

    @property
    def max_bytes(self) -> int:
        """The same in bytes."""
        return int(self.max_gigabytes * 1e9)


class Decoding(Section):
    """How summaries are generated, the same for every method."""

    num_beams: int = Field(4, ge=1, le=1000, description="beams in beam search; 1: greedy")
    max_new_tokens: int = Field(128, ge=1, description="maximum tokens of a summary")
    no_repeat_ngram_size: int = Field(
        3, ge=0, description="no sequence of this many tokens occurs twice in a summary; 0: no such rule"
    )
    length_penalty: float = Field(
        0.0, description="a beam's score is divided by its length to this power; 0: unchanged; higher: longer summaries"
    )
    batch_size: int = Field(16, ge=1, description="documents summarized at once")
    min_new_tokens: int = Field(0, ge=0, description="minimum tokens of a summary; 0: no minimum")

    @model_validator(mode="after")
    def _least_below_most(self) -> "Decoding":
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is above max_new_tokens {self.max_new_tokens}")
        return self


class RougeSettings(Section):
    """What ROUGE counts, the same for every method."""

    language: languages.LanguageName = Field(
        languages.AUTO,
        description="english: as rouge_score; german, french, ru, ...: words of any script with that language's "
        "stemmer, if there is one; any: words of any script, no stemmer; auto: english if the references read like "
        "it, else no stemmer",
    )


class Search(Section):
    """The learning-rate search, with the same budget for every tuned method."""

    trials: int = Field(
        4, ge=0, description="learning rates in the first round; 0 or 1: no search, each method's default rate is used"
    )
    share: float = Field(
        0.35,
        gt=0,
        le=1,
        description="total optimizer steps of a method's trials, as a share of the shortest run that lowers the "
        "validation loss; every trial has at least one step",
    )
    validation_documents: int = Field(500, ge=1, description="maximum validation pairs that a trial is judged on")


class Tracking(Section):
    """Where a run's numbers are sent through accelerate, in addition to the record; documents are never sent."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)
    with_: Literal["tensorboard", "wandb", "trackio", "mlflow"] | None = Field(
        None, alias="with", description="the experiment tracker; its package must be installed"
    )


MEASURES = ("rouge1", "rouge2", "rougeL", "rougeLsum", "loss")  # the measures of paired tests


class Analysis(Section):
    """What the verdict is based on, chosen before anything is measured; changes no run."""

    primary: Literal["rouge1", "rouge2", "rougeL", "rougeLsum", "loss"] = Field(
        "rouge1",
        description="the measure that the verdict and `advise` judge by; the test loss is always shown next to it",
    )
    margin: float = Field(0.5, gt=0, description="ROUGE points; methods shown to differ by less are called equivalent")
    loss_margin: float = Field(0.02, gt=0, description="the same for the test loss, in nats per target token")

    def margin_of(self, measure: str) -> float:
        """The margin of a measure, in the measure's unit."""
        return self.loss_margin if measure == "loss" else self.margin


class ReportSettings(Section):
    """What the author adds to the report; changes no run and no figure."""

    title: str = Field("", max_length=300, description="the title of the report; empty: a default title")
    author: str = Field("", max_length=300, description="who wrote it")
    course: str = Field("", max_length=300, description="what it was written for")
    date: str = Field("", max_length=100, description="its date, as it should be printed")
    reason: str = Field("", max_length=2000, description="why less of the data or fewer epochs were used")


class Scaling(Section):
    """How methods gain from more data: they are trained again on fewer documents, all else the same."""

    train_documents: tuple[int, ...] = Field(
        (), description="training pairs of the other points, in increasing order; each sample contains the smaller ones"
    )

    @field_validator("train_documents")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in value) or list(value) != sorted(set(value)):
            raise ValueError("whole numbers of 1 or more in increasing order are needed, such as [100, 300, 1000]")
        return value


class ChosenDesign(Section):
    """The sizes that `compare --within` chose for a time; it writes this section, and a resumed suite keeps it."""

    within_seconds: float = Field(gt=0, description="the time for all runs, one after another")
    estimated_seconds: float = Field(ge=0, description="the most that they were estimated to take")
    detect: float = Field(gt=0, description="the true difference on the primary measure that the design should find")
    power: float = Field(ge=0, le=1, description="how often it finds that difference, as estimated")
    train_documents: int = Field(ge=1, description="training pairs chosen")
    max_epochs: int = Field(ge=1, description="maximum epochs chosen")
    test_documents: int = Field(ge=1, description="test documents chosen")
    seeds: int = Field(ge=1, description="number of seeds chosen")


MOST_NAME_BYTES = 200  # file systems limit the bytes of a name to 255, and `.before-1` may be added to it


def is_label(text: str) -> bool:
    """Whether a text can be a method's label: a folder name and an argument, so not like a path or an option."""
    if not 0 < len(text) <= 100 or not all(c.isalnum() or c in "-_." for c in text) or text[0] in ".-":
        return False
    return len(text.encode()) <= MOST_NAME_BYTES


DEFAULT_DATA = "abisee/cnn_dailymail"

Quantization = Literal["none", "nf4"]


class Suite(Section):
    """One comparison. Every key has a default: the preset `assignment`."""

    name: str = Field("assignment", description="names the results folder: results/NAME")
    model: str = Field("gpt2", description="a hub name, a transformers folder, or tiny (embedded)")
    model_revision: str = Field("main", description="a branch, tag or commit of a hub model")
    model_quantization: Quantization = Field(
        "none",
        description="how the base model's matrices are stored, the same for every method; nf4: in 4 bits with "
        "bitsandbytes, as in QLoRA, for methods that train none of the model's own weights",
    )
    data: str = Field(DEFAULT_DATA, description="a hub name, a folder, a file, or newswire (embedded)")
    data_config: str | None = Field(
        None, description="the configuration of a hub data set; CNN/DailyMail's is 3.0.0, without anonymized names"
    )
    data_revision: str = Field("main", description="a branch, tag or commit of a hub data set")
    methods: tuple[str, ...] = Field(
        ("untuned", "lead-3", "prompt-tuning", "lora", "lora-all", "last-layers", "last-head", "full"),
        description="labels of the methods and baselines to compare",
    )
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), description="the random seeds; methods that do not train run once, with the first"
    )
    separator: str = Field("\n\nTL;DR:", description="the text between document and summary, the same for every method")
    prompt: PromptSettings = PromptSettings()
    columns: Columns = Columns()
    split: Split = Split()
    limits: Limits = Limits()
    training: Training = Training()
    engine: Engine = Engine()
    cache: Cache = Cache()
    decoding: Decoding = Decoding()
    rouge: RougeSettings = RougeSettings()
    search: Search = Search()
    tracking: Tracking = Tracking()
    scaling: Scaling = Scaling()
    analysis: Analysis = Analysis()
    report: ReportSettings = ReportSettings()
    design: ChosenDesign | None = None
    method: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of each method, by label; an additional label also gives its kind"
    )

    @model_validator(mode="before")
    @classmethod
    def _configuration_of_cnn_dailymail(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and settings.get("data", DEFAULT_DATA) == DEFAULT_DATA:
            return {**settings, "data_config": settings.get("data_config") or "3.0.0"}
        return settings

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        # OUT is results/NAME unless --out is given: a stranger's suite must not choose another place.
        if (
            not value.isprintable()
            or not value.strip()
            or len(value) > 100
            or len(value.encode()) > MOST_NAME_BYTES
            or value.startswith(".")
            or set(value) & set("/\\")
        ):
            raise ValueError(
                "a folder name is needed: no '/', no '.' at the beginning, at most 100 characters and "
                f"{MOST_NAME_BYTES} bytes"
            )
        return value

    @field_validator("methods")
    @classmethod
    def _labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one method is needed")
        if len(set(value)) != len(value):
            raise ValueError("a method is named twice")
        for label in value:
            if not is_label(label):
                raise ValueError(
                    f"{label[:100]!r} cannot be a label: use letters, digits, '-', '_' and '.', at most 100 characters "
                    f"and {MOST_NAME_BYTES} bytes"
                )
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or min(value) < 0 or max(value) >= 2**32:
            raise ValueError("different seeds from 0 to 4294967295 are needed, at least one")
        return value

    def of_runs(self) -> dict[str, Any]:
        """The settings that define the runs, as JSON: all but [report], which only the report shows."""
        settings = self.model_dump(mode="json")
        del settings["report"]
        return settings


def make_suite(settings: dict[str, Any]) -> Suite:
    """Check settings and fill in the defaults.

    Raises:
        ConfigError: an unknown key (the message gives the nearest), a wrong type or a value out of range.
    """
    try:
        suite = Suite(**settings)
        json.dumps(suite.model_dump(mode="json"), ensure_ascii=False).encode()
        return suite
    except ValidationError as error:
        raise ConfigError(explain_validation(error, "", Suite)) from None
    except UnicodeEncodeError:
        raise ConfigError(
            "The suite contains bytes or half characters that are not Unicode text; write it in UTF-8."
        ) from None
    except TypeError as error:
        raise ConfigError(f"The suite has a key that is not a name: {error}.") from None
