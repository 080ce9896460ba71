"""Every method on every family: the laws that make a figure comparable hold for every kind of model."""

import pytest
import torch
import transformers

from support.families import FAMILIES, SCALED_LOGITS
from support.laws import (
    law_blocks_can_be_recomputed,
    law_can_be_sketched,
    law_gradients_reach_exactly_what_is_trained,
    law_paths_agree,
    law_saved_is_whole,
    law_summaries_do_not_depend_on_the_batch,
    law_trains_exactly_what_it_says,
    law_trains_in_the_one_loop,
)
from support.worlds import VOCABULARY, World
from triptych.contracts import AdaptedModel, Method
from triptych.corpus.sequence import Template
from triptych.engine.savings.ready import head_is_plain
from triptych.errors import ConfigError
from triptych.plugins import import_plugins
from triptych.registry import registered

import_plugins()
LISTED = (
    "GPT2",
    "Llama",
    "Mistral",
    "Qwen2",
    "Qwen3",
    "Gemma",
    "Gemma2",
    "Phi",
    "Phi3",
    "OPT",
    "GPTNeoX",
    "GPTNeo",
    "Falcon",
    "SmolLM3",
)
LAWS = (law_trains_exactly_what_it_says, law_gradients_reach_exactly_what_is_trained, law_can_be_sketched)
METHODS = sorted(registered(Method))


@pytest.fixture(scope="module", params=LISTED)
def any_world(request, worlds, tmp_path_factory) -> World:
    """A small random model of each family, with the embedded tokenizer and the same pairs as the other laws."""
    other, family = worlds["gpt2"], request.param
    shape = {**FAMILIES[family], "vocab_size": VOCABULARY, "max_position_embeddings": 128, "n_positions": 128}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    folder = tmp_path_factory.mktemp(family)
    model.save_pretrained(folder)
    return World(
        model, folder, other.tokenizer, Template((), other.template.separator_ids, 0), other.pairs, other.machine
    )


def adapted_or_refused(method: Method, world: World) -> AdaptedModel | None:
    """Return the adapted model; None if refused, which only bitfit may do, and only on a family without biases."""
    try:
        return world.adapt(method)
    except ConfigError as error:
        assert "has no biases" in str(error)
        assert not any(name.endswith(".bias") for name, _ in world.prototype.named_parameters())
        return None


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_same_on_every_family(name, any_world, tmp_path):
    """What a method says it trains gets gradients, can be planned and saved; plain and exact path agree within 1e-5."""
    method = registered(Method)[name]()
    adapted = adapted_or_refused(method, any_world)
    if adapted is None:
        return
    for law in LAWS if method.trains else LAWS[2:]:
        law(method, any_world)
    if type(any_world.prototype).__name__.removesuffix("ForCausalLM") in SCALED_LOGITS:
        assert not head_is_plain(adapted)  # such a run takes only the plain path
    else:
        law_paths_agree(method, any_world)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_and_writes_on_every_family(name, any_world, tmp_path):
    """The one loop trains every method; blocks may be recomputed, what is saved is complete, and a summary does not
    depend on its batch."""
    method = registered(Method)[name]()
    if adapted_or_refused(method, any_world) is None:
        return
    law_summaries_do_not_depend_on_the_batch(method, any_world)
    if method.trains:
        law_saved_is_whole(method, any_world, tmp_path)
        law_trains_in_the_one_loop(method, any_world)
        law_blocks_can_be_recomputed(method, any_world)
