"""A method, baseline, data set, metric or model type in one file outside the tree works everywhere that ours do."""

import copy
import csv
import json
from pathlib import Path

import pytest
import torch
import transformers

from support.laws import (
    law_can_be_sketched,
    law_explained,
    law_gradients_reach_exactly_what_is_trained,
    law_only_what_is_trained_changes,
    law_paths_agree,
    law_saved_is_whole,
    law_trains_exactly_what_it_says,
)
from support.worlds import VOCABULARY, World
from triptych import cli, registry
from triptych.contracts import Context, Family, Method, Metric
from triptych.errors import ModelError
from triptych.methods.last_layers import LastLayers
from triptych.models.parts import take_apart
from triptych.plugins import import_plugins
from triptych.registry import registered
from triptych.results.records import Record

METHOD = '''from pydantic import Field
from triptych.contracts import AdaptedModel, Method
from triptych.registry import register


@register("norms")
class Norms(Method):
    """Train the norms of the last blocks."""
    last: int = Field(1, ge=1, description="how many blocks' norms are trained")

    def adapt(self, parts, context):
        parts.model.requires_grad_(False)
        for block in parts.blocks[-self.last:]:
            [p.requires_grad_(True) for p in block.parameters() if p.ndim == 1 and len(p) == parts.hidden_size]
        return AdaptedModel(parts)
'''
BASELINE = '''from triptych.contracts import Baseline
from triptych.registry import register


@register("first-words")
class FirstWords(Baseline):
    """The first twelve words."""

    def predict(self, documents):
        return [" ".join(document.split()[:12]) for document in documents]
'''
DATASET = '''from triptych.contracts import Dataset, Example
from triptych.registry import register


@register("weather")
class Weather(Dataset):
    """Days of weather, all alike."""

    def splits(self):
        return ("train", "validation", "test")

    def examples(self, split):
        for day in range(9):
            text = f"On day {day} of {split} it rained in the north. It was dry in town."
            yield Example(f"{split}-{day}", text, f"Rain {day}.")

    def fingerprint(self):
        return "weather 1"
'''
METRIC = '''from triptych.contracts import Metric
from triptych.registry import register


@register("rain")
class Rain(Metric):
    """Whether rain is spoken of."""

    def score(self, prediction, reference, document):
        return {"rain": float("rain" in prediction.lower())}

    def signature(self):
        return "rain|substring"
'''
SMALL = [
    "limits.document_tokens=64",
    "limits.summary_tokens=16",
    "training.max_epochs=1",
    "decoding.max_new_tokens=6",
    "decoding.num_beams=1",
]


@pytest.fixture(scope="module")
def files(own_registry, tmp_path_factory) -> list[Path]:
    """One file for each of them."""
    folder = tmp_path_factory.mktemp("mine")
    made = []
    for name, text in (("norms", METHOD), ("first_words", BASELINE), ("weather", DATASET), ("rain", METRIC)):
        made.append(folder / f"{name}.py")
        made[-1].write_text(text)
    import_plugins(map(str, made))
    return made


@pytest.fixture(scope="module")
def finished(files) -> Path:
    """A suite of plug-ins only, run by a command in separate processes."""
    folder = files[0].parent
    plugins = [part for file in files for part in ("--plugin", file.name)]  # as a user writes them, from that folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        command = ["compare", *plugins, "--preset", "demo", "--data", "weather", "--methods", "norms,first-words"]
        assert cli.main([*command, "--out", "out", "--set", "method.norms.last=2", *SMALL]) == 0
        yield folder / "out"


def test_a_method_of_fifteen_lines_goes_from_command_to_report(files, finished):
    """A plug-in method, with an option set on the command line, is in records, adapter, tables and both reports."""
    assert len([line for line in METHOD.splitlines() if line.strip()]) <= 15
    record = Record.model_validate_json((finished / "runs/norms/0/record.json").read_text())
    assert record.status == "done" and record.kind == "norms" and record.options["last"] == 2
    assert record.parameters.num_trainable_parameters == 2 * 6 * 128  # norms, and the two biases of the same width
    assert record.training.steps > 0 and record.cost.train_flops > 0
    assert (finished / "runs/norms/0/adapter/trained.safetensors").is_file()
    assert set(json.loads((finished / "comparison.json").read_text())["rows"]) == {"norms", "first-words"}
    assert "norms" in (finished / "report.html").read_text() and (finished / "report.pdf").read_bytes().startswith(
        b"%PDF"
    )


def test_a_baseline_and_a_data_set_in_a_file(finished):
    """The baseline's predictions for the data set's documents are in the results, and the record names the source."""
    record = Record.model_validate_json((finished / "runs/first-words/0/record.json").read_text())
    assert record.data.source == "weather" and record.data.splits["test"].used == 9
    lines = [json.loads(line) for line in (finished / "runs/first-words/0/predictions.jsonl").open()]
    assert lines[3]["prediction"] == "On day 3 of test it rained in the north. It was"
    assert lines[3]["reference"] == "Rain 3."


def test_a_metric_in_a_file_is_scored_recorded_and_tabled(finished):
    """The metric's scores are next to every prediction, their mean with its signature in the record and in every
    table."""
    record = Record.model_validate_json((finished / "runs/first-words/0/record.json").read_text())
    lines = [json.loads(line) for line in (finished / "runs/first-words/0/predictions.jsonl").open()]
    assert [line["scores"]["rain"] for line in lines] == [1.0] * 9
    assert record.further_scores == {"rain": 1.0} and record.signatures["rain"] == "rain|substring"
    with (finished / "comparison.csv").open() as file:
        assert {row["label"]: row["rain"] for row in csv.DictReader(file)}["first-words"] == "1.0"
    page = (finished / "report.html").read_text()
    assert page.index("Further scores") < page.index(">rain</th>")
    assert "| rain |" in (finished / "comparison.md").read_text()


def test_the_resolved_suite_is_resumed_with_its_plugins(files, finished, capsys):
    """`compare OUT/suite.json --plugin ...` keeps finished runs; without the plug-ins it says what is missing."""
    plugins = [part for file in files for part in ("--plugin", str(file))]
    record = finished / "runs/norms/0/record.json"
    before = record.stat().st_mtime_ns
    assert cli.main(["compare", "out/suite.json", "--out", "out", *plugins]) == 0
    assert record.stat().st_mtime_ns == before and "kept" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_tables", {**registry._tables, "method": {}})
        assert cli.main(["compare", "out/suite.json", "--out", "out"]) == 2
    assert "needs --plugin FILE.py" in capsys.readouterr().err


def test_plugins_are_listed_and_hold_the_laws(files, worlds, tmp_path, capsys):
    """`triptych list` shows plug-ins with their options, and a plug-in method obeys the laws like ours."""
    assert cli.main(["list", "--plugin", str(files[0])]) == 0
    text = capsys.readouterr().out
    for words in (
        "norms: Train the norms",
        "last (default 1): how many blocks' norms",
        "rain: Whether",
        "weather: Days",
    ):
        assert words in text
    method = registered(Method)["norms"]
    law_explained(method)
    for world in worlds.values():
        for law in (
            law_trains_exactly_what_it_says,
            law_gradients_reach_exactly_what_is_trained,
            law_paths_agree,
            law_only_what_is_trained_changes,
            law_can_be_sketched,
        ):
            law(method(), world)
        law_saved_is_whole(method(), world, tmp_path / type(world.prototype).__name__)


def test_two_metrics_with_one_score_are_refused(own_registry):
    """If two metrics give the same score, this is refused: neither silently overwrites the other."""
    from triptych.errors import ConfigError
    from triptych.run.scoring import score_predictions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_tables", {name: dict(table) for name, table in registry._tables.items()})

        @registry.register("once")
        class Once(Metric):
            """Gives one score."""

            def score(self, prediction, reference, document):
                return {"wetness": 0.0}

            def signature(self):
                return "once"

        @registry.register("again")
        class Again(Once):
            """Gives the same score."""

        class Split(list):
            def reference(self, index):
                return "a reference"

            def document(self, index):
                return "a document"

        with pytest.raises(ConfigError, match="'wetness', and so does another metric"):
            score_predictions(Split([0]), ["a prediction"], None, 9, None, "english")


# A model type


FAMILY = '''from triptych.contracts import Family, ModelParts
from triptych.registry import register


@register("olmo-hybrid")
class OlmoHybrid(Family):
    """OLMo Hybrid: attention and recurrence, two classes of blocks in one list."""

    model_types = ("olmo_hybrid",)

    def take_apart(self, model):
        trunk, head = model.model, model.lm_head
        return ModelParts(
            model=model, trunk=trunk, token_embedding=trunk.embed_tokens, blocks=trunk.layers,
            final_norm=trunk.norm, head=head,
            tied=head.weight is trunk.embed_tokens.weight, hidden_size=model.config.hidden_size,
            vocabulary_size=model.config.vocab_size, max_positions=model.config.max_position_embeddings,
            attention_projections=("q_proj", "k_proj", "v_proj"),
        )
'''


@pytest.fixture(scope="module")
def hybrid(worlds, tmp_path_factory) -> World:
    """A small random model whose blocks are of two classes."""
    torch.manual_seed(0)
    config = transformers.OlmoHybridConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        max_position_embeddings=128,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model, other = transformers.OlmoHybridForCausalLM(config).eval(), worlds["gpt2"]
    folder = tmp_path_factory.mktemp("hybrid")
    model.save_pretrained(folder)
    return World(model, folder, other.tokenizer, other.template, other.pairs, other.machine)


def test_a_model_that_structure_does_not_show_needs_a_file(hybrid):
    """If the blocks are not one list of similar modules nothing is guessed, and the message gives the remedy."""
    with pytest.raises(ModelError, match=r"0 lists of 4 blocks.*another-model\.md"):
        take_apart(copy.deepcopy(hybrid.prototype))


def test_a_model_type_in_a_file(hybrid, own_registry, tmp_path):
    """One file that names the parts is enough for methods, planning and the exact path."""
    file = tmp_path / "olmo_hybrid.py"
    file.write_text(FAMILY)
    import_plugins([str(file)])
    parts = hybrid.parts()
    assert len({type(block) for block in parts.blocks}) == 2 and not parts.tied
    for name in ("lora", "prompt-tuning", "last-layers"):
        method = registered(Method)[name]()
        law_paths_agree(method, hybrid)
        law_can_be_sketched(method, hybrid)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"final_norm": torch.nn.LayerNorm(4)}, "final_norm is not a part"), ({"tied": False}, "tied = False")],
    ids=["strange", "tied"],
)
def test_a_family_that_names_what_is_not_there_is_refused(own_registry, gpt2, change, said):
    """Parts that are not the model's, or a wrong tie, are refused before training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_tables", {name: dict(table) for name, table in registry._tables.items()})
        honest = gpt2.parts()

        @registry.register("wrong")
        class Wrong(Family):
            """Names one part wrongly."""

            model_types = ("gpt2",)

            def take_apart(self, model):
                """Name all parts but one correctly."""
                return type(honest)(**{**vars(honest), "model": honest.model, **change})

        with pytest.raises(ModelError, match=said):
            take_apart(honest.model)
        context = Context(gpt2.tokenizer, torch.Generator(), torch.arange(9))
        assert LastLayers().adapt(honest, context).parts is honest
