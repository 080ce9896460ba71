"""A model is prepared in CPU memory and moved to a GPU once its weights are narrowed; tested without a GPU."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from support.worlds import OneProcess, World, disturb, gradients, in_bf16
from triptych.contracts import Method
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.model import EngineModel
from triptych.engine.savings import ready
from triptych.engine.savings.ready import make_ready
from triptych.errors import ConfigError
from triptych.machine import Machine
from triptych.methods.full import Full
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning
from triptych.plugins import import_plugins
from triptych.registry import registered

import_plugins()
METHODS: dict[str, Method] = {name: cls() for name, cls in registered(Method).items()}
FEW = {"lora": LoRA(rank=2), "full": Full(), "prompt": PromptTuning(num_virtual_tokens=4), "prefix": PrefixTuning()}


@pytest.fixture(params=list(FEW))
def few(request) -> Method:
    """One method for each place where something is trained."""
    return FEW[request.param]


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors in an attribute."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for each in value.values() for tensor in tensors_of(each))
    elif isinstance(value, list | tuple | set):
        yield from (tensor for each in value for tensor in tensors_of(each))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_of_a_model_is_left_behind(name, world):
    """For every registered method, on two families, everything a pass reads is on the device, including plain
    attributes."""
    method = METHODS[name]
    elsewhere = replace(world, machine=Machine(OneProcess("meta", "fp32"), "fp32"))
    try:
        model = elsewhere.model(method)
    except ConfigError as error:
        pytest.skip(str(error))
    assert not model.is_on_machine
    model.to_machine()
    assert model.is_on_machine
    left = [
        (path, name)
        for top in model.adapted.modules()
        for path, module in top.named_modules()
        for name, value in vars(module).items()
        for tensor in tensors_of(value)
        if not tensor.is_meta
    ]
    assert not left


def losses_and_gradients(world: World, model: EngineModel) -> list[Tensor]:
    """The losses of all targets, and the gradients of what is trained."""
    with world.machine.autocast():
        losses = target_losses(model, collate(world.pairs, world.template))
    return [losses.detach(), *gradients(model.adapted, losses.mean()).values()]


def made_ready(world: World, method: Method) -> EngineModel:
    """A prepared model, its adapter moved away from its initial values."""
    model = world.model(method)
    disturb(model.adapted)
    return make_ready(model)


def test_weights_are_narrow_when_they_move(world, few, monkeypatch):
    """Frozen matrices move to the device in bf16 and trained tensors in fp32; abilities and numbers are unchanged."""
    low, moved = in_bf16(world), []
    at_once = made_ready(low, few)

    def note(model: EngineModel) -> EngineModel:
        moved.append({name: p.dtype for name, p in model.parts.model.named_parameters() if p.ndim == 2})
        return model

    monkeypatch.setattr(EngineModel, "is_on_machine", False)
    monkeypatch.setattr(EngineModel, "to_machine", note)
    later = made_ready(low, few)
    (dtypes,) = moved
    trained = later.adapted.trained_parameters()
    assert dtypes == {name: torch.float32 if name in trained else torch.bfloat16 for name in dtypes}
    assert later.can == at_once.can
    for found, wanted in zip(losses_and_gradients(low, later), losses_and_gradients(low, at_once), strict=True):
        assert torch.equal(found, wanted)


def test_a_family_of_the_plain_path_moves_as_it_is(worlds, monkeypatch):
    """A family on the plain path keeps all its weights in fp32 when it is moved."""
    monkeypatch.setattr(ready, "head_is_plain", lambda adapted: False)
    monkeypatch.setattr(EngineModel, "is_on_machine", False)
    model = make_ready(in_bf16(worlds["llama"]).model(LoRA(rank=2)))
    assert not model.can.logits_at_targets
    assert {parameter.dtype for parameter in model.parts.model.parameters()} == {torch.float32}


def test_a_gpu_without_room_is_probed_from_main_memory(world, few, monkeypatch):
    """If the weights do not fit in fp32, probing finds the same, and every tensor is put back."""
    low, placed, asked = in_bf16(world), {}, []
    expected = made_ready(low, few).can

    def no_room(machine: Machine, num_bytes: int) -> bool:
        asked.append(num_bytes)
        return False

    def note(model: EngineModel) -> EngineModel:
        modules = model.adapted.modules()
        placed.update({t: t.data_ptr() for each in modules for t in (*each.parameters(), *each.buffers())})
        return model

    monkeypatch.setattr(EngineModel, "is_on_machine", False)
    monkeypatch.setattr(EngineModel, "to_machine", note)
    monkeypatch.setattr(Machine, "has_room", no_room)
    model = made_ready(low, few)
    narrow = {tensor: place for tensor, place in placed.items() if tensor.dtype == torch.bfloat16}
    assert model.can == expected
    assert asked[-1] == 4 * sum(tensor.numel() for tensor in narrow)
    assert {tensor: tensor.data_ptr() for tensor in narrow} == narrow


def test_only_a_gpu_is_asked_for_room(machine):
    """Only a GPU's memory is checked; a CPU is assumed to have enough."""
    assert machine.has_room(1 << 60)
