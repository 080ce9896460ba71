"""The training loop, the same for every method: it trains whatever requires a gradient."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from triptych.config.schedule import DECAY_SHARE, WARMUP_STABLE_DECAY, Schedule, evaluation_interval
from triptych.contracts import AdaptedModel
from triptych.corpus.sequence import Pair
from triptych.engine.batching import Batch, collate, epoch_order, micro_groups, ranks_of, seed_of
from triptych.engine.forward import target_losses
from triptych.engine.inputs import executed_shape
from triptych.engine.model import EngineModel
from triptych.engine.savings.trunk_cache import TrunkCache
from triptych.engine.sharding import as_sharded, clip_gradients, cut_like, gathered, is_sharded, piece_of
from triptych.engine.shortage import given_up, recomputing, shortage_of_ranks
from triptych.errors import NonFiniteLoss, out_of_memory


@dataclass(frozen=True)
class TrainingPlan:
    """The training recipe: the same for every method, except for learning rate, weight decay and memory settings.

    Memory determines the micro-batch size and whether blocks are recomputed.
    """

    learning_rate: float
    weight_decay: float
    max_epochs: int
    eval_every: float  # in epochs
    patience: int  # evaluations without improvement
    global_batch_size: int  # pairs per optimizer step
    micro_batch_size: int  # pairs per forward pass
    max_grad_norm: float
    warmup_fraction: float  # of all steps; with warmup_stable_decay, of the steps of at most two epochs
    schedule: str  # linear, cosine, constant or warmup_stable_decay
    optimizer: str  # adamw or adafactor
    seed: int
    max_steps: int | None = None  # None: the steps of `max_epochs`
    decay_share: float = DECAY_SHARE  # for warmup_stable_decay: decay steps per step up to the best weights
    recomputes: bool = False  # whether blocks are recomputed in the backward pass (activation checkpointing)

    def schedule_of(self, steps_per_epoch: int, total_steps: int) -> Schedule:
        """The learning rate schedule of a run with this many steps."""
        return Schedule(self.schedule, self.warmup_fraction, steps_per_epoch, total_steps, self.decay_share)


@dataclass
class Progress:
    """The numbers of a training state: position, best loss and work done."""

    epoch: int = 0  # epochs finished
    cursor: int = 0  # optimizer steps done in the current epoch
    step: int = 0
    evaluations: int = 0
    evaluated_at: int = 0  # the step of the last evaluation
    best_loss: float | None = None  # validation loss of the best weights, initially the untouched ones
    best_step: int = 0
    evaluations_without_gain: int = 0
    decay_start: int | None = None  # the step at which the decay of `warmup_stable_decay` started; None: not yet
    decay_steps: int = 0
    restarted_at: int = 0  # the step at which training restarted from the untouched weights; 0: never
    stopped: bool = False
    tokens: int = 0  # without padding and virtual tokens
    targets: int = 0  # summary tokens and EOS
    documents: int = 0  # pairs, repeats included
    train_flops: float = 0.0
    plain_flops: float = 0.0
    nats: float = 0.0  # training loss summed since the last evaluation
    nats_targets: int = 0  # number of targets in `nats`
    micro_batch_size: int = 0  # the size that fit after memory ran out; 0: the plan's
    recomputes: bool = False  # memory ran out with one pair, so blocks are recomputed in the backward pass


@dataclass
class TrainingState:
    """The complete state of a training loop, which can be saved after any step.

    It contains the trained tensors, the optimizer, the position in the data, the best weights so far and the
    early-stopping count. Together with the plan and the data, it determines the rest of training. Random states are not
    part of it: order and dropout follow from the plan's seed and the position. The untouched weights are not saved: a
    resumed run has them before the state is loaded.

    For sharded tensors, each rank keeps its piece of the current and the best values; whole tensors are saved.
    """

    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    untouched: dict[str, Tensor] = field(default_factory=dict)  # before the first step; {}: not kept
    best_moments: dict[str, Tensor] = field(default_factory=dict)  # the optimizer's, at the best weights; {}: not kept
    scaler: torch.amp.GradScaler | None = None  # only in fp16

    @classmethod
    def begin(
        cls, adapted: AdaptedModel, plan: TrainingPlan, scaler: torch.amp.GradScaler | None = None
    ) -> "TrainingState":
        """The state before the first step; fp16 needs a loss scaler."""
        trained = adapted.trained_parameters()
        return cls(trained, make_optimizer(list(trained.values()), plan), scaler=scaler)

    def state_dict(self, keep: bool = True) -> tuple[dict[str, Tensor], dict]:
        """The state as named tensors and plain numbers, for safetensors and JSON; the tensors need not be copies.

        Args:
            keep: whether this rank saves it; otherwise no tensors are returned. If any are sharded, all ranks call
                this.
        """
        moments, pieces, like = self._moments(), dict[str, Tensor](), dict[str, Tensor]()
        for prefix, values, sharded in (
            ("trained.", self.trained, self.trained),
            ("best.", self.best, self.trained),
            ("best_moments.", self.best_moments, moments),
            ("optimizer.", moments, moments),
        ):
            pieces |= {f"{prefix}{name}": piece_of(value) for name, value in values.items()}
            like |= {f"{prefix}{name}": sharded[name] for name in values}
        tensors = gathered(pieces, like, keep)
        if self.scaler is not None:
            tensors |= {f"scaler.{key}": torch.tensor(value) for key, value in self.scaler.state_dict().items()}
        return tensors, vars(self.progress).copy()

    def load_state_dict(self, tensors: dict[str, Tensor], numbers: dict) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            KeyError: a trained tensor or a value of the loss scaler is missing.
            TypeError: `numbers` has an unknown field.
        """
        with torch.no_grad():
            for name, parameter in self.trained.items():
                piece_of(parameter).copy_(piece_of(cut_like(tensors[f"trained.{name}"], parameter)))
        best = _with_prefix(tensors, "best.")
        self.best = {name: piece_of(cut_like(value, self.trained[name])).cpu() for name, value in best.items()}
        self._load_moments(self._cut(_with_prefix(tensors, "optimizer.")))
        best_moments = self._cut(_with_prefix(tensors, "best_moments."))
        self.best_moments = {name: piece_of(value).cpu() for name, value in best_moments.items()}
        self.progress = Progress(**numbers)
        if self.scaler is not None:
            self.scaler.load_state_dict({key: tensors[f"scaler.{key}"].item() for key in self.scaler.state_dict()})

    def keep_untouched(self, loss: float, to_restart: bool) -> None:
        """Make the untouched weights the first candidate for the best weights.

        Args:
            loss: their validation loss.
            to_restart: whether to keep them for the whole run, so that training can restart from them.
        """
        self.progress.best_loss = loss
        self.keep_best()
        self.untouched = self.best if to_restart else {}

    def keep_best(self, with_moments: bool = False) -> None:
        """Keep a copy of the current trained tensors and, on request, of the optimizer's moments."""
        self.best = {name: piece_of(p).to("cpu", copy=True) for name, p in self.trained.items()}
        moments = self._moments() if with_moments else {}
        self.best_moments = {name: piece_of(value).to("cpu", copy=True) for name, value in moments.items()}

    def restore_best(self) -> None:
        """Restore the best tensors and, if kept, their moments, which are then dropped."""
        self._put_back(self.best)
        if self.best_moments:
            now = self._moments()
            self._load_moments({name: as_sharded(piece, now[name]) for name, piece in self.best_moments.items()})
            self.best_moments = {}

    def restore_untouched(self) -> None:
        """Restore the untouched tensors and reset the optimizer's moments."""
        self._put_back(self.untouched)
        self._load_moments({})

    def _put_back(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in tensors.items():
                piece_of(self.trained[name]).copy_(value)

    def _moments(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"]
        return {f"{index}.{key}": torch.as_tensor(v) for index, values in state.items() for key, v in values.items()}

    def _cut(self, moments: dict[str, Tensor]) -> dict[str, Tensor]:
        """Shard moments like the parameters they belong to, if they have the same shape."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        of = {name: parameters[int(name.split(".", 1)[0])] for name in moments}
        return {n: cut_like(v, of[n]) if v.shape == of[n].shape else v for n, v in moments.items()}

    def _load_moments(self, moments: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def num_copies(optimizer: str, schedule: str) -> int:
    """Most copies of each trained tensor in a saved state: the tensor, its best value, and the moments of both."""
    moments = 1 if optimizer == "adafactor" else 2
    return 2 + moments + (moments if schedule == WARMUP_STABLE_DECAY else 0)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Copies of the tensors whose names start with `prefix`, which is removed."""
    return {name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)}


def make_optimizer(parameters: list[nn.Parameter], plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or Adafactor (Shazeer and Stern 2018).

    Weight decay applies to parameters with two or more dimensions. Sharded parameters have separate groups.
    """
    groups = [
        {
            "params": [p for p in parameters if decays == (p.ndim >= 2) and is_sharded(p) == sharded],
            "weight_decay": decay,
        }
        for sharded in (True, False)
        for decays, decay in ((True, plan.weight_decay), (False, 0.0))
    ]
    groups = [group for group in groups if group["params"]]
    if plan.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=plan.learning_rate)
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=fused)


def steps_per_epoch(documents: int, plan: TrainingPlan) -> int:
    """Number of optimizer steps in an epoch; the last may have fewer documents."""
    return math.ceil(documents / plan.global_batch_size)


# (the numbers of a `WorkShape`, whether blocks are recomputed) -> (FLOPs executed, FLOPs on the plain path)
CountFlops = Callable[[int, int, int, int, bool], tuple[float, float]]


class Step(NamedTuple):
    """The result of an optimizer step."""

    loss: float  # nats per target token
    rate: float  # the learning rate


class EvaluationLosses(NamedTuple):
    """The losses at an evaluation, in nats per target token."""

    train_loss: float  # over the steps since the previous evaluation
    validation_loss: float


class Loop:
    """Training, one optimizer step at a time, until the last epoch or until the validation loss stops improving.

        while not loop.finished:
            if loop.evaluation_due:
                loop.evaluate(split_loss(model, validation, batch_size).mean)
            else:
                loop.step()

    When it is finished, the model has the best weights and is in eval mode.

    Args:
        model: the model.
        pairs: the training pairs.
        plan: the recipe.
        state: the initial state; a checkpoint may be loaded into it before the first step. Every step updates it.
        count_flops: FLOPs of a pass, executed and on the plain path, given its shape and whether blocks are recomputed.
        cache: the hidden states of `pairs` that enter the first trained block, or None.
    """

    def __init__(
        self,
        model: EngineModel,
        pairs: Sequence[Pair],
        plan: TrainingPlan,
        state: TrainingState,
        count_flops: CountFlops = lambda *shape: (0.0, 0.0),
        cache: TrunkCache | None = None,
    ):
        self.model, self.pairs, self.plan, self.state = model, pairs, plan, state
        self._count_flops, self._cache = count_flops, cache
        self.steps_per_epoch = steps_per_epoch(len(pairs), plan)
        self.total_steps = plan.max_steps or plan.max_epochs * self.steps_per_epoch
        self.schedule = plan.schedule_of(self.steps_per_epoch, self.total_steps)
        self._order: tuple[int, np.ndarray] | None = None  # an epoch and the order of its pairs

    @property
    def finished(self) -> bool:
        """Whether training has ended: all steps taken or no more improvement, and the last weights evaluated."""
        return self.state.progress.stopped

    @property
    def recomputes(self) -> bool:
        """Whether blocks are recomputed in the backward pass, as planned or because memory ran out."""
        return self.plan.recomputes or self.state.progress.recomputes

    @property
    def evaluation_due(self) -> bool:
        """Whether an evaluation is due: every `eval_every` epochs, at the end of an epoch, and after the last step."""
        now = self.state.progress
        if now.step == now.evaluated_at:
            return False
        every = evaluation_interval(self.plan.eval_every, self.steps_per_epoch)
        return now.cursor % every == 0 or now.cursor == self.steps_per_epoch or self._at_end

    @property
    def _at_end(self) -> bool:
        now = self.state.progress
        decayed = now.decay_start is not None and now.step >= now.decay_start + now.decay_steps
        return decayed or now.step >= self.total_steps

    def step(self) -> Step:
        """Take one optimizer step on a global batch, in micro-batches shared by the ranks; not while `evaluation_due`.

        The step's loss is (sum of nats over all micro-batches) / (number of their targets): in a mean of means, the
        weight of a summary would depend on its micro-batch. Every rank knows the whole batch, so only nats and
        gradients are summed over ranks; each rank counts FLOPs and tokens for all of them.

        Raises:
            NonFiniteLoss: the loss or, except in fp16, the gradient is NaN or infinite; the step was not taken. In
                fp16, the loss scaler skips the update of a step with such a gradient, and the step counts as taken.
            OutOfMemory: a pass over one pair does not fit into memory, even with blocks recomputed.
        """
        now, state, machine = self.state.progress, self.state, self.model.machine
        schedule = self.schedule
        if schedule.decays_on_plateau and now.decay_start is None and now.step >= schedule.latest_decay_start:
            self._begin_decay()  # may go back to an earlier position in the data
        first = now.cursor * self.plan.global_batch_size
        indices = self._pairs_in_order()[first : first + self.plan.global_batch_size].tolist()
        rate = self.plan.learning_rate * self._rate_share()
        self.model.train()
        targets = sum(len(self.pairs[i].summary_ids) + 1 for i in indices)
        nats = float(machine.total(torch.tensor(self._within_memory(indices, targets), dtype=torch.float64)))
        if not math.isfinite(nats):
            state.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLoss(f"The loss is {nats} in step {now.step + 1}. {self._context_of_failure(indices, rate)}")
        self._sum_gradients()
        self._update(indices, rate)
        now.targets += targets
        now.documents += len(indices)
        now.nats += nats
        now.nats_targets += targets
        now.cursor += 1
        now.step += 1
        return Step(nats / targets, rate)

    def evaluate(self, validation_loss: float) -> EvaluationLosses:
        """Keep the weights if they are the best so far, and decide whether and how training continues.

        Training stops after `patience` evaluations without improvement. With `warmup_stable_decay`, the decay starts
        then, and training stops at its end, or restarts if the decay brought no improvement.

        Args:
            validation_loss: loss of the current weights, in nats per target token.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite.
        """
        now = self.state.progress
        if not math.isfinite(validation_loss):
            raise NonFiniteLoss(
                f"The validation loss is {validation_loss} after step {now.step}: try a lower learning rate."
            )
        train_loss = now.nats / now.nats_targets
        now.evaluations, now.evaluated_at, now.nats, now.nats_targets = now.evaluations + 1, now.step, 0.0, 0
        if now.cursor == self.steps_per_epoch:
            now.epoch, now.cursor = now.epoch + 1, 0
        if now.best_loss is None or validation_loss < now.best_loss:
            self.state.keep_best(with_moments=self.schedule.decays_on_plateau and now.decay_start is None)
            now.best_loss, now.best_step, now.evaluations_without_gain = validation_loss, now.step, 0
        else:
            now.evaluations_without_gain += 1
        if now.evaluations_without_gain >= self.plan.patience and now.decay_start is None:
            if self.schedule.decays_on_plateau:
                self._begin_decay()
            else:
                now.stopped = True
        now.stopped = now.stopped or (self._at_end and not self._begin_again())
        if self.finished:
            self.state.restore_best()
            self.model.eval()
        return EvaluationLosses(train_loss, validation_loss)

    def _begin_decay(self) -> None:
        """Start the decay: choose its initial weights and its length.

        On a plateau, its length is given by `Schedule.decay_steps`; if the end of the epochs forces it, it takes all
        remaining steps. If the last evaluation was an improvement, the decay starts from the current weights. Otherwise
        it starts from the best weights, with the optimizer's moments and the position in the data at that step, as if
        training had stopped there. If no weights were better than the untouched ones, the rate was too high for all of
        them, and the decay starts from the current weights.
        """
        now = self.state.progress
        steps = self.total_steps - now.step
        if now.evaluations_without_gain:
            if now.evaluations_without_gain >= self.plan.patience:
                steps = min(steps, self.schedule.decay_steps(now.best_step or now.step))
            if now.best_step:
                self.state.restore_best()
                now.epoch, now.cursor = divmod(now.best_step, self.steps_per_epoch)
        now.decay_start, now.decay_steps = now.step, steps

    def _begin_again(self) -> bool:
        """Restart from the untouched weights if the decay brought no improvement and enough steps are left; else False.

        Such a decay overfits: it sees the documents once more than the best weights did. The second attempt, including
        its decay, takes as many steps as led to the best weights, as if that had been `max_steps`.
        """
        now = self.state.progress
        gained = now.decay_start is None or now.best_step > now.decay_start
        fits = 0 < now.best_step <= self.total_steps - now.step
        if gained or now.restarted_at or not self.state.untouched or not fits:
            return False
        self.state.restore_untouched()
        now.epoch, now.cursor, now.restarted_at = 0, 0, now.step
        start = replace(self.schedule, total_steps=now.best_step).latest_decay_start
        now.decay_start, now.decay_steps = now.step + start, now.best_step - start
        return True

    def _rate_share(self) -> float:
        """The share of the peak rate at the current step; after a restart, that of the shorter run."""
        now, schedule, start = self.state.progress, self.schedule, self.state.progress.decay_start
        if start is None or not now.restarted_at:
            return schedule.share(now.step, start, now.decay_steps)
        start -= now.restarted_at
        shorter = replace(schedule, total_steps=start + now.decay_steps)
        return shorter.share(now.step - now.restarted_at, start, now.decay_steps)

    def _pairs_in_order(self) -> np.ndarray:
        """The order of the pairs in the current epoch, drawn again when the epoch changes or a checkpoint is loaded."""
        epoch = self.state.progress.epoch
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(len(self.pairs), self.plan.seed, epoch)
        return self._order[1]

    def _within_memory(self, indices: list[int], targets: int) -> float:
        """Run `_accumulate`, restarted with half the micro-batch if memory runs out; the smaller size is kept.

        With a single pair, it is restarted with recomputed blocks, which is kept as well. If one rank runs out of
        memory, all ranks restart, because they divide different micro-batches. A sharded model's pass cannot be
        restarted: the other ranks are waiting in the middle of it.

        Raises:
            OutOfMemory: a pass does not fit even with recomputed blocks.
        """
        now, state, machine = self.state.progress, self.state, self.model.machine
        size = min(now.micro_batch_size or self.plan.micro_batch_size, len(indices))
        while True:
            kept = vars(now).copy()
            nats, refusal = 0.0, None
            try:
                nats = self._accumulate(indices, targets, size)
            except (MemoryError, RuntimeError) as error:
                if (refusal := out_of_memory(error)) is None:
                    raise
                if self.model.is_sharded:
                    raise shortage_of_ranks(refusal, size) from error
            if not machine.total(torch.tensor(float(refusal is not None))):
                return nats
            state.optimizer.zero_grad(set_to_none=True)
            vars(now).update(kept)
            if machine.device.type == "cuda":
                torch.cuda.empty_cache()
            if size > 1:
                size //= 2
                now.micro_batch_size = size
            elif not self.recomputes:
                recomputing(self.model)
                now.recomputes = True
            else:
                raise given_up(refusal)

    def _accumulate(self, indices: list[int], targets: int, size: int) -> float:
        """Accumulate the gradients of this rank's micro-batches of at most `size` pairs; return their summed nats.

        FLOPs and tokens of all ranks are counted. Every loss is divided by `targets`, the number of targets in the
        whole global batch. If the model is sharded, a rank without a micro-batch joins the others' pass by repeating
        the last one with zero weight.
        """
        now, machine = self.state.progress, self.model.machine
        model = replace(self.model, recomputes=self.recomputes)
        nats = torch.zeros((), dtype=torch.float64, device=machine.device)  # read once, without waiting for the GPU
        groups = micro_groups(self.pairs, indices, size, machine.num_processes, machine.device.type == "cuda")
        # the ranks of a sharded model run passes together, so each must have the same number
        turns = range(len(groups)) if model.is_sharded else ranks_of(self.pairs, groups, machine.num_processes)
        for number, group in enumerate(groups):
            batch = collate([self.pairs[i] for i in group], model.template)
            executed, plain = self._count_flops(*executed_shape(model.adapted, batch), model.recomputes)
            now.train_flops += executed
            now.plain_flops += plain
            now.tokens += batch.num_tokens
            if not machine.owns(turns[number]):
                continue
            machine.seed(seed_of(self.plan.seed, now.step, number))
            nats += self._pass(model, batch, group, targets)
        if model.is_sharded and machine.is_left_out(len(groups)):
            self._pass(model, collate([self.pairs[i] for i in groups[-1]], model.template), groups[-1], math.inf)
        return float(nats)

    def _pass(self, model: EngineModel, batch: Batch, group: list[int], divisor: float) -> Tensor:
        """Accumulate the gradients of a micro-batch's summed nats, divided by `divisor`; return the nats."""
        machine, cache, scaler = model.machine, self._cache, self.state.scaler
        batch = batch.to(machine.device)
        with machine.autocast():
            losses = cache.losses(model, batch, group) if cache else target_losses(model, batch)
        total = losses.sum()
        (scaler.scale(total / divisor) if scaler else total / divisor).backward()
        return total.detach()

    def _sum_gradients(self) -> None:
        """Sum gradients over the ranks; those of sharded weights were summed in the backward pass."""
        machine = self.model.machine
        if machine.num_processes > 1:
            for parameter in self.state.trained.values():
                if is_sharded(parameter):
                    continue
                gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                parameter.grad = machine.total(gradient)

    def _update(self, indices: list[int], rate: float) -> None:
        state, scaler = self.state, self.state.scaler
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        if scaler:
            scaler.unscale_(state.optimizer)
        norm = clip_gradients(state.trained.values(), self.plan.max_grad_norm)
        if scaler:  # occasional overflows are expected: the scaler skips the step and halves its scale
            scaler.step(state.optimizer)
            scaler.update()
        else:
            if not torch.isfinite(norm):
                state.optimizer.zero_grad(set_to_none=True)
                raise NonFiniteLoss(
                    f"The gradient's norm is {float(norm)} in step {state.progress.step + 1}. "
                    f"{self._context_of_failure(indices, rate)}"
                )
            state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)

    def _context_of_failure(self, indices: list[int], rate: float) -> str:
        named = ", ".join(self.pairs[i].id for i in indices[:5]) + (", ..." if len(indices) > 5 else "")
        return f"Nothing was updated. Documents of the step: {named}. The learning rate is {rate:g}: try a lower one."
