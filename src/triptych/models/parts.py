"""Take a causal language model apart by its structure, independently of any family's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from triptych.contracts import Family, ModelParts
from triptych.errors import ConfigError, ModelError, nearest
from triptych.registry import registered

if TYPE_CHECKING:  # methods import this module and are listed without importing torch
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

# Names of the matrices that compute queries, keys and values: fused, separate, or through latent vectors (DeepSeek-V2,
# arXiv 2405.04434).
_PROJECTION_SETS = (
    ("c_attn",),
    ("query_key_value",),
    ("qkv_proj",),
    ("Wqkv",),
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("Wq", "Wk", "Wv"),
    ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    ("q_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
)
_PROJECTIONS = {name for names in _PROJECTION_SETS for name in names}

# Configuration keys for the number of positions; transformers maps most other names to the first one (`attribute_map`),
# but not MPT's, whose biases are made for that many.
_LIMITS = ("max_position_embeddings", "max_seq_len")


def take_apart(model: PreTrainedModel) -> ModelParts:
    """Find embedding, blocks, final norm and head, by a registered `Family` or else by structure.

    Raises:
        ModelError: the model has no token embedding, no linear head or no unique list of blocks, or a family returns
            parts that are not the model's.
    """
    for known in registered(Family).values():
        if model.config.model_type in known.model_types:
            return _checked(known().take_apart(model), known.__name__)
    return _by_structure(model)


def _checked(parts: ModelParts, family: str) -> ModelParts:
    """Check that the parts returned by a family belong to the model, and return them."""
    inside = {id(module) for module in parts.model.modules()}
    named = {
        "trunk": parts.trunk,
        "token_embedding": parts.token_embedding,
        "blocks": parts.blocks,
        "head": parts.head,
        "final_norm": parts.final_norm,
    }
    for name, module in named.items():
        if module is not None and not {id(m) for m in module.modules()} - {id(parts.blocks)} <= inside:
            raise ModelError(f"{family}: {name} is not a part of {type(parts.model).__name__}.")
    if parts.tied != (parts.head.weight is parts.token_embedding.weight):
        raise ModelError(f"{family}: tied = {parts.tied}, but the model's head and token embedding say otherwise.")
    return parts


def _by_structure(model: PreTrainedModel) -> ModelParts:
    from torch import nn

    config = model.config.get_text_config()
    name = type(model).__name__
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
        raise ModelError(f"{name} has no token embedding with a linear head; a causal language model is needed.")
    trunk = _trunk(model, embedding)
    owner, blocks = _blocks(trunk, config.num_hidden_layers, name)
    return ModelParts(
        model=model,
        trunk=trunk,
        token_embedding=embedding,
        blocks=blocks,
        final_norm=_final_norm(owner, embedding.embedding_dim, config.hidden_size),
        head=head,
        tied=head.weight is embedding.weight,
        hidden_size=embedding.embedding_dim,
        vocabulary_size=embedding.num_embeddings,
        max_positions=usable_positions(config),
        attention_projections=query_key_value(blocks) or _usual_targets(config.model_type),
    )


def _trunk(model: PreTrainedModel, embedding: nn.Module) -> nn.Module:
    """The model without its head: `base_model`, or the child with the token embedding if `base_model` is the model."""
    if model.base_model is not model:
        return model.base_model
    holding = [child for child in model.children() if any(module is embedding for module in child.modules())]
    if len(holding) != 1 or holding[0] is embedding:
        raise ModelError(
            f"{type(model).__name__} has no part that is the model without its head. Describe its parts in a plug-in: "
            "docs/guides/another-model.md."
        )
    return holding[0]


def _usual_targets(model_type: str) -> tuple[str, ...]:
    """The default LoRA targets of peft for this family; `()` if peft does not know it."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    return tuple(TARGETS.get(model_type, ()))


def declared_positions(config: PreTrainedConfig) -> int | None:
    """Number of positions in a model's configuration; None: no fixed limit."""
    text = config.get_text_config()
    return min((limit for name in _LIMITS if (limit := getattr(text, name, None)) is not None), default=None)


def usable_positions(config: PreTrainedConfig) -> int | None:
    """Maximum length at which a sequence's results do not depend on its batch; None: no fixed limit.

    LongRoPE (Ding et al. 2024) has two sets of rotary frequencies, and transformers chooses one for a whole batch by
    its longest sequence: the short ones up to the original training length. Beyond that length, a longer sequence in a
    batch would change the results of the others, so nothing longer is used. Dynamic NTK scaling changes the frequencies
    only beyond `max_position_embeddings`, and other kinds do not depend on the length.

    Args:
        config: the model's configuration; in a multimodal model, the text part's configuration is used.
    """
    text = config.get_text_config()
    given = getattr(text, "rope_parameters", None) or {}
    limits = [declared_positions(config)]
    for rope in (given, *(layers for layers in given.values() if isinstance(layers, dict))):
        if rope.get("rope_type") == "longrope":
            limits.append(rope.get("original_max_position_embeddings"))
    return min((limit for limit in limits if limit is not None), default=None)


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether transformers marks a model as recurrent (Mamba, RWKV, hybrids)."""
    return bool(getattr(model, "_is_stateful", False))


def is_matrix(module: nn.Module) -> bool:
    """Whether a module is a weight matrix: `nn.Linear` or GPT-2's `Conv1D`."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def query_key_value(blocks: nn.ModuleList) -> tuple[str, ...]:
    """Name endings of the matrices that compute queries, keys and values, fused or separate; `()`: unknown.

    Every block's attention is searched: a block with any of these matrices must have a complete set. Blocks without
    attention have none.
    """
    found: dict[str, None] = {}
    for block in blocks:
        endings = {
            parts[at]: ".".join(parts[at:])
            for path, module in block.named_modules()
            if is_matrix(module)
            for parts in [path.split(".")]
            for at, part in enumerate(parts)
            if part in _PROJECTIONS and any(_is_attention(above) for above in parts[:at])
        }
        whole = next((names for names in _PROJECTION_SETS if endings.keys() >= set(names)), None)
        if endings and whole is None:
            return ()
        found |= dict.fromkeys(endings[name] for name in whole or ())
    return tuple(found)


def _is_attention(name: str) -> bool:
    """Whether a module's name is that of an attention, as in every family of transformers."""
    return "attn" in name or "attention" in name


def first_present(blocks: nn.ModuleList, *choices: tuple[str, ...]) -> tuple[str, ...]:
    """The first of these sets of names for which every block has all matrices; `()` if there is none.

    Families unknown to peft often use the same names as known ones.
    """
    present = [
        {path.rsplit(".", 1)[-1] for path, module in block.named_modules() if is_matrix(module)} for block in blocks
    ]
    return next((names for names in choices if all(set(names) <= found for found in present)), ())


def _blocks(trunk: nn.Module, count: int, name: str) -> tuple[nn.Module, nn.ModuleList]:
    """The list of the model's blocks and the module that owns it."""
    from torch import nn

    found = [
        (owner, child)
        for owner in trunk.modules()
        for child in owner.children()
        if isinstance(child, nn.ModuleList) and len(child) == count and len({type(block) for block in child}) == 1
    ]
    if len(found) != 1:
        raise ModelError(
            f"{name} has {len(found)} lists of {count} blocks where one is expected: it cannot be taken apart. A "
            "plug-in can name its parts: docs/guides/another-model.md."
        )
    return found[0]


def _final_norm(owner: nn.Module, *widths: int) -> nn.Module | None:
    """The last sibling of the blocks that contains only vectors of the hidden size."""
    norms = [
        child
        for child in owner.children()
        if (shapes := [p.shape for p in child.parameters()]) and all(s in [(w,) for w in widths] for s in shapes)
    ]
    return norms[-1] if norms else None


def block_matrices(parts: ModelParts) -> dict[str, nn.Module]:
    """All weight matrices of the blocks by full name."""
    inside = {id(module) for block in parts.blocks for module in block.modules()}
    return {name: module for name, module in parts.model.named_modules() if id(module) in inside and is_matrix(module)}


def find_matrices(parts: ModelParts, endings: Iterable[str], option: str) -> dict[str, nn.Module]:
    """The weight matrices of the blocks whose full names equal or end in one of the given names.

    Args:
        parts: the model.
        endings: names or name endings.
        option: the option that gave them, for the error message.

    Raises:
        ConfigError: a name matches nothing; the message suggests known names.
    """
    known = block_matrices(parts)
    result: dict[str, nn.Module] = {}
    for ending in endings:
        hits = {name: module for name, module in known.items() if name == ending or name.endswith("." + ending)}
        if not hits:
            raise ConfigError(f"{option}: {ending!r} matches no weight matrix.{nearest(ending, matrix_names(parts))}")
        result |= hits
    return dict(sorted(result.items()))


def names_for_peft(parts: ModelParts, endings: Iterable[str], matrices: Iterable[str]) -> list[str]:
    """The targets to pass to peft: the endings, or the full names if the endings would match other modules too.

    peft matches endings in the whole model, and a model that also reads images has matrices of the same names
    elsewhere.

    Args:
        parts: the model.
        endings: names or name endings that select the matrices in the blocks.
        matrices: the full names of the matrices.
    """
    wanted, chosen = set(endings), set(matrices)
    meant = {
        name
        for name, _ in parts.model.named_modules()
        if any(name == each or name.endswith("." + each) for each in wanted)
    }
    return sorted(wanted if meant == chosen else chosen)


def text_modules(parts: ModelParts) -> tuple[nn.Module, ...]:
    """The modules that process text: the whole model, or the text model and head of one that also reads images."""
    inner: nn.Module = parts.model
    if parts.model.config.get_text_config() is parts.model.config:
        return (parts.model,)
    needed = {id(parts.token_embedding), id(parts.blocks)}
    while within := [child for child in inner.children() if needed <= {id(module) for module in child.modules()}]:
        inner = within[0]
    return inner, parts.head


def matrix_names(parts: ModelParts) -> set[str]:
    """The last parts of the names of the blocks' weight matrices."""
    return {name.rsplit(".", 1)[-1] for name in block_matrices(parts)}


def matrix_shape(module: nn.Module) -> tuple[int, int]:
    """`(d_in, d_out)` of a weight matrix, whether `Conv1D`, `nn.Linear`, or one stored in 4 bits."""
    from torch import nn

    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    rows, columns = weight.shape  # Conv1D's
    return rows, columns


def freeze(parts: ModelParts) -> None:
    """Set `requires_grad` to False for every parameter of the model."""
    parts.model.requires_grad_(False)


def untie_head(parts: ModelParts) -> None:
    """Give the head its own copy of the weight and set `tie_word_embeddings=False` in the saved configuration."""
    from torch import nn

    parts.head.weight = nn.Parameter(parts.head.weight.detach().clone())
    parts.model.config.tie_word_embeddings = False
    parts.tied = False


def embed(parts: ModelParts, ids: torch.Tensor) -> torch.Tensor:
    """Token embeddings of ids as the trunk expects them: [..] -> [.., D]. Families scale them inside the trunk."""
    return parts.token_embedding(ids)
