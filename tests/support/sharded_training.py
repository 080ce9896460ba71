"""Run by two ranks: train small models whole on each rank and sharded over both; write the results to a JSON file.

PYTHONPATH=tests python -m torch.distributed.run --standalone --nproc-per-node 2 -m support.sharded_training FILE [all]
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from support.families import random_model
from support.worlds import FAMILIES, OneProcess, World
from triptych.contracts import Method
from triptych.corpus.sequence import Pair, Template
from triptych.engine.evaluation import split_loss
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import make_ready_to_shard
from triptych.engine.sharding import clip_gradients, held_bytes, shares_weights, whole_tensors
from triptych.engine.training import Loop
from triptych.machine import Machine, start_machine
from triptych.models.tiny import Tiny
from triptych.plugins import import_plugins
from triptych.registry import registered
from triptych.run.notes import notes_on_training

FEW = ("full", "last-layers", "lora", "prompt-tuning", "untuned")
RECIPE = {
    "schedule": "warmup_stable_decay",
    "patience": 1,
    "max_epochs": 3,
    "learning_rate": 0.01,
    "micro_batch_size": 1,
}
SMALL = 64  # vocabulary size that all families have
DECODING = {"num_beams": 2, "max_new_tokens": 6, "no_repeat_ngram_size": 3, "length_penalty": 1.0, "min_new_tokens": 0}


def world_of(family: str, machine: Machine) -> World:
    """A small random model with eleven pairs: the last of three steps has three, an odd number of micro-batches."""
    numbers = np.random.default_rng(0)

    def pair(index: int) -> Pair:
        sizes = (int(numbers.integers(8, 30)), int(numbers.integers(3, 9)))
        document, summary = (numbers.integers(2, SMALL, size).astype(np.int32) for size in sizes)
        return Pair(f"pair-{index}", document, summary)

    model = FAMILIES[family]() if family in FAMILIES else random_model(family)
    tokenizer = AutoTokenizer.from_pretrained(Tiny().folder())
    return World(model, Path(), tokenizer, Template((), (5, 6), 0), [pair(i) for i in range(11)], machine)


def assembled(world: World, method: Method, machine: Machine) -> EngineModel:
    """An adapted model, whole on each rank if the machine has one process, else sharded."""
    model = make_ready_to_shard(replace(world, machine=machine).model(method))
    return model.shard() if machine.num_processes > 1 else model


def losses_of(loop: Loop, steps: int | None = None) -> list[float]:
    """Train to the end or for a number of steps, and return the losses of all steps and evaluations."""
    found: list[float] = []
    while not loop.finished and loop.state.progress.step != steps:
        if loop.evaluation_due:
            found.append(split_loss(loop.model, loop.pairs[:5], 2).mean)
            loop.evaluate(found[-1])
        else:
            found.append(loop.step().loss)
    return found


def summaries_of(model: EngineModel) -> list[list[int]]:
    """Summaries of six documents; with a sharded model, each rank writes three."""
    documents = [np.arange(3 + 2 * i, 12 + 4 * i, dtype=np.int32) for i in range(6)]
    own = [i for i in range(6) if model.machine.owns(i)]
    model.eval()
    new = generate(model, [documents[i] for i in own], DecodingPlan(**DECODING, batch_size=2))
    found = dict(model.machine.collect(list(zip(own, new, strict=True))))
    return [found[i] for i in range(6)]


def outcome(world: World, method: Method, machine: Machine, **changes) -> dict:
    """The results of training: losses, summaries, trained tensors, bytes, notes."""
    model = assembled(world, method, machine)
    recipe = {**RECIPE, **changes}
    losses = losses_of(replace(world, machine=machine).loop_of(model, **recipe)) if method.trains else []
    trained = whole_tensors(model.adapted.trained_parameters())
    here, whole = held_bytes(model.parts.model)
    return {
        "losses": [*losses, split_loss(model, world.pairs, 2).mean],
        "summaries": summaries_of(model),
        "trained": float(sum(tensor.double().abs().sum() for tensor in trained.values())),
        "bytes": machine.collect([here]),
        "whole": whole,
        "notes": notes_on_training(model),
    }


def resumed(world: World, method: Method, machine: Machine) -> tuple[list[float], list[float]]:
    """The losses after the fourth step, without and with an interruption."""
    world = replace(world, machine=machine)
    loop = world.loop_of(assembled(world, method, machine), **RECIPE)
    losses_of(loop, steps=4)
    tensors, numbers = loop.state.state_dict()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    again = world.loop_of(assembled(world, method, machine), **RECIPE)
    again.state.load_state_dict(saved, numbers)
    return losses_of(loop), losses_of(again)


def gradients_of(world: World, method: Method, machine: Machine) -> list[float]:
    """Norm and clipped sizes of the gradients in the last step of an epoch, with an odd number of micro-batches.

    Adam's updates do not depend on the scale of gradients, so the losses would not reveal a wrong one.
    """
    loop = replace(world, machine=machine).loop_of(assembled(world, method, machine), **RECIPE)
    loop.state.progress.cursor = 2
    found: list[float] = []

    def keep(indices: list[int], rate: float) -> None:
        trained = loop.state.trained
        for most in (1e9, 0.1):
            found.append(float(clip_gradients(trained.values(), most)))
            whole = whole_tensors({name: p.grad for name, p in trained.items() if p.grad is not None})
            found.extend(float(whole[name].double().abs().sum()) for name in sorted(whole))

    loop._update = keep  # type: ignore[method-assign]
    loop.step()
    return found


def main(file: str, everything: bool) -> None:
    """Run all cases and write the results."""
    import_plugins()
    ranks, alone = start_machine("cpu", "fp32"), Machine(OneProcess("cpu", "fp32"), "fp32")
    found: dict = {"methods": {}, "gradients": {}, "resumed": {}, "bf16": {}}
    methods = {label: cls() for label, cls in registered(Method).items() if everything or label in FEW}
    cases = [("gpt2", label, method) for label, method in methods.items()]
    if everything:
        cases += [("llama", label, method) for label, method in methods.items() if label != "bitfit"]  # no biases
        cases += [("Gemma2", label, methods[label]) for label in ("lora", "full")]  # logits with a soft cap: plain path
        cases += [("gpt2", head, type(methods["last-layers"])(head=head)) for head in ("tied", "untied")]
    for family, label, method in cases:
        world = world_of(family, ranks)
        found["methods"][f"{family} {label}"] = [outcome(world, method, each) for each in (alone, ranks)]
    world = world_of("gpt2", ranks)
    for label in ("full", "lora"):
        method = methods[label]
        found["gradients"][label] = [gradients_of(world, method, each) for each in (alone, ranks)]
        found["resumed"][label] = resumed(world, method, ranks)
        low = Machine(OneProcess("cpu", "bf16"), "bf16")
        both = Machine(_InBf16(ranks.accelerator), "bf16")
        found["bf16"][label] = [outcome(world, method, each, max_epochs=1) for each in (low, both)]
    parts = world.parts()
    found["shares"] = [shares_weights(parts)]
    parts.blocks[1].mlp = parts.blocks[0].mlp
    found["shares"].append(shares_weights(parts))
    if ranks.is_main:
        Path(file).write_text(json.dumps(found))


class _InBf16:
    """The ranks' accelerator, with autocast to bf16."""

    def __init__(self, accelerator):
        self._accelerator = accelerator

    def __getattr__(self, name: str):
        return getattr(self._accelerator, name)

    def autocast(self):
        """Matrix products in bf16."""
        return torch.autocast("cpu", torch.bfloat16)


if __name__ == "__main__":
    main(sys.argv[1], everything="all" in sys.argv[2:])
