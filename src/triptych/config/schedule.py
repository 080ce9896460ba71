"""The learning rate of each optimizer step, as a share of its peak."""

import math
from dataclasses import dataclass

WARMUP_STABLE_DECAY = "warmup_stable_decay"
WARMUP_EPOCHS = 2  # more epochs than these do not lengthen its warm-up
DECAY_SHARE = 0.5  # decay steps for each step up to the best weights


def num_evaluations(epochs: int, eval_every: float) -> int:
    """The number of evaluations of the validation split during training; every epoch ends with one.

    Args:
        epochs: epochs of training.
        eval_every: epochs between two evaluations, in (0, 1].
    """
    return epochs * math.ceil(round(1 / eval_every, 9))


def evaluation_interval(eval_every: float, steps_per_epoch: int) -> int:
    """The number of optimizer steps between two evaluations within an epoch.

    Args:
        eval_every: epochs between two evaluations, in (0, 1].
        steps_per_epoch: optimizer steps.
    """
    return math.ceil(round(eval_every * steps_per_epoch, 9))  # 0.07 of 100 is 7.000000000000001


def evaluation_step(number: int, eval_every: float, steps_per_epoch: int) -> int:
    """The optimizer step after which an evaluation comes; every epoch ends with one, and counting restarts there.

    Args:
        number: number of the evaluation, from 1.
        eval_every: epochs between two evaluations, in (0, 1].
        steps_per_epoch: optimizer steps.
    """
    interval = evaluation_interval(eval_every, steps_per_epoch)
    epochs, more = divmod(number, math.ceil(steps_per_epoch / interval))
    return epochs * steps_per_epoch + more * interval


def warmup_epochs(epochs: int) -> int:
    """The number of epochs whose steps the warm-up fraction of `warmup_stable_decay` refers to.

    Args:
        epochs: maximum epochs of training.
    """
    return min(WARMUP_EPOCHS, epochs)


@dataclass(frozen=True)
class Schedule:
    """A warm-up and what follows it.

    With K steps at most, of which w = ceil(warmup_fraction K) warm up, the share of step k is (k + 1) / w while k < w.
    Then, linear: (K - k) / (K - w); cosine: (1 + cos(pi (k - w) / (K - w))) / 2; constant: 1.

    `warmup_stable_decay` (Hu et al. 2024, "MiniCPM", section 4; Hägele et al. 2024, arXiv 2405.18392) hardly depends on
    K: a method that learns fast is not stopped at a high rate because others may train for longer. The share is 1 until
    a decay begins at a step s, and then falls linearly to 0 within D steps. Training begins the decay when validation
    stops improving, with D = ceil(`decay_share` b) for the b steps that led to the best weights, or else at
    `latest_decay_start`, with D all remaining steps. The warm-up is `warmup_fraction` of at most
    `WARMUP_EPOCHS` epochs. If the decay gains nothing, because the documents were read once too often by then,
    training starts again with K = b, if K allows b more steps.

    Args:
        kind: linear, cosine, constant or warmup_stable_decay.
        warmup_fraction: in [0, 1).
        steps_per_epoch: optimizer steps.
        total_steps: K.
        decay_share: steps of the decay of `warmup_stable_decay` for each step up to the best weights; above 0.
    """

    kind: str
    warmup_fraction: float
    steps_per_epoch: int
    total_steps: int
    decay_share: float = DECAY_SHARE

    @property
    def decays_on_plateau(self) -> bool:
        """Whether the rate stays at its peak until validation stops improving."""
        return self.kind == WARMUP_STABLE_DECAY

    @property
    def warmup_steps(self) -> int:
        """The number of steps in which the rate rises."""
        longest = self.total_steps
        if self.decays_on_plateau:
            longest = min(longest, WARMUP_EPOCHS * self.steps_per_epoch)
        return math.ceil(self.warmup_fraction * longest)

    @property
    def latest_decay_start(self) -> int:
        """The last step at which a whole decay still fits."""
        return min(int(self.total_steps / (1 + self.decay_share)), self.total_steps - 1)

    def decay_steps(self, best_step: int) -> int:
        """The number of steps of a decay if the best weights took `best_step` steps."""
        return max(1, math.ceil(self.decay_share * best_step))

    def share(self, step: int, decay_start: int | None = None, decay_steps: int = 0) -> float:
        """The share of the peak in (0, 1].

        Args:
            step: from 0.
            decay_start: the step at which the decay begins; None: not known yet.
            decay_steps: steps of the decay; more than `step` - `decay_start`.
        """
        warmup, total = self.warmup_steps, self.total_steps
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if self.decays_on_plateau:
            if decay_start is None or step < decay_start:
                return rising
            return rising * (decay_start + decay_steps - step) / decay_steps
        if step < warmup or self.kind == "constant":
            return rising
        if self.kind == "linear":
            return (total - step) / max(total - warmup, 1)
        return (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
