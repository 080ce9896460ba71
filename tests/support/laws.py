"""Laws that hold for every registered method; `laws/test_laws.py` has a toy that breaks each."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from support.worlds import World, all_parameters, disturb, gradients, largest_difference, train
from triptych.contracts import (
    AdaptedModel,
    Baseline,
    Context,
    Dataset,
    EmbeddedModel,
    Family,
    Method,
    Metric,
    ModelParts,
)
from triptych.engine.batching import collate
from triptych.engine.flops import training_flops
from triptych.engine.forward import target_logits, target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.savings.ready import probe_recomputation
from triptych.models.parts import freeze
from triptych.plugins import import_plugins
from triptych.registry import Plugin, registered
from triptych.results.records import Cost, Loss, Parameters, Rouge
from triptych.run.adapters import Origin, load_tensors, read_manifest, save_adapter

import_plugins()
CONTRACTS = (Method, Baseline, Dataset, Metric, EmbeddedModel, Family)
MEASURED = {name for section in (Parameters, Loss, Rouge, Cost) for name in section.model_fields}


class BiasOnly(Method):
    """Trains only the vectors of the blocks: biases and the weights of norms."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze everything but vectors."""
        freeze(parts)
        for parameter in parts.blocks.parameters():
            parameter.requires_grad_(parameter.ndim == 1)
        return AdaptedModel(parts)


class Bottleneck(nn.Module):
    """x + U dropout(gelu(D x))."""

    def __init__(self, width: int, inner: int, like: Tensor, generator: torch.Generator):
        super().__init__()
        self.down = nn.Linear(width, inner, device=like.device)
        self.up = nn.Linear(inner, width, device=like.device)
        self.dropout = nn.Dropout(0.2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        return x + self.up(self.dropout(nn.functional.gelu(self.down(x))))


class SerialAdapter(Method):
    """A bottleneck after each block (Houlsby et al. 2019)."""

    inner: int = Field(4, ge=1, description="width of the bottleneck")

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze everything and add a bottleneck after each block."""
        freeze(parts)
        for block in parts.blocks:
            block.bottleneck = Bottleneck(parts.hidden_size, self.inner, parts.head.weight, context.generator)
            block.register_forward_hook(_through_bottleneck)
        return AdaptedModel(parts)


def _through_bottleneck(block: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (block.bottleneck(output[0]), *output[1:])
    return block.bottleneck(output)


def law_explained(cls: type[Plugin]) -> None:
    """Every option of a plug-in has help text, and the class has a summary line."""
    own = [base.__doc__ for base in CONTRACTS]
    assert cls.__doc__ and cls.__doc__ not in own and cls.summary_line().endswith(".")
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name} has no description"


def law_trains_exactly_what_it_says(method: Method, world: World) -> None:
    """What is trained does not depend on what required gradients before; a method that trains does train something."""
    found = []
    for before in (True, False):
        parts = world.parts()
        parts.model.requires_grad_(before)
        found.append(set(method.adapt(parts, world.context()).trained_parameters()))
    assert found[0] == found[1], f"left as they were: {sorted(found[0] ^ found[1])}"
    assert bool(found[0]) == method.trains


def law_gradients_reach_exactly_what_is_trained(method: Method, world: World) -> None:
    """The tensors that get gradients from the loss are exactly those that are counted, saved and trained."""
    adapted = world.adapt(method)
    disturb(adapted)
    trained = adapted.trained_parameters()
    loss = target_losses(world.engine(adapted), collate(world.pairs, world.template)).sum()
    leaves = _leaves(loss)
    assert leaves == {id(p) for p in trained.values()}
    for name, gradient in (gradients(adapted, loss) if trained else {}).items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, f"{name} gets no gradient"


def _leaves(loss: Tensor) -> set[int]:
    """Ids of the leaf tensors of a loss's graph."""
    seen, ahead, leaves = set(), [loss.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        ahead += [following for following, _ in node.next_functions]
    return leaves


def law_only_what_is_trained_changes(method: Method, world: World) -> None:
    """After two steps at a high rate, every trained tensor has changed, and no bit of anything else."""
    loop = world.loop(method, max_epochs=1, global_batch_size=6, learning_rate=0.1, warmup_fraction=0.0)
    before = _all_tensors(loop.model.adapted)
    train(loop)
    assert loop.state.progress.step == 2
    for name, value in _all_tensors(loop.model.adapted).items():
        assert torch.equal(value, before[name]) == (name not in loop.state.trained), name


def _all_tensors(adapted: AdaptedModel) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    named = all_parameters(adapted) | dict(adapted.parts.model.named_buffers())
    return {name: value.detach().clone() for name, value in named.items()}


def law_chance_comes_from_the_generator(method: Method, world: World) -> None:
    """The same seed gives the same adaptation whatever else was drawn; with randomness, another seed another one."""

    def adapted(seed: int, elsewhere: int) -> tuple[dict[str, Tensor], bool]:
        random.seed(elsewhere)
        np.random.seed(elsewhere)
        torch.manual_seed(elsewhere)
        context = world.context(seed)
        before = context.generator.get_state()
        tensors = _all_tensors(method.adapt(world.parts(), context))
        return tensors, not torch.equal(before, context.generator.get_state())

    def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    first, drawn = adapted(0, 0)
    assert same(first, adapted(0, 1)[0])
    assert same(first, adapted(1, 0)[0]) != drawn


def law_saved_is_whole(method: Method, world: World, folder) -> None:
    """What is saved after training gives bit-equal logits when loaded into a freshly adapted model."""
    loop = world.loop(method, max_epochs=1, global_batch_size=6)
    train(loop)
    adapted = loop.model.adapted
    origin = Origin("label", "kind", method.model_dump(mode="json"), "model", "main", "fingerprint")
    stored = save_adapter(adapted, folder, origin)
    found, tensors = read_manifest(folder)
    assert found == origin
    assert stored == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    again = world.adapt(method)
    load_tensors(again, tensors, folder)
    batch = collate(world.pairs, world.template)
    with torch.no_grad():
        for exact in (True, False):
            ours, saved = (world.engine(each, logits_at_targets=exact) for each in (adapted, again))
            assert torch.equal(target_logits(ours, batch), target_logits(saved, batch))


def law_summaries_do_not_depend_on_the_batch(method: Method, world: World) -> None:
    """With greedy decoding and four beams, a summary generated alone equals the one from a padded batch that also has
    finished rows."""
    model = world.model(method)
    disturb(model.adapted)
    documents = [pair.document_ids for pair in world.pairs[:6]]
    assert len({len(document) for document in documents}) > 1

    def summaries(documents, template, beams: int, size: int) -> list[list[int]]:
        return generate(replace(model, template=template), documents, DecodingPlan(beams, 10, 3, 1.0, size))

    ended = world.template
    ended = type(ended)(ended.prefix_ids, ended.separator_ids, summaries(documents[:1], ended, 1, 1)[0][4])
    for beams in (1, 4):
        alone = [summaries([document], ended, beams, 1)[0] for document in documents]
        assert summaries(documents, ended, beams, len(documents)) == alone


def law_paths_agree(method: Method, world: World) -> None:
    """Logits computed only where they are read give the loss and gradients of the model's own forward within 1e-5."""
    adapted = world.adapt(method)
    disturb(adapted)
    batch = collate(world.pairs, world.template)
    losses = [target_losses(world.engine(adapted, logits_at_targets=exact), batch) for exact in (True, False)]
    assert float((losses[0] - losses[1]).detach().abs().max()) < 1e-5
    if method.trains:
        exact, plain = (gradients(adapted, loss.mean()) for loss in losses)
        assert largest_difference(exact, plain) < 1e-5


def law_blocks_can_be_recomputed(method: Method, world: World) -> None:
    """Blocks recomputed in the backward pass give the same bits as kept ones, in training mode; the probe confirms it,
    and their FLOPs formula is found."""
    model = world.model(method)
    disturb(model.adapted)
    assert probe_recomputation(model)
    batch, found = collate(world.pairs, world.template), []
    for recomputes in (False, True):
        torch.manual_seed(0)
        losses = target_losses(replace(model, recomputes=recomputes), batch)
        found.append([losses.detach(), *gradients(model.adapted, losses.sum()).values()])
    assert all(map(torch.equal, *found))
    sketch = model.as_sketch(method.adapt(world.sketch(), world.context()))
    once, twice = (training_flops(replace(sketch, recomputes=each)).count(2, 40, 80) for each in (False, True))
    assert twice > once


def law_can_be_sketched(method: Method, world: World) -> None:
    """On the `meta` device, a method gives the same names, shapes and `requires_grad` as on weights."""

    def shapes(adapted: AdaptedModel) -> dict[str, tuple]:
        return {name: (tuple(p.shape), p.dtype, p.requires_grad) for name, p in all_parameters(adapted).items()}

    try:
        sketch = method.adapt(world.sketch(), world.context())
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"needs weights to adapt: {error}") from error
    assert all(p.is_meta for p in sketch.trained_parameters().values())
    assert shapes(sketch) == shapes(world.adapt(method))


def law_does_not_measure_itself(method: Method, world: World) -> None:
    """A method's notes describe what it did: they contain nothing that a record measures."""
    notes = world.adapt(method).notes
    assert not MEASURED & set(notes)


def law_says_how_long_its_prompt_is(method: Method, world: World) -> None:
    """The number of positions that a method announces before a model is loaded is the number it takes."""
    adapted = world.adapt(method)
    assert method.num_virtual_tokens_added() == adapted.num_virtual_tokens + adapted.prefix_length


def law_trains_in_the_one_loop(method: Method, world: World) -> None:
    """The loop lowers the loss on its training pairs, using only the loss and the trained tensors."""
    loop = world.loop(method, max_epochs=6, learning_rate=0.02)
    batch = collate(world.pairs, world.template)

    def loss() -> float:
        with torch.no_grad():
            return float(target_losses(loop.model, batch).mean())

    before = loss()
    train(loop)
    assert loop.state.progress.step == 18
    assert loss() < before - 0.02


def law_untuned_is_the_model(method: Method, world: World) -> None:
    """An untrained method gives the untouched model's logits, bit for bit."""
    batch = collate(world.pairs, world.template)
    with torch.no_grad():
        own = target_logits(world.engine(AdaptedModel(world.parts())).on_plain_path(), batch)
        assert torch.equal(target_logits(world.model(method).on_plain_path(), batch), own)


LAWS = [law for name, law in list(globals().items()) if name.startswith("law_")]
PLUGINS = [(contract.contract, name, cls) for contract in CONTRACTS for name, cls in registered(contract).items()]
