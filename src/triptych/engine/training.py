"""One training loop for every method. It never asks which it runs: it trains what requires a gradient."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from triptych.contracts import AdaptedModel
from triptych.corpus.prepare import Pair, Template
from triptych.engine.batching import collate, epoch_order, seed_of, sequence_length
from triptych.engine.forward import executed_shape, target_losses
from triptych.engine.modes import TrainingModes
from triptych.engine.trunk_cache import TrunkCache
from triptych.errors import NonFiniteLoss
from triptych.machine import Machine

PADDING = 0.05  # of a micro-batch, at most


@dataclass(frozen=True)
class TrainingPlan:
    """The recipe, the same for every row but for its learning rate and weight decay."""

    learning_rate: float
    weight_decay: float
    max_epochs: int
    patience: int
    global_batch_size: int
    micro_batch_size: int
    max_grad_norm: float
    warmup_fraction: float
    schedule: str
    optimizer: str
    seed: int
    plain: bool


@dataclass
class Progress:
    """The numbers of a training state: where it stands, how good it was, what it has done."""

    epoch: int = 0  # epochs finished
    cursor: int = 0  # optimizer steps done in the epoch under way
    step: int = 0
    best_loss: float | None = None  # None before the first validation
    best_epoch: int = 0
    epochs_without_gain: int = 0
    stopped: bool = False
    tokens: int = 0
    targets: int = 0
    documents: int = 0
    train_flops: float = 0.0
    plain_flops: float = 0.0
    epoch_nats: float = 0.0
    epoch_targets: int = 0
    micro_batch_size: int = 0  # after memory ran out, the size that fitted; 0: the plan's


@dataclass
class TrainingState:
    """The whole state of a training loop in one object, which can be saved after any step.

    Together with the plan and the data it decides all that follows: trained tensors, optimizer, the place in the data,
    the best weights so far and the count towards early stopping. Chance is no part of it: order and dropout follow from
    the plan's seed and the place.
    """

    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    scaler: torch.amp.GradScaler | None = None  # fp16 alone

    @classmethod
    def begin(
        cls, adapted: AdaptedModel, plan: TrainingPlan, scaler: torch.amp.GradScaler | None = None
    ) -> "TrainingState":
        """A state before the first step, with a loss scaler of its own where the precision needs one."""
        trained = trained_parameters(adapted)
        return cls(trained, make_optimizer(list(trained.values()), plan), scaler=scaler)

    def state_dict(self) -> tuple[dict[str, Tensor], dict]:
        """Everything as named tensors and plain numbers, fit for safetensors and JSON."""
        tensors = {f"trained.{name}": p.detach() for name, p in self.trained.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        if self.scaler is not None:
            tensors |= {f"scaler.{key}": torch.tensor(value) for key, value in self.scaler.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
        return tensors, vars(self.progress).copy()

    def load_state_dict(self, tensors: dict[str, Tensor], numbers: dict) -> None:
        """Go back to a state that `state_dict` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(tensors[f"trained.{name}"])
        self.best = {name[5:]: value.clone() for name, value in tensors.items() if name.startswith("best.")}
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value.clone()
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.progress = Progress(**numbers)
        if self.scaler is not None:
            self.scaler.load_state_dict({key: tensors[f"scaler.{key}"].item() for key in self.scaler.state_dict()})

    def keep_best(self) -> None:
        """Remember the trained tensors as they are now."""
        self.best = {name: p.detach().to("cpu", copy=True) for name, p in self.trained.items()}

    def restore_best(self) -> None:
        """Put the best tensors back."""
        with torch.no_grad():
            for name, value in self.best.items():
                self.trained[name].copy_(value)


@dataclass(frozen=True)
class Hooks:
    """What the loop tells and asks of the outside. `step_clock` wraps the optimizer steps alone."""

    validate: Callable[[], float]
    on_step: Callable[[TrainingState, float, float], None]
    on_epoch: Callable[[TrainingState, float, float], None]
    step_clock: Callable[[], AbstractContextManager[object]]
    flops: Callable[[int, int, int, int], tuple[float, float]]


def trained_parameters(adapted: AdaptedModel) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name; virtual tokens under `virtual_tokens`, those of a prefix under
    `prefix.`."""
    named = dict(adapted.parts.model.named_parameters())  # a tied one once
    if adapted.virtual_tokens is not None:
        (named["virtual_tokens"],) = adapted.virtual_tokens.parameters()
    if adapted.prefix is not None:
        named |= {f"prefix.{name}": parameter for name, parameter in adapted.prefix.named_parameters()}
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


def make_optimizer(parameters: list[nn.Parameter], plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or Adafactor (Shazeer and Stern 2018); only matrices decay."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if plan.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=plan.learning_rate)
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=fused)


def scheduled_rate(plan: TrainingPlan, step: int, total_steps: int) -> float:
    """The learning rate of step k of K; with w = ceil(warmup_fraction K) it is rate (k + 1) / w while k < w, so never
    0.

    Then, linear: rate (K - k) / (K - w); cosine: rate (1 + cos(pi (k - w) / (K - w))) / 2; constant: rate.
    """
    warmup = math.ceil(plan.warmup_fraction * total_steps)
    if step < warmup:
        return plan.learning_rate * (step + 1) / warmup
    remaining = max(total_steps - warmup, 1)
    if plan.schedule == "linear":
        return plan.learning_rate * (total_steps - step) / remaining
    if plan.schedule == "cosine":
        return plan.learning_rate * (1 + math.cos(math.pi * (step - warmup) / remaining)) / 2
    return plan.learning_rate


def steps_per_epoch(documents: int, plan: TrainingPlan) -> int:
    """Optimizer steps of an epoch; the last may have fewer documents."""
    return math.ceil(documents / plan.global_batch_size)


def train(
    adapted: AdaptedModel,
    modes: TrainingModes,
    split: Sequence[Pair],
    template: Template,
    plan: TrainingPlan,
    state: TrainingState,
    machine: Machine,
    hooks: Hooks,
    cache: TrunkCache | None = None,
) -> None:
    """Train until the last epoch or until validation stops gaining; the best weights are in place afterwards.

    Raises:
        NonFiniteLoss: a loss or gradient is NaN or infinite and the step was not taken, or a validation loss is.
    """
    per_epoch = steps_per_epoch(len(split), plan)
    total = plan.max_epochs * per_epoch
    now = state.progress
    while now.epoch < plan.max_epochs and not now.stopped:
        order = epoch_order(len(split), plan.seed, now.epoch)
        while now.cursor < per_epoch:
            first = now.cursor * plan.global_batch_size
            indices = order[first : first + plan.global_batch_size].tolist()
            rate = scheduled_rate(plan, now.step, total)
            with hooks.step_clock():
                modes.train(adapted.parts.model)
                loss = train_step(adapted, split, indices, template, plan, state, machine, rate, hooks.flops, cache)
            now.cursor += 1
            now.step += 1
            hooks.on_step(state, loss, rate)
        modes.eval(adapted.parts.model)
        train_loss = now.epoch_nats / now.epoch_targets
        validation = hooks.validate()
        if not math.isfinite(validation):
            raise NonFiniteLoss(
                f"The validation loss is {validation} after epoch {now.epoch + 1}: try a lower learning rate."
            )
        now.epoch, now.cursor, now.epoch_nats, now.epoch_targets = now.epoch + 1, 0, 0.0, 0
        if now.best_loss is None or validation < now.best_loss:
            now.best_loss, now.best_epoch, now.epochs_without_gain = validation, now.epoch, 0
            state.keep_best()
        else:
            now.epochs_without_gain += 1
        now.stopped = now.epochs_without_gain >= plan.patience
        hooks.on_epoch(state, train_loss, validation)
    state.restore_best()
    modes.eval(adapted.parts.model)


def train_step(
    adapted: AdaptedModel,
    split: Sequence[Pair],
    indices: list[int],
    template: Template,
    plan: TrainingPlan,
    state: TrainingState,
    machine: Machine,
    rate: float,
    flops: Callable[[int, int, int, int], tuple[float, float]],
    cache: TrunkCache | None = None,
) -> float:
    """One optimizer step over a global batch, in micro-batches that the ranks share out.

    The step's loss is (sum of nats over all micro-batches) / (count of their targets): a mean of means would weigh
    summaries by the company they keep. Every rank knows the whole batch, so that only nats and gradients are summed
    over ranks; what is counted (FLOPs, tokens) is counted for all of them.

    Returns:
        The loss of the step in nats per target token.
    """
    targets = sum(len(split[i].summary_ids) + 1 for i in indices)
    scaler = state.scaler

    def accumulate(size: int) -> float:
        nats = 0.0
        for number, group in enumerate(micro_groups(split, indices, size)):
            batch = collate([split[i] for i in group], template)
            executed, plain = flops(*executed_shape(adapted, batch))
            state.progress.train_flops += executed
            state.progress.plain_flops += plain
            state.progress.tokens += batch.num_tokens
            if not machine.owns(number):
                continue
            torch.manual_seed(seed_of(plan.seed, state.progress.step, number))
            batch = batch.to(machine.device)
            with machine.autocast():
                losses = (
                    cache.losses(adapted, batch, group) if cache else target_losses(adapted, batch, plain=plan.plain)
                )
            total = losses.sum()
            nats += float(total.detach())
            (scaler.scale(total / targets) if scaler else total / targets).backward()
        return nats

    size = min(state.progress.micro_batch_size or plan.micro_batch_size, len(indices))
    nats = float(machine.total(torch.tensor(_within_memory(state, machine, size, accumulate), dtype=torch.float64)))
    if not math.isfinite(nats):
        state.optimizer.zero_grad(set_to_none=True)
        raise NonFiniteLoss(f"The loss is {nats} in step {state.progress.step + 1}. {_blame(split, indices, rate)}")
    _sum_gradients(state, machine)
    _update(state, plan, rate, lambda: _blame(split, indices, rate))
    state.progress.targets += targets
    state.progress.documents += len(indices)
    state.progress.epoch_nats += nats
    state.progress.epoch_targets += targets
    return nats / targets


def _within_memory(state: TrainingState, machine: Machine, size: int, accumulate: Callable[[int], float]) -> float:
    """Gradients of a step in micro-batches of `size`, halved and begun anew where memory runs out; the smaller size
    stays.

    Where one rank runs out of memory, all begin anew: the pieces that they share out are other ones.
    """
    while True:
        kept = vars(state.progress).copy()
        nats, refused = 0.0, None
        try:
            nats = accumulate(size)
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
            refused = error
        if not machine.total(torch.tensor(float(refused is not None))):
            return nats
        state.optimizer.zero_grad(set_to_none=True)
        vars(state.progress).update(kept)
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
        size //= 2
        state.progress.micro_batch_size = size


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: CUDA's, Python's, or torch's on the CPU, which has no error of its own for it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def micro_groups(split: Sequence[Pair], indices: list[int], size: int) -> list[list[int]]:
    """A global batch cut into micro-batches of like length, each of at most `size` and with at most `PADDING` of it
    padding.

    Where it is cut changes nothing: losses are summed over the step.
    """
    groups: list[list[int]] = []
    tokens = longest = 0
    for index in sorted(indices, key=lambda i: sequence_length(split[i]), reverse=True):
        length = sequence_length(split[index])
        rows = len(groups[-1]) + 1 if groups else 0
        if not groups or rows > size or tokens + length < (1 - PADDING) * rows * longest:
            groups.append([])
            tokens, longest = 0, length
        groups[-1].append(index)
        tokens += length
    return groups


def _sum_gradients(state: TrainingState, machine: Machine) -> None:
    if machine.num_processes > 1:
        for parameter in state.trained.values():
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parameter.grad = machine.total(gradient)


def _update(state: TrainingState, plan: TrainingPlan, rate: float, blame: Callable[[], str]) -> None:
    scaler = state.scaler
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    if scaler:
        scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(state.trained.values(), plan.max_grad_norm)
    if scaler:  # an overflow is expected now and then: the scaler skips the step and halves its scale
        scaler.step(state.optimizer)
        scaler.update()
    else:
        if not torch.isfinite(norm):
            state.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLoss(f"The gradient's norm is {float(norm)} in step {state.progress.step + 1}. {blame()}")
        state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)


def _blame(split: Sequence[Pair], indices: list[int], rate: float) -> str:
    named = ", ".join(split[i].id for i in indices[:5]) + (", ..." if len(indices) > 5 else "")
    return f"Nothing was updated. Documents of the step: {named}. The learning rate is {rate:g}: try a lower one."
