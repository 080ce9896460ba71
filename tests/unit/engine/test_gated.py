"""RMS norms and gated MLPs in few kernels: the family's numbers, with fewer tensors kept."""

import copy

import pytest
import torch
import transformers
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaMLP, GemmaRMSNorm
from transformers.models.glm5_next.modeling_glm5_next import Glm5NextTextMLP
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated

from support.worlds import in_bf16
from triptych.engine.savings.gated import QuickGatedMLP, QuickRMSNorm, as_function, rms_norm, use_quick_blocks
from triptych.engine.savings.ready import make_ready
from triptych.methods.lora import LoRA


def norm(kind: type) -> nn.Module:
    """A norm with non-trivial weights."""
    module = kind(16, eps=1e-5)
    nn.init.normal_(
        module.weight, 1.0 if kind is LlamaRMSNorm else 0.0, 0.2, generator=torch.Generator().manual_seed(0)
    )
    return module


def quick(module: nn.Module) -> nn.Module:
    """A copy with the fast implementation."""
    model = nn.ModuleList([copy.deepcopy(module)])
    use_quick_blocks(model)
    return model[0]


def with_gradients(module: nn.Module, states: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of all parameters."""
    states = states.clone().requires_grad_()
    out = module(states)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out, *torch.autograd.grad((out * weight).sum(), [states, *module.parameters()])]


@pytest.mark.parametrize("kind", [LlamaRMSNorm, GemmaRMSNorm])
def test_a_quick_norm_is_the_family_s_own(kind):
    """A fast norm equals the family's, forward and backward, whether it stores the weight or its distance from 1."""
    own, states = norm(kind), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(2)) * 3
    made = quick(own)
    assert type(made) is QuickRMSNorm
    for a, b in zip(with_gradients(made, states), with_gradients(own, states), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "sizes"), [(MambaRMSNormGated, (16, 16)), (Qwen3NextRMSNormGated, (16,))])
def test_a_norm_with_a_gate_keeps_its_own_forward(kind, sizes):
    """A norm that also takes a gate, which may be left out or not, is not replaced by one that takes states alone."""
    module = kind(*sizes)
    assert type(quick(module)) is kind and as_function(module) is module


def test_gradients_by_finite_differences():
    """The hand-written backward is the derivative, for rows of ordinary and of tiny numbers."""
    draw = torch.Generator().manual_seed(3)
    states = torch.randn(3, 4, generator=draw).double().requires_grad_()
    weight = torch.randn(4, generator=draw).double().requires_grad_()

    def plain(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * (1 + w)

    wanted = torch.autograd.grad(plain(states, weight).sin().sum(), (states, weight))
    found = torch.autograd.grad(rms_norm(states, weight, 1e-3, 1.0).sin().sum(), (states, weight))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_in_bf16_a_norm_gives_what_the_layers_after_it_round_to():
    """The bf16 output is the fp32 output of the family's norm, rounded once, so no layer rounds it again."""
    states = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(4)).bfloat16()
    own = norm(LlamaRMSNorm)
    found = quick(own)(states)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, own(states.float()).bfloat16(), atol=0, rtol=2**-7)


def test_a_gated_mlp_keeps_two_tensors():
    """A fast MLP has the family's output and gradients; of the tensors of positions times width, only gate and up are
    kept."""
    config = transformers.LlamaConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2)
    own = LlamaMLP(config).requires_grad_(False)
    made, states = quick(own), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(5))
    assert type(made) is QuickGatedMLP

    def kept(module: nn.Module) -> tuple[int, list[torch.Tensor]]:
        wide: set[int] = set()

        def count(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.numel() == 2 * 5 * 24:
                wide.add(tensor.data_ptr())
            return tensor

        x = states.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            out = module(x)
        return len(wide), [out, *torch.autograd.grad(out.square().sum(), x)]

    (few, ours), (many, theirs) = kept(made), kept(own)
    assert few == 2 < many
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_what_computes_otherwise_is_left_alone():
    """Another activation, and a norm with a shift, keep their own forward."""
    gelu = GemmaMLP(transformers.GemmaConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2))

    class ShiftedRMSNorm(LlamaRMSNorm):
        """A norm that adds 1."""

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            """Shifted."""
            return super().forward(hidden_states) + 1.0

    assert type(quick(gelu)) is GemmaMLP
    assert type(quick(ShiftedRMSNorm(16))) is ShiftedRMSNorm


def test_what_computes_otherwise_at_large_or_tiny_numbers_is_left_alone():
    """A clamp that ordinary numbers do not reach, and an epsilon they do not reveal, are noticed, and such modules left
    alone."""
    config = transformers.LlamaConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2)
    config.swiglu_limit = 7.0

    class RootedRMSNorm(LlamaRMSNorm):
        """A norm that adds its epsilon to the root of the mean square."""

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            """Divided by the root and epsilon."""
            root = hidden_states.square().mean(-1, keepdim=True).sqrt()
            return self.weight * hidden_states / (root + self.variance_epsilon)

    assert type(quick(Glm5NextTextMLP(config))) is Glm5NextTextMLP
    assert type(quick(RootedRMSNorm(16, eps=1e-6))) is RootedRMSNorm
    assert type(quick(LlamaRMSNorm(16, eps=1e-6))) is QuickRMSNorm


def test_a_model_in_bf16_is_made_quick_and_one_in_fp32_is_not(worlds):
    """In bf16 all norms and MLPs of Llama are replaced, including the final norm; fp32 keeps the family's."""

    def quick_ones(model) -> int:
        return sum(isinstance(module, QuickRMSNorm | QuickGatedMLP) for module in model.parts.model.modules())

    llama = worlds["llama"]
    blocks = len(llama.parts().blocks)
    assert quick_ones(make_ready(in_bf16(llama).model(LoRA(rank=2)))) == 3 * blocks + 1
    assert quick_ones(make_ready(llama.model(LoRA(rank=2)))) == 0


def test_lora_leaves_rounding_to_autocast(worlds):
    """In bf16 the input of LoRA's first product is not widened before rounding; losses stay bit-equal."""
    world = in_bf16(worlds["llama"])
    model = make_ready(world.model(LoRA(rank=2)))
    layers = [module for module in model.parts.model.modules() if hasattr(module, "cast_input_dtype_enabled")]
    states = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(6)).bfloat16()

    def results() -> list[torch.Tensor]:
        with torch.no_grad(), world.machine.autocast():
            return [layer(states) for layer in layers if layer.in_features == 32]

    assert layers and not any(layer.cast_input_dtype_enabled for layer in layers)
    narrow = results()
    for layer in layers:
        layer.cast_input_dtype_enabled = True
    assert all(torch.equal(a, b) for a, b in zip(narrow, results(), strict=True))
