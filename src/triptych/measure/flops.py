"""FLOPs of a training pass as a function of its shape, fitted to counted passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class WorkShape(NamedTuple):
    """The shape of a pass over a batch, which determines its FLOPs.

    Attributes:
        rows: B, number of sequences in the batch.
        length: T, number of positions in each sequence, including padding and virtual tokens.
        logits: N, number of positions where logits are computed.
        chosen: B S, number of positions at which the last block attends if it runs only at selected positions: every
            sequence has as many as the one with the most.
    """

    rows: int
    length: int
    logits: int
    chosen: int


@dataclass(frozen=True)
class FlopModel:
    """FLOPs of one forward and backward pass, as a function of its shape.

    A causal LM does work linear in positions (every weight matrix), work quadratic in a sequence's length (attention:
    scores and mixing, B T^2), work at each position where logits are computed (the head) and, if the last block runs
    only at selected positions, its attention from each of them to all T. Some methods add work that every pass does
    once, whatever its shape (DoRA norms its weights). Above `logits_at_once` logits, the head is computed a second time
    in the backward pass. So

        F(B, T, N, S) = f + a B T + b B T^2 + c N + d (B S) T + [N > limit] e N

    The coefficients are fitted to passes counted by dispatch on the `meta` device with plain attention (whose products
    are all counted), and must explain each within 0.1%. A multiply-add is 2 FLOPs. Attention is counted as full
    products, even if a fused kernel skips the upper triangle or recomputes scores in the backward pass.

    Attributes:
        per_position: a.
        per_pair: b.
        per_logit: c.
        per_chosen_pair: d.
        per_pass: f.
        per_logit_again: e.
        logits_at_once: the limit, in positions where logits are computed; None: no limit.
    """

    per_position: float
    per_pair: float
    per_logit: float
    per_chosen_pair: float = 0.0
    per_pass: float = 0.0
    per_logit_again: float = 0.0
    logits_at_once: int | None = None

    def count(self, rows: int, length: int, logits: int, chosen: int | None = None) -> float:
        """FLOPs of a pass.

        Args:
            rows: B.
            length: T, with padding and virtual tokens.
            logits: N.
            chosen: B S; default: N, which is correct if all sequences have the same number of targets.
        """
        again = self.logits_at_once is not None and logits > self.logits_at_once
        return (
            self.per_pass
            + self.per_position * rows * length
            + self.per_pair * rows * length**2
            + (self.per_logit + self.per_logit_again * again) * logits
            + self.per_chosen_pair * (logits if chosen is None else chosen) * length
        )


def fit_flops(passes: Sequence[tuple[Sequence[int], int]], logits_at_once: int | None = None) -> FlopModel:
    """Fit the coefficients of `FlopModel` by least squares to more passes than unknowns.

    Args:
        passes: `((rows, positions, logits), FLOPs counted by dispatch)`, or the four numbers of a `WorkShape`.
        logits_at_once: the number of logits above which the head is computed again; None: never. Some passes must
            exceed it.

    Raises:
        ArithmeticError: a pass does not follow the formula within 0.1%, or there are too few passes to check it.
    """
    shapes = [WorkShape(rows, length, logits, *(chosen or [logits])) for (rows, length, logits, *chosen), _ in passes]
    flops = np.array([counted for _, counted in passes], dtype=np.float64)
    again = [logits_at_once is not None and shape.logits > logits_at_once for shape in shapes]
    matrix = np.array(
        [[b * t, b * t * t, n, s * t, 1.0, n * more] for (b, t, n, s), more in zip(shapes, again, strict=True)],
        np.float64,
    )
    # each pass counts by its relative error: large ones do not outweigh small ones
    matrix /= np.maximum(flops, 1.0)[:, None]
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    solution, _, rank, _ = np.linalg.lstsq(matrix / scale, flops / np.maximum(flops, 1.0), rcond=1e-10)
    if len(passes) <= rank:
        raise ArithmeticError(f"{len(passes)} passes cannot check a formula with {rank} coefficients.")
    a, b, c, d, f, e = (solution / scale).tolist()
    model = FlopModel(a, b, c, d, f, e, logits_at_once)
    for shape, counted in zip(shapes, flops.tolist(), strict=True):
        if abs(model.count(*shape) - counted) > 1e-3 * counted:
            raise ArithmeticError(
                f"A pass of shape {tuple(shape)} took {counted:.0f} FLOPs; the formula gives {model.count(*shape):.0f}."
            )
    return model
