"""Messages about a user's method whose tensors cannot be trained or counted as they are."""

import pytest
import torch
from torch import nn

from triptych.config import reading
from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.errors import ConfigError
from triptych.registry import register
from triptych.run import entries, experiment
from triptych.run.events import NoteEvent, ignore
from triptych.run.preflight import CheckedSuite, check_suite, temporary_cache

SMALL = {
    "limits": {"train_documents": 8, "validation_documents": 2, "test_documents": 2},
    "training": {"max_epochs": 1},
    "decoding": {"max_new_tokens": 4, "num_beams": 1},
    "search": {"trials": 0},
}


class _Scaled(nn.Module):
    def __init__(self, inner: nn.Module, scale: torch.Tensor):
        super().__init__()
        self.inner, self.scale = inner, nn.Parameter(scale)

    def forward(self, hidden):
        return self.inner(hidden) * self.scale


@pytest.fixture(scope="module", autouse=True)
def _methods(own_registry):
    def scaling(parts: ModelParts, scale: torch.Tensor) -> AdaptedModel:
        parts.model.requires_grad_(False)
        parts.blocks[-1].mlp = _Scaled(parts.blocks[-1].mlp, scale)
        return AdaptedModel(parts)

    @register("scaled-anywhere")
    class Anywhere(Method):
        """Scales the last block's MLP, on the CPU whatever the model's device."""

        def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
            return scaling(parts, torch.ones(parts.hidden_size))

    @register("scaled-there")
    class There(Method):
        """Scales the last block's MLP, on the model's device."""

        def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
            return scaling(parts, torch.ones(parts.hidden_size, device=parts.device))

    @register("forgetful")
    class Forgetful(Method):
        """Freezes the model and forgets the rest."""

        def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
            parts.model.requires_grad_(False)
            return AdaptedModel(parts)


def _checked(*methods: str) -> CheckedSuite:
    settings = reading.merge_tables(reading.preset_settings("demo"), SMALL | {"methods": list(methods)})
    suite, table = entries.resolve(settings)
    with temporary_cache() as cache:
        return check_suite(suite, table, "cpu", cache)


def test_a_parameter_off_the_models_device_is_noted_in_the_plan():
    """The note names method and parameter and gives the remedy; correct methods have no note."""
    own = ("untuned", "prompt-tuning", "prefix-tuning", "lora", "last-layers", "full")
    checked = _checked("scaled-anywhere", "scaled-there", *own)
    (note,) = checked.notes
    assert "scaled-anywhere makes transformer.h.3.mlp.scale on a device of its own" in note
    assert "device=parts.device" in note


def test_its_run_is_done_and_says_why_flops_are_not_measured(workplace):
    """Neither the count nor the trunk cache ends the run: what cannot be counted is None."""
    checked, said = _checked("scaled-anywhere", "scaled-there"), []
    anywhere, there = (
        experiment.run_experiment(checked.suite, entry, 0, workplace / "out", "cpu", listen)
        for entry, listen in zip(checked.entries, (lambda run, event: said.append(event), ignore), strict=True)
    )
    (note,) = [event.message for event in said if isinstance(event, NoteEvent) and "FLOPs" in event.message]
    assert "expected device meta" in note and "device=parts.device" in note
    assert anywhere.cost.train_flops is None and there.cost.train_flops > 0
    assert anywhere.loss == there.loss


def test_a_method_that_leaves_nothing_to_train_is_refused():
    """A method without trained tensors is refused unless its class says that it trains nothing."""
    with pytest.raises(ConfigError, match=r"\[method\.forgetful\] It trains 0 parameters.*requires_grad_\(True\)"):
        _checked("forgetful", "untuned")
