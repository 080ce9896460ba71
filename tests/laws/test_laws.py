"""Laws that hold for every registered method on two model families; a broken toy method fails each of them.

A law is a plain function of a method and a `World`. It runs over everything registered, over options that change what a
method does, over methods written here as a contributor would write them, and over one toy that must break it.
"""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from support.laws import (
    LAWS,
    PLUGINS,
    BiasOnly,
    SerialAdapter,
    law_blocks_can_be_recomputed,
    law_can_be_sketched,
    law_chance_comes_from_the_generator,
    law_does_not_measure_itself,
    law_explained,
    law_gradients_reach_exactly_what_is_trained,
    law_only_what_is_trained_changes,
    law_paths_agree,
    law_saved_is_whole,
    law_says_how_long_its_prompt_is,
    law_summaries_do_not_depend_on_the_batch,
    law_trains_exactly_what_it_says,
    law_trains_in_the_one_loop,
    law_untuned_is_the_model,
)
from support.worlds import FAMILIES
from triptych.contracts import (
    AdaptedModel,
    Context,
    Method,
    ModelParts,
)
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.parts import freeze
from triptych.plugins import import_plugins
from triptych.registry import registered

import_plugins()


# What a contributor may write: the engine knows none of these


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
REFUSED = {("last-tied", "llama"), ("bitfit", "llama")}  # no tied head, no biases: each has a separate test
CASES = [(name, family) for name in METHODS for family in FAMILIES if (name, family) not in REFUSED]
every_method = pytest.mark.parametrize(("name", "family"), CASES, ids=[f"{n}-{f}" for n, f in CASES])


# The laws


# The laws over everything


@pytest.mark.parametrize("cls", [cls for _, _, cls in PLUGINS], ids=[f"{kind}-{name}" for kind, name, _ in PLUGINS])
def test_explained(cls):
    """Every registered class and each of its options has an explanation."""
    law_explained(cls)


@every_method
def test_trains_exactly_what_it_says(name, family, worlds):
    """`requires_grad` is set exactly, whatever it was before."""
    law_trains_exactly_what_it_says(METHODS[name], worlds[family])


@every_method
def test_gradients_reach_exactly_what_is_trained(name, family, worlds):
    """The loss graph ends in exactly the trained tensors."""
    if METHODS[name].trains:
        law_gradients_reach_exactly_what_is_trained(METHODS[name], worlds[family])


@every_method
def test_only_what_is_trained_changes(name, family, worlds):
    """Frozen tensors stay bit-equal; trained tensors change."""
    if METHODS[name].trains:
        law_only_what_is_trained_changes(METHODS[name], worlds[family])


@every_method
def test_chance_comes_from_the_generator(name, family, worlds):
    """The run's generator is the only source of randomness."""
    law_chance_comes_from_the_generator(METHODS[name], worlds[family])


@every_method
def test_saved_is_whole(name, family, worlds, tmp_path):
    """A saved and reloaded model is the same model."""
    if METHODS[name].trains:
        law_saved_is_whole(METHODS[name], worlds[family], tmp_path)


@every_method
def test_summaries_do_not_depend_on_the_batch(name, family, worlds):
    """Documents summarized one by one and in a padded batch give the same tokens."""
    law_summaries_do_not_depend_on_the_batch(METHODS[name], worlds[family])


@every_method
def test_paths_agree(name, family, worlds):
    """The exact path changes neither loss nor gradients."""
    law_paths_agree(METHODS[name], worlds[family])


@every_method
def test_can_be_sketched(name, family, worlds):
    """A suite can be planned without weights."""
    law_can_be_sketched(METHODS[name], worlds[family])


@every_method
def test_does_not_measure_itself(name, family, worlds):
    """A method's costs are measured from outside, never by the method."""
    law_does_not_measure_itself(METHODS[name], worlds[family])


@every_method
def test_says_how_long_its_prompt_is(name, family, worlds):
    """The window is planned with the right number of virtual tokens."""
    law_says_how_long_its_prompt_is(METHODS[name], worlds[family])


@every_method
def test_trains_in_the_one_loop(name, family, worlds):
    """One loop trains methods it does not know."""
    if METHODS[name].trains:
        law_trains_in_the_one_loop(METHODS[name], worlds[family])


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.trains])
def test_untuned_is_the_model(name, world):
    """A method without training is the unchanged model."""
    law_untuned_is_the_model(METHODS[name], world)


# Toys, each broken in one way


class Unexplained(PromptTuning):
    """A prompt with an unexplained option."""

    mystery: int = 3


class Nameless(BiasOnly):
    __doc__ = Method.__doc__


class LeavesUnfrozen(BiasOnly):
    """Unfreezes the last block and forgets to freeze the rest."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze nothing."""
        parts.blocks[-1].requires_grad_(True)
        return AdaptedModel(parts)


class TrainsNothing(PromptTuning):
    """Claims to train, and freezes its prompt."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the prompt too."""
        adapted = super().adapt(parts, context)
        adapted.virtual_tokens.requires_grad_(False)
        return adapted


class Idle(BiasOnly):
    """Adds a tensor that no forward pass reads."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Attach a parameter that is never used."""
        adapted = super().adapt(parts, context)
        parts.blocks[0].idle = nn.Parameter(torch.ones(3))
        return adapted


class Hidden(BiasOnly):
    """Trains a tensor outside the model, where no count sees it."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Add a vector from a closure."""
        adapted = super().adapt(parts, context)
        secret = nn.Parameter(torch.zeros(parts.hidden_size))
        parts.final_norm.register_forward_hook(lambda module, inputs, output: output + secret)
        return adapted


class Drifting(BiasOnly):
    """Changes a frozen weight behind the optimizer's back."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Shrink the token embedding in every forward pass."""
        adapted = super().adapt(parts, context)

        def shrink(*told: Any) -> None:
            parts.token_embedding.weight.data.mul_(0.999)

        parts.trunk.register_forward_hook(shrink)
        return adapted


class Counting(BiasOnly):
    """A last block that gives other numbers each time it runs."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Scale the block's input by the number of calls."""
        adapted, calls = super().adapt(parts, context), []
        own = parts.blocks[-1].forward

        def counting(hidden: Tensor, *rest: Any, **named: Any) -> Any:
            calls.append(1)
            return own(hidden * len(calls), *rest, **named)

        parts.blocks[-1].forward = counting
        return adapted


class GlobalChance(PromptTuning):
    """Draws its prompt from the global generator."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Overwrite the prompt."""
        adapted = super().adapt(parts, context)
        nn.init.normal_(adapted.virtual_tokens.weight)
        return adapted


class SeedBlind(PromptTuning):
    """Draws from the generator and discards the result."""

    init: str = "random"

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Start the prompt at zero whatever the seed."""
        adapted = super().adapt(parts, context)
        nn.init.zeros_(adapted.virtual_tokens.weight)
        return adapted


class KeepsToItself(BiasOnly):
    """Learns something in training that is not a parameter, so it is not saved."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Count the passes and add the count to the output."""
        adapted = super().adapt(parts, context)
        passes = [0]

        def count(block: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            passes[0] += torch.is_grad_enabled()
            return output * (1 + 0.01 * passes[0])

        parts.final_norm.register_forward_hook(count)
        return adapted


class Neighborly(BiasOnly):
    """Lets the rows of a batch see each other."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Subtract half of the batch's mean."""
        adapted = super().adapt(parts, context)
        parts.final_norm.register_forward_hook(lambda module, inputs, output: output - output.mean(0, keepdim=True) / 2)
        return adapted


class PastTheHead(BiasOnly):
    """Changes logits after the head, which the exact path bypasses."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Double the logits of the model's forward."""
        adapted = super().adapt(parts, context)

        def double(module: nn.Module, inputs: Any, output: Any) -> Any:
            output.logits = output.logits * 2
            return output

        parts.model.register_forward_hook(double)
        return adapted


class NeedsWeights(BiasOnly):
    """Looks at weight values to decide what to do."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Read a number from a weight."""
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
        """Announce none."""
        return 0


class Ungrateful(PromptTuning):
    """Reverses its gradient."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Climb instead of descending."""
        adapted = super().adapt(parts, context)
        adapted.virtual_tokens.weight.register_hook(lambda gradient: -gradient)
        return adapted


class Touched(Method):
    """Claims to be untuned but changes the model."""

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
    (law_summaries_do_not_depend_on_the_batch, Neighborly),
    (law_paths_agree, PastTheHead),
    (law_can_be_sketched, NeedsWeights),
    (law_does_not_measure_itself, MeasuresItself),
    (law_says_how_long_its_prompt_is, HidesItsLength),
    (law_trains_in_the_one_loop, Ungrateful),
    (law_untuned_is_the_model, Touched),
    (law_blocks_can_be_recomputed, Counting),
]


@pytest.mark.parametrize(("law", "toy"), BROKEN, ids=[f"{law.__name__}-{toy.__name__}" for law, toy in BROKEN])
def test_a_broken_toy_fails(law, toy, gpt2, tmp_path):
    """Each law detects the toy that breaks it."""
    given = {"cls": toy, "method": toy, "world": gpt2, "folder": tmp_path}
    if law is not law_explained:
        given["method"] = toy()
    names = law.__code__.co_varnames[: law.__code__.co_argcount]
    with pytest.raises(AssertionError):
        law(**{name: given[name] for name in names})


def test_every_law_has_a_broken_toy():
    """Every law has a broken toy."""
    assert {law for law, _ in BROKEN} == set(LAWS)
