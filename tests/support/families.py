"""Small random models of many families."""

import torch
import transformers

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GATED = {**SHAPE, "intermediate_size": 48, "num_key_value_heads": 2}
FAMILIES = {
    "GPT2": {**SHAPE, "n_positions": 64},
    "GPTNeoX": {**SHAPE, "intermediate_size": 64},
    "GPTJ": {**SHAPE, "n_positions": 64, "rotary_dim": 4},
    "OPT": {**SHAPE, "ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 2},
    "Bloom": SHAPE,
    "Falcon": {**SHAPE, "new_decoder_architecture": False},
    "Llama": GATED,
    "Mistral": GATED,
    "Qwen2": GATED,
    "Qwen3": {**GATED, "head_dim": 8},
    "Phi": {**SHAPE, "intermediate_size": 64},
    "Gemma": {**GATED, "head_dim": 8, "pad_token_id": 0},
    "Gemma2": {**GATED, "head_dim": 8, "query_pre_attn_scalar": 8, "pad_token_id": 0},
    "Granite": {**GATED, "logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "Cohere": {**GATED, "pad_token_id": 0},
    "StableLm": {**GATED},
    "GPTNeo": {**SHAPE, "num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "Phi3": {**GATED, "pad_token_id": 0},
    "SmolLM3": {**GATED, "pad_token_id": 0},
}
SCALED_LOGITS = {"Gemma2", "Granite", "Cohere"}  # a soft cap or a factor after the head


def random_model(family: str):
    """A small random model of a family, in eval mode."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    return transformers.AutoModelForCausalLM.from_config(config).eval()
