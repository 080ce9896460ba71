"""RMS norms and gated MLPs of Llama-type blocks in bf16, with fewer kernels and fewer saved tensors.

In bf16, a family's own norm outputs fp32, and each of the layers after it rounds a separate copy; these output bf16.
Every module is compared with its own forward before it is replaced. Tested with transformers 5.23.0.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = (1.0, 1e-3, 1e3)  # scales of the states that a module is tested with


class QuickRMSNorm(nn.Module):
    """An RMS norm (Zhang and Sennrich 2019) computed by `rms_norm`; `use_quick_blocks` assigns this class."""

    weight: Tensor
    quick: tuple[float, float]  # epsilon and offset, see `rms_norm`

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalize the last dimension."""
        return rms_norm(hidden_states, self.weight, *self.quick)


class QuickGatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)), which saves only the two factors for the backward pass."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP."""
        gate, up = self.gate_proj(x), self.up_proj(x)
        gated = _GatedSiLU.apply(gate, up) if torch.is_grad_enabled() else functional.silu(gate).mul_(up)
        return self.down_proj(gated)


def rms_norm(states: Tensor, weight: Tensor, epsilon: float, offset: float = 0.0) -> Tensor:
    """The RMS norm x / sqrt(mean(x^2) + epsilon) * (offset + weight), computed in fp32 and returned in the type of x.

    Args:
        states: x, [..., D].
        weight: [D].
        epsilon: above 0.
        offset: 1 for families (Gemma) that store the weight's difference from 1.
    """
    if not torch.is_grad_enabled():
        return _normalized(states, weight, epsilon, offset)[0]
    return _RMSNorm.apply(states, weight, epsilon, offset)


def _normalized(x: Tensor, weight: Tensor, epsilon: float, offset: float) -> tuple[Tensor, Tensor]:
    """The RMS norm and 1 / sqrt(mean(x^2) + epsilon)."""
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
    """Replace the RMS norms and gated MLPs of a model if their own forward gives the same numbers in fp32.

    The modules stay the same objects with a different class, because training modes are tracked by identity.

    Args:
        model: the model, in fp32 and eval mode.
    """
    for module in model.modules():
        _quicken_norm(module)
        if {name for name, _ in module.named_children()} == {"gate_proj", "up_proj", "down_proj", "act_fn"}:
            _quicken_mlp(module)


def as_function(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """A norm as a function: `rms_norm` if it gives the same numbers, otherwise the norm's own forward."""
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
    """Epsilon and offset with which `rms_norm` reproduces a norm; None if it does not."""
    weight, epsilon = getattr(norm, "weight", None), _epsilon(norm)
    if "RMSNorm" not in type(norm).__name__ or epsilon is None or not isinstance(weight, Tensor):
        return None
    if weight.ndim != 1 or len(list(norm.parameters())) != 1 or not _takes_states_alone(norm):
        return None
    for offset in (0.0, 1.0):
        quick = functools.partial(rms_norm, weight=weight, epsilon=epsilon, offset=offset)
        if _agree(norm, quick, len(weight), weight.device):
            return epsilon, offset
    return None


def _agree(own: nn.Module, quick: Callable[[Tensor], Tensor], width: int, device: torch.device) -> bool:
    """Whether both give the same output for random states, [2, 3, D], of usual, tiny and large size.

    A different epsilon shows only in tiny numbers, and the clamps of some families (GLM-5) only in large ones.
    """
    usual = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)).to(device)
    return all(_same(own(size * usual), quick(size * usual)) for size in SIZES)


def _same(own: Tensor, quick: Tensor) -> bool:
    return own.shape == quick.shape and torch.allclose(quick, own, rtol=1e-5, atol=1e-6 * float(own.abs().max()))


def _takes_states_alone(module: nn.Module) -> bool:
    """Whether the forward has no argument besides the hidden states, such as the gate of Mamba-2's norms."""
    return type(module).forward.__code__.co_argcount == 2


def _epsilon(module: nn.Module) -> float | None:
    """The epsilon of a norm, under any of the names used by the families."""
    found = [getattr(module, name, None) for name in ("variance_epsilon", "eps", "epsilon")]
    return next((value for value in found if isinstance(value, float)), None)


@torch.no_grad()
def _quicken_mlp(module: Any) -> None:
    if not isinstance(width := getattr(module.gate_proj, "in_features", None), int):
        return
    if not _takes_states_alone(module):
        return
    quick = functools.partial(QuickGatedMLP.forward, module)
    if _agree(module, quick, width, next(module.parameters()).device):
        module.__class__ = QuickGatedMLP
