"""The one training loop: its recipe, its state, and when it stops."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from support.worlds import OneProcess, World, disturb, train
from triptych.config.schedule import Schedule
from triptych.corpus.sequence import Pair
from triptych.engine import training
from triptych.engine.batching import epoch_order, micro_groups, ranks_of
from triptych.engine.evaluation import split_loss
from triptych.engine.training import Loop, Step, TrainingState, make_optimizer
from triptych.errors import NonFiniteLoss
from triptych.machine import Machine
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.methods.untuned import Untuned
from triptych.results import json_files, tensor_files

DROPPING_LORA = LoRA(target_modules="all-linear", rank=2, dropout=0.3)


# The recipe


def test_the_loop_uses_the_schedule(gpt2):
    """The rate that the loop reports for each step is the one its optimizer used."""
    loop = gpt2.loop(PromptTuning(num_virtual_tokens=3))
    rates = []
    train(loop, on_step=lambda step: rates.append((step.rate, loop.state.optimizer.param_groups[0]["lr"])))
    assert rates == [(rate, rate) for rate in (0.05 * Schedule("linear", 0.2, 3, 6).share(k) for k in range(6))]


def test_only_matrices_decay(gpt2):
    """Weight decay applies to matrices; biases and norms have none."""
    trained = list(gpt2.adapt(LastLayers()).trained_parameters().values())
    groups = make_optimizer(trained, gpt2.plan(weight_decay=0.1)).param_groups
    assert {p.ndim >= 2: group["weight_decay"] for group in groups for p in group["params"]} == {True: 0.1, False: 0.0}
    assert sum(len(group["params"]) for group in groups) == len(trained)


def test_clipping_is_of_what_is_trained(gpt2):
    """The total gradient of the trained tensors is clipped at the given norm; stale gradients elsewhere are ignored."""
    loop = gpt2.loop(LoRA(rank=2), max_epochs=1, max_grad_norm=0.01)
    state, head = loop.state, loop.model.parts.head
    disturb(loop.model.adapted)
    head.weight.grad = torch.full_like(head.weight, 1e6)
    norms, step = [], state.optimizer.step

    def watched():
        norms.append(float(torch.cat([p.grad.flatten() for p in state.trained.values()]).norm()))
        return step()

    state.optimizer.step = watched
    train(loop)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_adafactor_trains(world):
    """With the Adafactor option the loss falls, for matrices and vectors alike."""
    losses = []
    loop = world.loop(LastLayers(), optimizer="adafactor", max_epochs=4, learning_rate=0.05)
    train(loop, on_epoch=lambda epoch: losses.append(epoch.train_loss))
    assert losses[-1] < losses[0] - 0.05


# Accumulation


@pytest.mark.parametrize("method", [PromptTuning(num_virtual_tokens=3), LastLayers()], ids=["prompt", "last-layers"])
def test_accumulation_is_weighted_by_targets(world, method):
    """One micro-batch of 8 and eight of 1 give the same loss and the same gradients."""

    def step(size: int) -> tuple[float, dict[str, torch.Tensor]]:
        model = world.model(method)
        for module in model.parts.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # each micro-batch draws separately
        plan = world.plan(micro_batch_size=size, global_batch_size=8, max_grad_norm=1e9)
        state = TrainingState.begin(model.adapted, plan)
        found = {}
        state.optimizer.step = lambda: found.update({name: p.grad.clone() for name, p in state.trained.items()})
        return Loop(model, world.pairs[:8], plan, state).step().loss, found

    (together, at_once), (apart, one_by_one) = step(8), step(1)
    assert together == pytest.approx(apart, abs=1e-5)
    for name, gradient in at_once.items():
        torch.testing.assert_close(one_by_one[name], gradient, atol=1e-5, rtol=1e-4)
    alone = [float(split_loss(world.model(method).on_plain_path(), [p], batch_size=1).mean) for p in world.pairs[:8]]
    assert abs(together - sum(alone) / 8) > 1e-4  # a mean of means would be another loss


# Stopping, and the best weights


def test_early_stopping_restores_the_best(gpt2):
    """After `patience` epochs without improvement training stops and restores the best epoch's weights."""
    loop = gpt2.loop(LoRA(rank=2), max_epochs=10, patience=2)
    validation, kept = iter([3.0, 2.0, 2.0, 5.0, 1.0]), []

    def validate() -> float:
        kept.append({name: p.detach().clone() for name, p in loop.state.trained.items()})
        return next(validation)

    train(loop, validate)
    now = loop.state.progress
    assert (now.epoch, now.best_step, now.best_loss, now.stopped) == (4, 6, 2.0, True)
    for name, parameter in loop.model.adapted.trained_parameters().items():
        assert torch.equal(parameter, kept[1][name])
        assert not torch.equal(parameter, kept[3][name])


def test_training_goes_to_the_last_epoch_while_it_gains(gpt2):
    """If every epoch improves, all are trained and the last is the best."""
    loop = gpt2.loop(LoRA(rank=2), max_epochs=3)
    train(loop)
    now = loop.state.progress
    assert (now.epoch, now.best_step, now.evaluations_without_gain) == (3, 9, 0)


def train_on_a_plateau(loop: Loop, losses: list[float]) -> tuple[list[float], list[dict[str, torch.Tensor]]]:
    """The rate of each step, and the weights at each evaluation and after its decision; the last losses rise."""
    rates, weights, validation = [], [], iter([*losses, *(99.0 + n for n in range(100))])

    def copied() -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in loop.state.trained.items()}

    while not loop.finished:
        if loop.evaluation_due:
            weights.append(copied())
            loop.evaluate(next(validation))
            weights.append(copied())
        else:
            rates.append(loop.step().rate)
    return rates, weights


@pytest.mark.parametrize(("share", "steps", "expected"), [(0.07, 100, 7), (0.28, 25, 7), (0.5, 3, 2), (1.0, 12, 12)])
def test_an_evaluation_is_not_a_step_late_by_rounding(gpt2, share, steps, expected):
    """0.07 of 100 steps is 7.000000000000001 in floating point, and means the seventh step."""
    loop = gpt2.loop(LoRA(rank=2), eval_every=share, schedule="constant", max_epochs=1)
    loop.steps_per_epoch = loop.total_steps = steps
    now = loop.state.progress
    due = [now.step for now.step in range(1, steps + 1) if (setattr(now, "cursor", now.step) or loop.evaluation_due)]
    assert due[0] == expected


def test_a_plateau_begins_the_decay(gpt2):
    """After `patience` evaluations without improvement the rate falls to 0 from the best weights, over half the steps
    that led to them; training then ends with the best weights overall."""
    loop = gpt2.loop(
        LoRA(rank=2), max_epochs=20, patience=2, schedule="warmup_stable_decay", warmup_fraction=0.0, learning_rate=0.1
    )
    rates, weights = train_on_a_plateau(loop, [5.0, 4.0, 3.0, 2.0, 2.5, 2.0])
    now = loop.state.progress
    assert (now.decay_start, now.decay_steps, now.best_step, now.step) == (18, 6, 12, 24)
    assert rates == pytest.approx([0.1] * 18 + [0.1 * k / 6 for k in (6, 5, 4, 3, 2, 1)])
    fourth, restored = weights[6], weights[11]
    for name, parameter in loop.state.trained.items():
        assert torch.equal(restored[name], fourth[name])
        assert torch.equal(parameter, fourth[name])
    assert loop.state.best_moments == {}


@pytest.mark.parametrize(
    ("changes", "losses", "best", "steps"),
    [
        ({"max_epochs": 20, "patience": 2}, [5.0, 4.0, 6.0, 6.0, 3.0], 6, 3),
        ({"max_epochs": 6, "patience": 3}, [5.0, 4.0, 3.0, 3.5, 2.0, 1.0], 9, 6),
    ],
    ids=["on a plateau", "forced by the end of the epochs"],
)
def test_a_decay_is_as_if_training_had_not_gone_on(gpt2, changes, losses, best, steps):
    """The decay ends with the exact weights of a run whose decay began right at the best weights: with the optimizer
    moments at that point, and on the documents that came next."""
    changes |= {"schedule": "warmup_stable_decay", "warmup_fraction": 0.0}
    late = gpt2.loop(LoRA(rank=2), **changes)
    train_on_a_plateau(late, losses)
    early = gpt2.loop(LoRA(rank=2), **changes)
    falling = iter(range(99, 0, -1))
    while not early.finished:
        if early.evaluation_due:
            early.evaluate(next(falling))
            if early.state.progress.step == best:
                early.state.progress.decay_start, early.state.progress.decay_steps = best, steps
        else:
            early.step()
    assert early.state.progress.best_step == best + steps
    assert late.state.progress.best_step - late.state.progress.decay_start == steps
    assert all(torch.equal(early.state.best[name], late.state.best[name]) for name in early.state.best)


def test_the_decay_fits_into_the_epochs(gpt2):
    """While validation improves, the decay takes the last third of all steps, and the last step has a rate above 0."""
    loop = gpt2.loop(LoRA(rank=2), max_epochs=6, schedule="warmup_stable_decay", warmup_fraction=0.0, learning_rate=0.6)
    rates, _ = train_on_a_plateau(loop, [10.0 - n for n in range(6)])
    assert rates == pytest.approx([0.6] * 12 + [0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert (loop.state.progress.decay_start, loop.state.progress.best_step) == (12, 18)


def test_a_decay_that_must_begin_before_a_plateau_was_sure(gpt2):
    """If the last decay that fits begins after an evaluation without improvement, it begins from the best weights and
    takes all remaining steps."""
    loop = gpt2.loop(
        LoRA(rank=2), max_epochs=6, patience=3, schedule="warmup_stable_decay", warmup_fraction=0.0, learning_rate=0.6
    )
    rates, weights = train_on_a_plateau(loop, [5.0, 4.0, 3.0, 3.5])
    now = loop.state.progress
    assert (now.decay_start, now.decay_steps, now.best_step, now.step) == (12, 6, 9, 18)
    assert rates == pytest.approx([0.6] * 12 + [0.6 * k / 6 for k in (6, 5, 4, 3, 2, 1)])
    second, third = weights[2], weights[4]
    assert all(torch.equal(p, third[name]) for name, p in loop.state.trained.items())
    assert any(not torch.equal(second[name], third[name]) for name in second)


def test_better_weights_of_the_decay_are_kept(gpt2):
    """The decay is evaluated at each epoch's end and at its own end, and its best weights are kept."""
    loop = gpt2.loop(LoRA(rank=2), max_epochs=20, patience=1, schedule="warmup_stable_decay")
    train_on_a_plateau(loop, [6.0, 5.0, 4.0, 3.0, 3.5, 2.0, 2.5])
    now = loop.state.progress
    assert (now.decay_start, now.decay_steps, now.best_step, now.best_loss) == (15, 6, 18, 2.0)
    assert (now.step, now.evaluations) == (21, 7)  # at 3, 6, 9, 12, 15, 18 and 21


WITHOUT_GAIN = {3: 5.0, 6: 4.0, 9: 4.5, 12: 4.6, 15: 4.7, 18: 4.1, 21: 3.0}  # validation losses by step


def evaluate_by_step(loop: Loop, losses: dict[int, float], until: int = 99) -> list[float]:
    """Train to a step, or to the end, with given losses; return the rate of each step."""
    rates = []
    while not loop.finished and loop.state.progress.step < until:
        if loop.evaluation_due:
            loop.evaluate(losses[loop.state.progress.step])
        else:
            rates.append(loop.step().rate)
    return rates


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_decay_without_gain_is_followed_by_a_shorter_run(gpt2, optimizer):
    """A decay without improvement has read documents once more than the best weights had. Training restarts, and is bit
    for bit a run as long as the best weights took."""
    changes = {"patience": 2, "schedule": "warmup_stable_decay", "optimizer": optimizer, "learning_rate": 0.02}
    loop = gpt2.loop(LoRA(rank=2), max_epochs=9, **changes)
    loop.state.keep_untouched(9.0, to_restart=True)
    rates = evaluate_by_step(loop, WITHOUT_GAIN)
    now = loop.state.progress
    assert (now.restarted_at, now.decay_start, now.decay_steps, now.best_step, now.step) == (15, 19, 2, 21, 21)

    short = gpt2.loop(LoRA(rank=2), max_epochs=2, **changes)
    assert rates[15:] == evaluate_by_step(short, {3: 4.1, 6: 3.0})
    assert now.epoch == short.state.progress.epoch == 2
    assert all(torch.equal(p, short.state.trained[name]) for name, p in loop.state.trained.items())


def test_many_epochs_hold_the_runs_with_few(gpt2):
    """If the second of nine epochs has the best weights, the decay from them is that of a run with three epochs, and
    the shorter run is one with two: allowing more epochs than needed costs no method anything."""
    changes = {"patience": 2, "schedule": "warmup_stable_decay", "learning_rate": 0.02, "warmup_fraction": 0.3}
    loop = gpt2.loop(LoRA(rank=2), max_epochs=9, **changes)
    loop.state.keep_untouched(9.0, to_restart=True)
    rates = evaluate_by_step(loop, WITHOUT_GAIN, until=15)
    decayed = {name: p.detach().clone() for name, p in loop.state.trained.items()}
    rates += evaluate_by_step(loop, WITHOUT_GAIN)
    for epochs, steps, weights in ((2, range(15, 21), loop.state.trained), (3, [*range(6), *range(12, 15)], decayed)):
        few = gpt2.loop(LoRA(rank=2), max_epochs=epochs, **changes)
        found = evaluate_by_step(few, {3: 5.0, 6: 4.0, 9: 3.9})
        assert found == [rates[step] for step in steps]
        assert all(torch.equal(p, weights[name]) for name, p in few.state.trained.items())


@pytest.mark.parametrize(
    ("changes", "losses", "why"),
    [
        ({}, {3: 5.0, 6: 4.0, 9: 4.5, 12: 4.6, 15: 3.9}, "the decay gained"),
        ({"max_epochs": 6}, WITHOUT_GAIN, "six more steps would be more than allowed"),
        ({}, {3: 9.5, 6: 9.6, **dict.fromkeys(range(7, 28), 9.7)}, "nothing beat the untouched weights"),
        ({"schedule": "linear"}, {3: 5.0, 6: 4.0, 9: 4.5, 12: 4.6}, "early stopping ended it"),
        ({"schedule": "constant", "max_epochs": 3}, {3: 5.0, 6: 4.0, 9: 4.5}, "it has no decay"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_training_does_not_begin_again(gpt2, changes, losses, why):
    """Training does not restart if the decay improved, if the steps do not allow it, if the rate was too high, or
    without a decay."""
    loop = gpt2.loop(LoRA(rank=2), **({"max_epochs": 9, "patience": 2, "schedule": "warmup_stable_decay"} | changes))
    loop.state.keep_untouched(9.0, to_restart=loop.schedule.decays_on_plateau)
    evaluate_by_step(loop, losses)
    assert loop.finished and loop.state.progress.restarted_at == 0
    assert loop.state.progress.step <= loop.total_steps


def test_weights_that_never_gain_are_the_untouched_ones(gpt2):
    """If no evaluation beats the loss before training, the untouched weights are restored at the end."""
    loop = gpt2.loop(LoRA(rank=2), max_epochs=9, patience=2, schedule="warmup_stable_decay")
    before = {name: p.detach().clone() for name, p in loop.state.trained.items()}
    loop.state.keep_untouched(1.0, to_restart=True)
    _, weights = train_on_a_plateau(loop, [])
    now = loop.state.progress
    assert (now.best_step, now.decay_start, now.decay_steps) == (0, 6, 3)
    assert all(torch.equal(weights[3][name], weights[2][name]) for name in before)  # unchanged
    assert all(torch.equal(p, before[name]) for name, p in loop.state.trained.items())


def test_evaluations_come_every_part_of_an_epoch(gpt2):
    """With `eval_every` 0.5 an epoch of three steps is evaluated after two and at its end; patience counts these
    evaluations."""
    at = []

    def validate() -> float:
        at.append(loop.state.progress.step)
        return 1.0

    loop = gpt2.loop(LoRA(rank=2), max_epochs=5, eval_every=0.5, patience=3)
    train(loop, validate)
    assert at == [2, 3, 5, 6]
    assert loop.state.progress.stopped and loop.state.progress.epoch == 2


def test_a_trial_is_the_beginning_of_a_run(gpt2, monkeypatch):
    """With `max_steps` the loop takes the first steps of the same order, and evaluates once."""
    seen: list[list[str]] = []
    real = training.micro_groups
    monkeypatch.setattr(
        training, "micro_groups", lambda *given: seen.append([gpt2.pairs[i].id for i in given[1]]) or real(*given)
    )
    train(gpt2.loop(LoRA(rank=2)))
    whole = list(seen)
    seen.clear()
    loop = gpt2.loop(LoRA(rank=2), max_epochs=1, max_steps=2)
    train(loop)
    assert seen == whole[:2] and loop.state.progress.evaluations == 1


def test_every_document_once_an_epoch(gpt2):
    """An epoch trains on each pair once; tokens and targets are those of the pairs, without padding and virtual
    tokens."""
    loop = gpt2.loop(PromptTuning(num_virtual_tokens=7), max_epochs=2, global_batch_size=5)
    train(loop)
    targets = sum(len(p.summary_ids) + 1 for p in gpt2.pairs)
    tokens = targets + sum(len(p.document_ids) + len(gpt2.template.separator_ids) for p in gpt2.pairs)
    now = loop.state.progress
    assert (now.documents, now.targets, now.tokens, now.step) == (2 * len(gpt2.pairs), 2 * targets, 2 * tokens, 6)


def test_the_order_is_the_same_for_every_method(gpt2, monkeypatch):
    """The documents of a step depend on seed and epoch, never on the method."""
    seen: list[list[str]] = []
    real = training.micro_groups

    def watched(split, indices, *limits):
        seen.append([split[i].id for i in indices])
        return real(split, indices, *limits)

    monkeypatch.setattr(training, "micro_groups", watched)
    orders = []
    for method, seed in ((PromptTuning(init="random"), 0), (LoRA(), 0), (DROPPING_LORA, 0), (LoRA(), 1)):
        train(gpt2.loop(method, seed=seed))
        orders.append(list(seen))
        seen.clear()
    assert orders[0] == orders[1] == orders[2] != orders[3]
    assert orders[0][:3] != orders[0][3:]  # the second epoch has another order
    assert sorted(epoch_order(100, 0, 0)) == list(range(100))


def _pairs_of(lengths) -> list[Pair]:
    """Pairs of documents with these token counts; each summary has nine tokens."""
    return [Pair(str(i), np.ones(n, np.int32), np.ones(9, np.int32)) for i, n in enumerate(lengths)]


@pytest.mark.parametrize(("ranks", "on_gpu", "padding"), [(1, False, 0.05), (1, True, 0.25), (3, True, 0.05)])
@pytest.mark.parametrize("size", [1, 4, 32])
def test_little_of_a_micro_batch_is_padding(size, ranks, on_gpu, padding):
    """Each document of a step is in one micro-batch, none larger than requested or than a rank's share, or with more
    padding than allowed: 25% on one GPU, where passes are expensive, 5% elsewhere."""
    draw = np.random.default_rng(0)
    split, indices = _pairs_of(draw.integers(0, 800, 300)), draw.permutation(300)[:32].tolist()
    groups, most = micro_groups(split, indices, size, ranks, on_gpu), min(size, -(-32 // ranks))
    lengths = [[len(split[i].document_ids) + 9 for i in group] for group in groups]
    assert sorted(i for group in groups for i in group) == sorted(indices)
    shares = [sum(group) / (max(group) * len(group)) for group in lengths]
    assert all(len(group) <= most for group in lengths) and min(shares) >= 1 - padding
    assert padding == 0.05 or size == 1 or min(shares) < 0.95
    alike = micro_groups(_pairs_of([500] * 32), list(range(32)), size, ranks, on_gpu)
    assert [len(group) for group in alike] == [most] * (32 // most) + [32 % most] * (32 % most > 0)


def test_the_ranks_divide_a_step_evenly():
    """The largest micro-batch comes first, each goes to the rank with least to compute; equal lengths give equal
    divisions."""
    split = _pairs_of([791, 391, 391, 191])  # 800, 400, 400 and 200 tokens with their summaries
    assert ranks_of(split, [[0], [1], [2], [3]], 2) == [0, 1, 1, 0]
    assert ranks_of(split, [[3], [1, 2], [0]], 2) == [0, 0, 1]  # two documents of 400 count as much as one of 800
    assert ranks_of(split, [[0], [1]], 3) == [0, 1]
    draw = np.random.default_rng(0)
    for ranks in (2, 4):
        split = _pairs_of(draw.integers(200, 500, 16))
        groups = micro_groups(split, list(range(16)), 16, ranks)
        owners = ranks_of(split, groups, ranks)
        loads = [
            sum(len(split[i].document_ids) for g, o in zip(groups, owners, strict=True) if o == r for i in g)
            for r in range(ranks)
        ]
        assert max(loads) < 1.3 * sum(loads) / ranks


class _RankOfTwo(OneProcess):
    """What accelerate gives to one of two ranks; its sums cover only its own part."""

    num_processes = 2

    def __init__(self, rank: int):
        super().__init__("cpu", "fp32")
        self.process_index = rank

    def reduce(self, values, how):
        """A sum over the ranks, without the other one."""
        return values


def test_no_rank_is_idle(gpt2, monkeypatch):
    """A step that is one micro-batch on one process is split for two: each computes half of the documents, and their
    gradients add up to those of one process."""
    rows, gradients, real = [], [], training.target_losses
    monkeypatch.setattr(training, "target_losses", lambda m, batch: (rows.append(len(batch.ids)), real(m, batch))[1])
    alike = [gpt2.pairs[0]] * 8
    machines = [gpt2.machine, *(Machine(_RankOfTwo(rank), "fp32") for rank in (0, 1))]
    plan = {"global_batch_size": 8, "micro_batch_size": 8, "max_grad_norm": 1e9}
    for machine in machines:
        loop = replace(gpt2, machine=machine, pairs=alike).loop(LoRA(rank=2), **plan)
        loop.state.optimizer.step = lambda loop=loop: gradients.append(
            torch.cat([p.grad.flatten() for p in loop.state.trained.values()])
        )
        loop.step()
    assert rows == [8, 4, 4]
    torch.testing.assert_close(gradients[1] + gradients[2], gradients[0])


# Non-finite numbers


def test_a_loss_that_is_no_number_stops_before_the_step(gpt2):
    """A non-finite loss ends training before the optimizer step; the message names documents, and no weight has
    changed."""
    loop = gpt2.loop(LoRA(rank=2))
    state = loop.state
    with torch.no_grad():
        loop.model.parts.final_norm.weight[0] = float("nan")
    before = {name: p.detach().clone() for name, p in state.trained.items()}
    with pytest.raises(NonFiniteLoss, match=r"loss is nan in step 1\..*pair-\d.*lower"):
        train(loop)
    assert all(torch.equal(p, before[name]) for name, p in state.trained.items())
    assert not state.optimizer.state and state.progress.step == 0


def test_a_gradient_that_is_no_number_stops_before_the_step(gpt2):
    """A finite loss with an infinite gradient ends training the same way."""
    loop = gpt2.loop(PromptTuning(num_virtual_tokens=3))
    state, prompt = loop.state, loop.model.adapted.virtual_tokens
    before = prompt.weight.detach().clone()
    prompt.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteLoss, match=r"gradient's norm is .* in step 1\..*pair-\d"):
        train(loop)
    assert torch.equal(prompt.weight, before)
    assert not state.optimizer.state and state.progress.step == 0


def test_a_validation_loss_that_is_no_number_is_told(gpt2):
    """A NaN validation loss is an error, not an epoch without improvement."""
    with pytest.raises(NonFiniteLoss, match="validation"):
        train(gpt2.loop(LoRA(rank=2)), validate=lambda: float("nan"))


# Modes


@contextmanager
def watched_modes(model: nn.Module):
    """The mode of every module in each forward pass, by name."""
    modes: dict[str, set[bool]] = {}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: modes.setdefault(name, set()).add(m.training))
        for name, module in model.named_modules()
    ]
    yield modes
    for handle in handles:
        handle.remove()


def modes_in_training(world: World, method) -> dict[str, set[bool]]:
    loop = world.loop(method, max_epochs=1)
    with watched_modes(loop.model.parts.model) as modes:
        train(loop)
    assert not any(module.training for module in loop.model.parts.model.modules())
    return modes


def test_frozen_parts_stay_in_eval_mode(gpt2):
    """Frozen parts have no dropout; a prompt trains with the whole model in eval mode."""
    assert set().union(*modes_in_training(gpt2, PromptTuning(num_virtual_tokens=3)).values()) == {False}


def test_trained_blocks_are_in_train_mode(gpt2):
    """Trained blocks use their dropout; blocks below them do not."""
    modes = modes_in_training(gpt2, LastLayers(num_blocks=2))
    for name, found in modes.items():
        assert found == {name.startswith(("transformer.h.1", "transformer.h.2", "transformer.ln_f"))}, name


def test_added_dropout_runs_and_the_models_own_does_not(world):
    """LoRA's dropout is active; the dropout of the surrounding frozen blocks is not."""
    modes = modes_in_training(world, DROPPING_LORA)
    added = {name for name in modes if "lora_" in name}
    assert added and all(modes[name] == {True} for name in added)
    own = [name for name in modes if name.endswith(("_dropout", ".drop", "base_layer", ".self_attn", ".attn", ".mlp"))]
    own = [name for name in own if name not in added]
    assert own and all(modes[name] == {False} for name in own)


def test_everything_trained_is_all_in_train_mode(gpt2):
    """Full fine-tuning uses every dropout of the model."""
    assert set().union(*modes_in_training(gpt2, Full()).values()) == {True}


def test_validation_is_in_eval_mode(gpt2):
    """Whatever is trained, validation sees the model in eval mode."""
    loop = gpt2.loop(Full(), max_epochs=1)
    seen = []

    def validate() -> float:
        with watched_modes(loop.model.parts.model) as modes:
            loss = split_loss(loop.model, gpt2.pairs, batch_size=4).mean
        seen.append(set().union(*modes.values()))
        return loss

    train(loop, validate)
    assert seen == [{False}]


# The state


class Interrupted(Exception):
    """The process ends here."""


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    ("method", "optimizer"),
    [(DROPPING_LORA, "adamw"), (LastLayers(), "adamw"), (LastLayers(), "adafactor"), (PromptTuning(), "adamw")],
    ids=["lora", "last-layers", "adafactor", "prompt"],
)
def test_a_saved_state_continues_bit_by_bit(gpt2, method, optimizer, at, tmp_path):
    """Training saved after any step, within an epoch or at its end, and loaded into a fresh process ends in the same
    bits."""

    def begin(chance: int):
        torch.manual_seed(chance)
        return gpt2.loop(method, optimizer=optimizer, max_epochs=2, learning_rate=0.02)

    def train_through(loop: Loop, on_step) -> None:
        train(loop, lambda: split_loss(loop.model, gpt2.pairs, batch_size=4).mean, on_step)

    def save_and_stop(step: Step) -> None:
        if loop.state.progress.step == at:
            tensors, numbers = loop.state.state_dict()
            tensor_files.write_tensors(tmp_path / "state.safetensors", tensors)
            json_files.write_json(tmp_path / "state.json", numbers)
            raise Interrupted

    loop = begin(1)
    train_through(loop, lambda step: None)
    whole = loop.state

    loop = begin(1)
    with pytest.raises(Interrupted):
        train_through(loop, save_and_stop)

    loop = begin(2)
    loop.state.load_state_dict(
        tensor_files.read_tensors(tmp_path / "state.safetensors"), json.loads((tmp_path / "state.json").read_text())
    )
    again, steps = loop.state, []  # loaded into an existing loop, as in a run
    train_through(loop, lambda step: steps.append(again.progress.step))
    assert steps == list(range(at + 1, 7))
    assert again.progress == whole.progress
    for name, parameter in whole.trained.items():
        assert torch.equal(again.trained[name], parameter), name
    ours, theirs = again.state_dict()[0], whole.state_dict()[0]
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def plateau_loop(world: World) -> Loop:
    """A run with dropout whose decay does not improve, so training restarts."""
    changes = {"max_epochs": 9, "patience": 2, "schedule": "warmup_stable_decay", "eval_every": 1.0}
    loop = world.loop(DROPPING_LORA, learning_rate=0.02, **changes)
    loop.state.keep_untouched(9.0, to_restart=True)
    return loop


@pytest.fixture(scope="module")
def plateau(worlds) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The rates and final tensors of such a run without interruption."""
    loop = plateau_loop(worlds["gpt2"])
    rates = evaluate_by_step(loop, WITHOUT_GAIN)
    assert len(rates) == loop.state.progress.step == 21
    return rates, {name: tensor.clone() for name, tensor in loop.state.state_dict()[0].items()}


WITHIN = (1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19)  # steps next to which others are of the same part of the run
CUTS = [
    *(pytest.param(at, False, marks=[pytest.mark.slow] * (at in WITHIN)) for at in range(1, 21)),
    *((at, True) for at in (3, 6, 9, 12, 15, 18)),
]


@pytest.mark.parametrize(("at", "evaluated"), CUTS)
def test_a_plateau_resumes_bit_by_bit(gpt2, plateau, at, evaluated, tmp_path):
    """Saved before, in or after the plateau, within the decay, or after the restart, before or after an evaluation,
    training ends in the same bits and rates."""
    rates, theirs = plateau
    first, second = plateau_loop(gpt2), plateau_loop(gpt2)
    before = evaluate_by_step(first, WITHOUT_GAIN, at)
    if evaluated:
        first.evaluate(WITHOUT_GAIN[at])
    tensors, numbers = first.state.state_dict()
    tensor_files.write_tensors(tmp_path / "state.safetensors", tensors)
    second.state.load_state_dict(
        tensor_files.read_tensors(tmp_path / "state.safetensors"), json.loads(json.dumps(numbers))
    )
    second = Loop(second.model, second.pairs, second.plan, second.state)
    assert before + evaluate_by_step(second, WITHOUT_GAIN) == rates
    ours = second.state.state_dict()[0]
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_whole_job_is_reproducible(world):
    """The same seed gives the same bits, including dropout."""

    def run() -> tuple[dict, dict[str, torch.Tensor]]:
        torch.manual_seed(5)
        loop = world.loop(DROPPING_LORA)
        train(loop)
        return vars(loop.state.progress), {name: p.detach().clone() for name, p in loop.state.trained.items()}

    (progress, first), (again, second) = run(), run()
    assert progress == again and all(torch.equal(first[name], second[name]) for name in first)


def test_nothing_to_train_is_nothing_to_save(gpt2):
    """The untouched model has no trained tensors."""
    assert gpt2.adapt(Untuned()).trained_parameters() == {}


@pytest.mark.parametrize(
    "method", [DROPPING_LORA, PromptTuning(num_virtual_tokens=3), Full()], ids=["lora", "prompt", "full"]
)
def test_a_model_that_is_put_back_trains_as_a_fresh_one(gpt2, method):
    """After a trial the model is bit-equal to before, has no gradients, and trains like a fresh one."""
    loop = gpt2.loop(method)
    trained, fresh = loop.state.trained, gpt2.loop(method)
    before = {name: value.detach().clone() for name, value in trained.items()}
    with loop.model.put_back():
        train(loop)
        assert any(not torch.equal(trained[name], value) for name, value in before.items())
    assert all(torch.equal(trained[name], value) and trained[name].grad is None for name, value in before.items())
    assert not any(module.training for module in loop.model.parts.model.modules())
    losses = []
    for each in (gpt2.loop_of(loop.model), fresh):
        losses.append([])
        train(each, on_step=lambda step: losses[-1].append(step.loss))
    assert losses[0] == losses[1] and len(losses[0]) > 3
