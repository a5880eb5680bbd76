"""LLaDA, a masked language model with the blocks of Llama and attention to all tokens, as a network of transformers.

Its own code is not in transformers, and code of a folder is never executed. Source: Nie et al. 2025, "Large Language
Diffusion Models", arXiv 2502.09992.
"""

import re
from collections.abc import Mapping
from typing import Any

from feller.core.errors import InputError

LLADA, LLAMA = "LLaDAModelLM", "LlamaForCausalLM"
REQUIRED: dict[str, tuple[object, ...]] = {
    "block_type": ("llama",),
    "layer_norm_type": ("rms",),
    "activation_type": ("silu",),
    "rope": (True,),
    "alibi": (False, None),
    "include_bias": (False, None),
    "include_qkv_bias": (False, None),
    "attention_layer_norm": (False, None),
    "input_emb_norm": (False, None),
    "scale_logits": (False, None),
}
"""Settings of LLaDA, with the values for which it has the blocks of Llama."""
NAMES = {
    "model.transformer.wte.weight": "model.embed_tokens.weight",
    "model.transformer.ln_f.weight": "model.norm.weight",
    "model.transformer.ff_out.weight": "lm_head.weight",
}
"""Name of each weight outside of the blocks in LLaDA, and in Llama."""
BLOCK_NAMES = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
}
"""Name of each layer of a block in LLaDA, and in Llama."""


def llama_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the Llama that has the blocks of a LLaDA.

    Raises:
        InputError: If a setting is missing, or has a value for which the blocks differ from those of Llama.
    """
    for name, values in REQUIRED.items():
        if settings.get(name) not in values:
            raise InputError(f"{name}={values[0]} in a LLaDA with blocks of Llama", repr(settings.get(name)))
    try:
        heads, width = int(settings["n_heads"]), int(settings["d_model"])
        return {
            "vocab_size": int(settings.get("embedding_size") or settings["vocab_size"]),
            "hidden_size": width,
            "intermediate_size": int(settings.get("mlp_hidden_size") or settings["mlp_ratio"] * width),
            "num_hidden_layers": int(settings["n_layers"]),
            "num_attention_heads": heads,
            "num_key_value_heads": int(settings.get("n_kv_heads") or heads),
            "max_position_embeddings": int(settings["max_sequence_length"]),
            "rms_norm_eps": float(settings.get("rms_norm_eps", 1e-5)),
            "rope_theta": float(settings.get("rope_theta", 10000.0)),
            "tie_word_embeddings": bool(settings.get("weight_tying", False)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the settings of a LLaDA", f"{type(error).__name__}: {error}") from error


def llama_name(name: str) -> str:
    """Return the name of a weight of LLaDA in Llama; other names are unchanged."""
    block = re.fullmatch(r"model\.transformer\.blocks\.(\d+)\.(\w+)\.weight", name)
    if block is not None and block[2] in BLOCK_NAMES:
        return f"model.layers.{block[1]}.{BLOCK_NAMES[block[2]]}.weight"
    return NAMES.get(name, name)


def llada_name(name: str) -> str:
    """Return the name of a weight of Llama in LLaDA."""
    block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    if block is not None:
        layer = next(layer for layer, llama_layer in BLOCK_NAMES.items() if llama_layer == block[2])
        return f"model.transformer.blocks.{block[1]}.{layer}.weight"
    return next(llada for llada, llama in NAMES.items() if llama == name)
