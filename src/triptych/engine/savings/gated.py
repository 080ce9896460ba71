"""What Llama-type blocks are made of, in few kernels that keep few tensors: RMS norms and gated MLPs, in bf16.

In bf16 a family's own norm gives fp32 to the layers after it, each of which rounds a copy of its own; these give bf16.
Every module is compared with its own forward before it is replaced. Tried with transformers 5.23.0.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = (1.0, 1e-3, 1e3)  # of the states that a module is tried with


class QuickRMSNorm(nn.Module):
    """An RMS norm (Zhang and Sennrich 2019) by `rms_norm`; `use_quick_blocks` gives modules this class."""

    weight: Tensor
    quick: tuple[float, float]  # epsilon, and what is added to the weight

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalize the last dimension."""
        return rms_norm(hidden_states, self.weight, *self.quick)


class QuickGatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)) that keeps the two factors alone for the backward pass."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """The MLP of a block."""
        gate, up = self.gate_proj(x), self.up_proj(x)
        gated = _GatedSiLU.apply(gate, up) if torch.is_grad_enabled() else functional.silu(gate).mul_(up)
        return self.down_proj(gated)


def rms_norm(states: Tensor, weight: Tensor, epsilon: float, offset: float = 0.0) -> Tensor:
    """The RMS norm x / sqrt(mean(x^2) + epsilon) * (offset + weight), computed in fp32, in the type of x.

    Args:
        states: x, [..., D].
        weight: [D].
        epsilon: above 0.
        offset: 1 for the families (Gemma) that keep the weight's distance from 1.
    """
    if not torch.is_grad_enabled():
        return _normalized(states, weight, epsilon, offset)[0]
    return _RMSNorm.apply(states, weight, epsilon, offset)


def _normalized(x: Tensor, weight: Tensor, epsilon: float, offset: float) -> tuple[Tensor, Tensor]:
    """The RMS norm, and 1 / sqrt(mean(x^2) + epsilon)."""
    wide = x.float()
    squares = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
    r = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
    scale = weight.float() + offset if offset else weight.float()
    return (wide * r).mul_(scale).to(x.dtype), r


class _RMSNorm(torch.autograd.Function):
    """y = r x w with r = 1 / sqrt(mean(x^2) + e): dx = r (g w) - x r^3 mean(g w x), dw = sum(g r x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor:
        out, r = _normalized(x, weight, epsilon, offset)
        ctx.save_for_backward(x, weight, r)
        ctx.offset = offset
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:  # type: ignore[override]
        x, weight, r = ctx.saved_tensors
        wide = x.float() * r
        scale = weight.float() + ctx.offset
        dw = None
        if ctx.needs_input_grad[1]:
            dw = (gradient.float() * wide).flatten(0, -2).sum(0).to(weight.dtype)
        inner = gradient * scale  # fp32
        shared = (inner * wide).mean(-1, keepdim=True)
        return inner.sub_(wide.mul_(shared)).mul_(r).to(x.dtype), dw, None, None


class _GatedSiLU(torch.autograd.Function):
    """silu(gate) up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), functional.silu(gate).mul_(gradient)


def use_quick_blocks(model: nn.Module) -> None:
    """Let the RMS norms and gated MLPs of a model compute so, where their own forward gives the same numbers in fp32.

    The modules stay the same objects, of another class: which of them train is known by identity.

    Args:
        model: in fp32 and eval mode.
    """
    for module in model.modules():
        _quicken_norm(module)
        if {name for name, _ in module.named_children()} == {"gate_proj", "up_proj", "down_proj", "act_fn"}:
            _quicken_mlp(module)


def as_function(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a norm computes: by `rms_norm` where that gives the same numbers, else by its own forward."""
    found = norm.quick if isinstance(norm, QuickRMSNorm) else _constants(norm)
    if found is None:
        return norm
    weight: Any = norm.weight
    return lambda states: rms_norm(states, weight, *found)


def _quicken_norm(module: nn.Module) -> None:
    found = _constants(module)
    if found is not None:
        module.quick = found  # type: ignore[assignment]
        module.__class__ = QuickRMSNorm


@torch.no_grad()
def _constants(norm: nn.Module) -> tuple[float, float] | None:
    """Epsilon and offset with which `rms_norm` gives a norm's numbers; None where it does not."""
    weight, epsilon = getattr(norm, "weight", None), _epsilon(norm)
    if "RMSNorm" not in type(norm).__name__ or epsilon is None or not isinstance(weight, Tensor):
        return None
    if weight.ndim != 1 or len(list(norm.parameters())) != 1:
        return None
    for offset in (0.0, 1.0):
        quick = functools.partial(rms_norm, weight=weight, epsilon=epsilon, offset=offset)
        if _agree(norm, quick, len(weight), weight.device):
            return epsilon, offset
    return None


def _agree(own: nn.Module, quick: Callable[[Tensor], Tensor], width: int, device: torch.device) -> bool:
    """Whether both compute the same of random states, [2, 3, D], of usual size, of tiny and of large numbers.

    What is added to a mean square shows at tiny numbers alone, and the clamps of some families (GLM-5) at large ones.
    """
    usual = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)).to(device)
    return all(_same(own(size * usual), quick(size * usual)) for size in SIZES)


def _same(own: Tensor, quick: Tensor) -> bool:
    return own.shape == quick.shape and torch.allclose(quick, own, rtol=1e-5, atol=1e-6 * float(own.abs().max()))


def _epsilon(module: nn.Module) -> float | None:
    """What a norm adds to the mean square, under the names that families give it."""
    found = [getattr(module, name, None) for name in ("variance_epsilon", "eps", "epsilon")]
    return next((value for value in found if isinstance(value, float)), None)


@torch.no_grad()
def _quicken_mlp(module: Any) -> None:
    if not isinstance(width := getattr(module.gate_proj, "in_features", None), int):
        return
    if type(module).forward.__code__.co_argcount != 2:  # something else than hidden states goes in
        return
    quick = functools.partial(QuickGatedMLP.forward, module)
    if _agree(module, quick, width, next(module.parameters()).device):
        module.__class__ = QuickGatedMLP
