"""Laws that hold for every registered method, on two families of models; a broken toy fails each of them.

A law is a plain function of a method and a `World`. It runs over everything registered, over options that change what a
method does, over methods written here as a contributor would write them, and over one toy that must break it.
"""

import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import FAMILIES, World, all_parameters, disturb, gradients, largest_difference
from pydantic import Field
from torch import Tensor, nn

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
from triptych.engine.forward import target_logits, target_losses
from triptych.engine.generation import DecodingPlan, generate
from triptych.engine.training import trained_parameters
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.parts import freeze
from triptych.plugins import import_plugins
from triptych.registry import Plugin, registered
from triptych.results.records import Cost, Loss, Parameters, Rouge
from triptych.run.adapters import Origin, load_tensors, read_manifest, save_adapter

import_plugins()
CONTRACTS = (Method, Baseline, Dataset, Metric, EmbeddedModel, Family)
MEASURED = {name for section in (Parameters, Loss, Rouge, Cost) for name in section.model_fields}


# What a contributor may write: the engine has never heard of these


class BiasOnly(Method):
    """Trains the vectors of the blocks alone: biases and the weights of norms."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze all but vectors."""
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
        """Freeze all and hang a bottleneck behind each block."""
        freeze(parts)
        for block in parts.blocks:
            block.bottleneck = Bottleneck(parts.hidden_size, self.inner, parts.head.weight, context.generator)
            block.register_forward_hook(_through_bottleneck)
        return AdaptedModel(parts)


def _through_bottleneck(block: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (block.bottleneck(output[0]), *output[1:])
    return block.bottleneck(output)


VARIANTS: dict[str, Method] = {
    "prompt-random": PromptTuning(num_virtual_tokens=5, init="random"),
    "prompt-vocabulary": PromptTuning(num_virtual_tokens=5, init="vocabulary"),
    "lora-all": LoRA(target_modules="all-linear", rank=4, dropout=0.2),
    "last-head": LastLayers(num_blocks=0, final_norm=False, head="untied"),
    "last-tied": LastLayers(num_blocks=1, head="tied"),
    "bias-only": BiasOnly(),
    "serial-adapter": SerialAdapter(),
}
METHODS: dict[str, Method] = {name: cls() for name, cls in registered(Method).items()} | VARIANTS
REFUSED = {("last-tied", "llama"), ("bitfit", "llama")}  # no tied head, no biases: each has a test of its own
CASES = [(name, family) for name in METHODS for family in FAMILIES if (name, family) not in REFUSED]
every_method = pytest.mark.parametrize(("name", "family"), CASES, ids=[f"{n}-{f}" for n, f in CASES])


# The laws


def law_explained(cls: type[Plugin]) -> None:
    """Every option of a plug-in has help text, and the class has a line that says what it is."""
    own = [base.__doc__ for base in CONTRACTS]
    assert cls.__doc__ and cls.__doc__ not in own and cls.summary_line().endswith(".")
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name} has no description"


def law_trains_exactly_what_it_says(method: Method, world: World) -> None:
    """What is trained does not depend on what required a gradient before; a row that trains has something to train."""
    found = []
    for before in (True, False):
        parts = world.parts()
        parts.model.requires_grad_(before)
        found.append(set(trained_parameters(method.adapt(parts, world.context()))))
    assert found[0] == found[1], f"left as they were: {sorted(found[0] ^ found[1])}"
    assert bool(found[0]) == method.trains


def law_gradients_reach_exactly_what_is_trained(method: Method, world: World) -> None:
    """The tensors that the loss sends gradients to are those that are counted, saved and trained: no fewer, no
    others."""
    adapted = world.adapt(method)
    disturb(adapted)
    trained = trained_parameters(adapted)
    loss = target_losses(adapted, collate(world.pairs, world.template), plain=False).sum()
    leaves = _leaves(loss)
    assert leaves == {id(p) for p in trained.values()}
    for name, gradient in (gradients(adapted, loss) if trained else {}).items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, f"{name} gets no gradient"


def _leaves(loss: Tensor) -> set[int]:
    """Ids of the tensors at the ends of the graph behind a loss."""
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
    """After two steps at a high rate every trained tensor has moved, and no bit of anything else."""
    adapted, train, state = world.begin(
        method, max_epochs=1, global_batch_size=6, learning_rate=0.1, warmup_fraction=0.0
    )
    before = _all_tensors(adapted)
    train(world.hooks())
    assert state.progress.step == 2
    for name, value in _all_tensors(adapted).items():
        assert torch.equal(value, before[name]) == (name not in state.trained), name


def _all_tensors(adapted: AdaptedModel) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    named = all_parameters(adapted) | dict(adapted.parts.model.named_buffers())
    return {name: value.detach().clone() for name, value in named.items()}


def law_chance_comes_from_the_generator(method: Method, world: World) -> None:
    """The same seed gives the same adaptation whatever else was drawn; another seed another one, if chance is used."""

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
    """What is saved after training, put into a freshly adapted model, gives bit-equal logits."""
    adapted, train, _ = world.begin(method, max_epochs=1, global_batch_size=6)
    train(world.hooks())
    origin = Origin("label", "kind", method.model_dump(mode="json"), "model", "main", "fingerprint")
    stored = save_adapter(adapted, folder, origin)
    found, tensors = read_manifest(folder)
    assert found == origin
    assert stored == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    again = world.adapt(method)
    load_tensors(again, tensors, folder)
    batch = collate(world.pairs, world.template)
    with torch.no_grad():
        for plain in (False, True):
            assert torch.equal(target_logits(adapted, batch, plain=plain), target_logits(again, batch, plain=plain))


def law_summaries_do_not_depend_on_the_batch(method: Method, world: World) -> None:
    """Greedily and with four beams, a summary made alone is the one made in a padded batch, finished rows among
    them."""
    adapted = world.adapt(method)
    disturb(adapted)
    documents = [pair.document_ids for pair in world.pairs[:6]]
    assert len({len(document) for document in documents}) > 1

    def summaries(documents, template, beams: int, size: int) -> list[list[int]]:
        return generate(adapted, documents, template, world.machine, DecodingPlan(beams, 10, 3, 1.0, size))

    ended = world.template
    ended = type(ended)(ended.prefix_ids, ended.separator_ids, summaries(documents[:1], ended, 1, 1)[0][4])
    for beams in (1, 4):
        alone = [summaries([document], ended, beams, 1)[0] for document in documents]
        assert summaries(documents, ended, beams, len(documents)) == alone


def law_paths_agree(method: Method, world: World) -> None:
    """Logits only where they are read give the loss and the gradients of the model's own forward within 1e-5."""
    adapted = world.adapt(method)
    disturb(adapted)
    batch = collate(world.pairs, world.template)
    losses = [target_losses(adapted, batch, plain=plain) for plain in (False, True)]
    assert float((losses[0] - losses[1]).detach().abs().max()) < 1e-5
    if method.trains:
        exact, plain = (gradients(adapted, loss.mean()) for loss in losses)
        assert largest_difference(exact, plain) < 1e-5


def law_can_be_sketched(method: Method, world: World) -> None:
    """On the `meta` device a method gives the very names, shapes and `requires_grad` that it gives on weights."""

    def shapes(adapted: AdaptedModel) -> dict[str, tuple]:
        return {name: (tuple(p.shape), p.dtype, p.requires_grad) for name, p in all_parameters(adapted).items()}

    try:
        sketch = method.adapt(world.sketch(), world.context())
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"needs weights to adapt: {error}") from error
    assert all(p.is_meta for p in trained_parameters(sketch).values())
    assert shapes(sketch) == shapes(world.adapt(method))


def law_does_not_measure_itself(method: Method, world: World) -> None:
    """A method's notes are words about what it did: nothing that a record measures stands among them."""
    notes = world.adapt(method).notes
    assert not MEASURED & set(notes)


def law_says_how_long_its_prompt_is(method: Method, world: World) -> None:
    """The positions that a method announces before a model is loaded are those that it takes."""
    adapted = world.adapt(method)
    assert method.num_virtual_tokens_added() == adapted.num_virtual_tokens + adapted.prefix_length


def law_trains_in_the_one_loop(method: Method, world: World) -> None:
    """The loop lowers the loss on what it trains on, by the loss and the trained tensors alone."""
    adapted, train, state = world.begin(method, max_epochs=6, learning_rate=0.02)
    batch = collate(world.pairs, world.template)

    def loss() -> float:
        with torch.no_grad():
            return float(target_losses(adapted, batch, plain=False).mean())

    before = loss()
    train(world.hooks())
    assert state.progress.step == 18
    assert loss() < before - 0.02


def law_untuned_is_the_model(method: Method, world: World) -> None:
    """A row that is not trained gives the untouched model's logits, bit by bit."""
    batch = collate(world.pairs, world.template)
    with torch.no_grad():
        own = target_logits(AdaptedModel(world.parts()), batch, plain=True)
        assert torch.equal(target_logits(world.adapt(method), batch, plain=True), own)


LAWS = [law for name, law in list(globals().items()) if name.startswith("law_")]


# The laws over everything


PLUGINS = [(contract.contract, name, cls) for contract in CONTRACTS for name, cls in registered(contract).items()]


@pytest.mark.parametrize("cls", [cls for _, _, cls in PLUGINS], ids=[f"{kind}-{name}" for kind, name, _ in PLUGINS])
def test_explained(cls):
    """Every registered class and every option of it is explained."""
    law_explained(cls)


@every_method
def test_trains_exactly_what_it_says(name, family, worlds):
    """`requires_grad` is set exactly, whatever it was."""
    law_trains_exactly_what_it_says(METHODS[name], worlds[family])


@every_method
def test_gradients_reach_exactly_what_is_trained(name, family, worlds):
    """The graph behind the loss ends in what is trained, and in nothing else."""
    if METHODS[name].trains:
        law_gradients_reach_exactly_what_is_trained(METHODS[name], worlds[family])


@every_method
def test_only_what_is_trained_changes(name, family, worlds):
    """Frozen tensors stay bit-equal, trained ones move."""
    if METHODS[name].trains:
        law_only_what_is_trained_changes(METHODS[name], worlds[family])


@every_method
def test_chance_comes_from_the_generator(name, family, worlds):
    """The run's generator is the only source of chance."""
    law_chance_comes_from_the_generator(METHODS[name], worlds[family])


@every_method
def test_saved_is_whole(name, family, worlds, tmp_path):
    """Saved and loaded is the same model."""
    if METHODS[name].trains:
        law_saved_is_whole(METHODS[name], worlds[family], tmp_path)


@every_method
def test_summaries_do_not_depend_on_the_batch(name, family, worlds):
    """Traps 3 and 4: one by one and in a padded batch, the same tokens."""
    law_summaries_do_not_depend_on_the_batch(METHODS[name], worlds[family])


@every_method
def test_paths_agree(name, family, worlds):
    """The exact saving changes neither loss nor gradients."""
    law_paths_agree(METHODS[name], worlds[family])


@every_method
def test_can_be_sketched(name, family, worlds):
    """A suite can be planned without weights."""
    law_can_be_sketched(METHODS[name], worlds[family])


@every_method
def test_does_not_measure_itself(name, family, worlds):
    """What is measured is measured from outside."""
    law_does_not_measure_itself(METHODS[name], worlds[family])


@every_method
def test_says_how_long_its_prompt_is(name, family, worlds):
    """The window is planned with the right number of virtual tokens."""
    law_says_how_long_its_prompt_is(METHODS[name], worlds[family])


@every_method
def test_trains_in_the_one_loop(name, family, worlds):
    """One loop trains methods it has never heard of."""
    if METHODS[name].trains:
        law_trains_in_the_one_loop(METHODS[name], worlds[family])


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.trains])
def test_untuned_is_the_model(name, world):
    """A row without training is the model as it is."""
    law_untuned_is_the_model(METHODS[name], world)


# Toys, each broken in one way


class Unexplained(PromptTuning):
    """A prompt with an option that nobody explains."""

    mystery: int = 3


class Nameless(BiasOnly):
    __doc__ = Method.__doc__


class LeavesUnfrozen(BiasOnly):
    """Releases the last block and forgets to freeze the rest."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Nothing is frozen."""
        parts.blocks[-1].requires_grad_(True)
        return AdaptedModel(parts)


class TrainsNothing(PromptTuning):
    """Says that it trains, and freezes its prompt."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the prompt too."""
        adapted = super().adapt(parts, context)
        adapted.virtual_tokens.requires_grad_(False)
        return adapted


class Idle(BiasOnly):
    """Adds a tensor that no forward pass reads."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Hang up a parameter that is never used."""
        adapted = super().adapt(parts, context)
        parts.blocks[0].idle = nn.Parameter(torch.ones(3))
        return adapted


class Hidden(BiasOnly):
    """Trains a tensor that stands outside the model, where no count sees it."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Add a vector from a closure."""
        adapted = super().adapt(parts, context)
        secret = nn.Parameter(torch.zeros(parts.hidden_size))
        parts.final_norm.register_forward_hook(lambda module, inputs, output: output + secret)
        return adapted


class Drifting(BiasOnly):
    """Moves a frozen weight behind the optimizer's back."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Shrink the token embedding in every forward pass."""
        adapted = super().adapt(parts, context)

        def shrink(*told: Any) -> None:
            parts.token_embedding.weight.data.mul_(0.999)

        parts.trunk.register_forward_hook(shrink)
        return adapted


class GlobalChance(PromptTuning):
    """Draws its prompt from the global generator."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Overwrite the prompt."""
        adapted = super().adapt(parts, context)
        nn.init.normal_(adapted.virtual_tokens.weight)
        return adapted


class SeedBlind(PromptTuning):
    """Draws, and throws away what it has drawn."""

    init: str = "random"

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """The prompt begins at zero whatever the seed."""
        adapted = super().adapt(parts, context)
        nn.init.zeros_(adapted.virtual_tokens.weight)
        return adapted


class KeepsToItself(BiasOnly):
    """Learns something in training that is no parameter, so that it is not saved."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Count the passes and let the count into the output."""
        adapted = super().adapt(parts, context)
        passes = [0]

        def count(block: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            passes[0] += torch.is_grad_enabled()
            return output * (1 + 0.01 * passes[0])

        parts.final_norm.register_forward_hook(count)
        return adapted


class Neighbourly(BiasOnly):
    """Lets rows of a batch see each other."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Subtract half of the batch's mean."""
        adapted = super().adapt(parts, context)
        parts.final_norm.register_forward_hook(lambda module, inputs, output: output - output.mean(0, keepdim=True) / 2)
        return adapted


class PastTheHead(BiasOnly):
    """Changes logits after the head, where the exact path does not pass."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Double the logits of the model's own forward."""
        adapted = super().adapt(parts, context)

        def double(module: nn.Module, inputs: Any, output: Any) -> Any:
            output.logits = output.logits * 2
            return output

        parts.model.register_forward_hook(double)
        return adapted


class NeedsWeights(BiasOnly):
    """Looks at the values of weights to decide what to do."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Read a number off a weight."""
        adapted = super().adapt(parts, context)
        adapted.notes["scale"] = float(parts.head.weight.std())
        return adapted


class MeasuresItself(BiasOnly):
    """Reports its own cost."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Claim to be free."""
        adapted = super().adapt(parts, context)
        adapted.notes["num_trainable_parameters"] = 0
        return adapted


class HidesItsLength(PromptTuning):
    """Takes positions that it does not announce."""

    def num_virtual_tokens_added(self) -> int:
        """Nothing, it says."""
        return 0


class Ungrateful(PromptTuning):
    """Turns its gradient around."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Climb instead of descending."""
        adapted = super().adapt(parts, context)
        adapted.virtual_tokens.weight.register_hook(lambda gradient: -gradient)
        return adapted


class Touched(Method):
    """Says that it is untuned, and has changed the model."""

    trains: ClassVar[bool] = False

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Scale a norm a little."""
        freeze(parts)
        with torch.no_grad():
            next(parts.final_norm.parameters()).mul_(1.001)
        return AdaptedModel(parts)


BROKEN = [
    (law_explained, Unexplained),
    (law_explained, Nameless),
    (law_trains_exactly_what_it_says, LeavesUnfrozen),
    (law_trains_exactly_what_it_says, TrainsNothing),
    (law_gradients_reach_exactly_what_is_trained, Idle),
    (law_gradients_reach_exactly_what_is_trained, Hidden),
    (law_only_what_is_trained_changes, Drifting),
    (law_only_what_is_trained_changes, Idle),
    (law_chance_comes_from_the_generator, GlobalChance),
    (law_chance_comes_from_the_generator, SeedBlind),
    (law_saved_is_whole, KeepsToItself),
    (law_summaries_do_not_depend_on_the_batch, Neighbourly),
    (law_paths_agree, PastTheHead),
    (law_can_be_sketched, NeedsWeights),
    (law_does_not_measure_itself, MeasuresItself),
    (law_says_how_long_its_prompt_is, HidesItsLength),
    (law_trains_in_the_one_loop, Ungrateful),
    (law_untuned_is_the_model, Touched),
]


@pytest.mark.parametrize(("law", "toy"), BROKEN, ids=[f"{law.__name__}-{toy.__name__}" for law, toy in BROKEN])
def test_a_broken_toy_fails(law, toy, gpt2, tmp_path):
    """The law notices the toy that breaks it."""
    given = {"cls": toy, "method": toy, "world": gpt2, "folder": tmp_path}
    if law is not law_explained:
        given["method"] = toy()
    names = law.__code__.co_varnames[: law.__code__.co_argcount]
    with pytest.raises(AssertionError):
        law(**{name: given[name] for name in names})


def test_every_law_has_a_broken_toy():
    """No law goes untested."""
    assert {law for law, _ in BROKEN} == set(LAWS)
