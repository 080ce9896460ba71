"""`training.dropout`: the model's rates only in what is trained, or one rate in every row at every place."""

import pytest
import torch
import transformers
from torch import nn

from support.families import FAMILIES, SHAPE
from triptych.contracts import Method
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.model import EngineModel
from triptych.engine.modes import dropout_rates
from triptych.engine.savings.ready import make_ready
from triptych.engine.savings.trunk_cache import usable_from
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.base import BaseModel
from triptych.models.dropout import has_dropout, with_dropout
from triptych.run.notes import notes_on_training

ROWS: dict[str, Method] = {
    "full": Full(),
    "last": LastLayers(num_blocks=1),
    "lora": LoRA(rank=2),
    "prompt": PromptTuning(num_virtual_tokens=3),
}
MPT = {"vocab_size": 64, "d_model": 32, "n_heads": 4, "n_layers": 2}
KINDS = {"GPT2": FAMILIES["GPT2"], "OPT": FAMILIES["OPT"], "Bloom": SHAPE, "Falcon": FAMILIES["Falcon"], "Mpt": MPT}
KINDS |= {"Llama": FAMILIES["Llama"], "GPTNeoX": FAMILIES["GPTNeoX"], "Phi": FAMILIES["Phi"]}


def prepared(world, method: Method, rate: float | None) -> EngineModel:
    """A row, prepared as for a run."""
    untouched = BaseModel(str(world.folder)).load(rate)

    def change(parts):
        return method.adapt(parts, world.context())

    return EngineModel.assemble(untouched, change, world.template, world.machine, dropout_everywhere=bool(rate))


@pytest.mark.parametrize("family", KINDS)
def test_a_rate_reaches_every_place_of_a_family(family):
    """A rate reaches modules and attributes alike, also in nested configurations; 0 leaves none, and the original is
    unchanged."""
    config = getattr(transformers, f"{family}Config")(**KINDS[family])
    before = config.to_dict()
    for rate in (0.25, 0.0):
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(with_dropout(config, rate)).train()
        assert dropout_rates(model) == ([rate] if rate else [])
        assert all(module.p == rate for module in model.modules() if isinstance(module, nn.Dropout))
    assert has_dropout(config) and config.to_dict() == before


def test_blocks_are_not_skipped_where_a_rate_is_set():
    """A family that drops whole blocks does not if a rate is set, and its other keys are unchanged."""
    config = transformers.OPTConfig(**FAMILIES["OPT"], layerdrop=0.5)
    changed = with_dropout(config, 0.1)
    assert changed.layerdrop == 0.0 and changed.dropout == 0.1 and changed.hidden_size == config.hidden_size


def test_a_family_without_dropout_is_known():
    """If a configuration names no rate, there is none to set."""
    assert not has_dropout(transformers.MambaConfig()) and has_dropout(transformers.GPT2Config())


@pytest.mark.parametrize("name", ROWS)
def test_a_number_is_the_same_for_every_row(name, gpt2):
    """With a number every row trains with that dropout, including embeddings and frozen blocks; with 0 none does."""
    model = prepared(gpt2, ROWS[name], 0.25)
    assert notes_on_training(model) == {"dropout": [0.25], "residual_stream": "float32"}
    assert not any(module.training for module in model.parts.model.modules())
    model.train()
    assert all(module.training for module in model.parts.model.modules())
    batch, losses = collate(gpt2.pairs, gpt2.template), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(target_losses(model, batch))
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    assert notes_on_training(prepared(gpt2, ROWS[name], 0.0))["dropout"] == []


def test_without_a_number_the_models_own_runs_in_what_is_trained(gpt2):
    """GPT-2's 0.1 in full fine-tuning and in trained blocks; none in LoRA and prompt tuning, as before."""
    found = {name: notes_on_training(prepared(gpt2, method, None))["dropout"] for name, method in ROWS.items()}
    assert found == {"full": [0.1], "last": [0.1], "lora": [], "prompt": []}


def test_what_is_not_exact_with_dropout_is_not_used(gpt2):
    """With dropout in frozen blocks there is no trunk cache, and in fp32 the last block is computed in full in
    training."""
    plain = make_ready(prepared(gpt2, ROWS["last"], None))
    assert usable_from(plain) == 2
    dropping = make_ready(prepared(gpt2, ROWS["last"], 0.25))
    assert usable_from(dropping) is None and dropping.can.prune and not dropping.can.prune_in_training
    off = make_ready(prepared(gpt2, ROWS["last"], 0.0))
    assert usable_from(off) == 2 and off.can.prune_in_training
    assert make_ready(prepared(gpt2, ROWS["lora"], None)).can.prune_in_training


def test_evaluation_has_no_dropout(gpt2):
    """Outside training, losses are those of the model, whatever the rate."""
    batch = collate(gpt2.pairs, gpt2.template)
    with torch.no_grad():
        losses = [target_losses(prepared(gpt2, ROWS["lora"], rate), batch) for rate in (None, 0.0, 0.5)]
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])
