"""A small random model of each family, as transformers builds it, with what is particular about the family."""

from pathlib import Path
from typing import Any

import torch
from small_model import SIZES, VOCABULARY
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

WINDOW = 4
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
WINDOWED = {"sliding_window": WINDOW}
HALF = {"layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 20, "norm_topk_prob": True}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": UNTIED,
    "mistral": UNTIED | WINDOWED,
    "qwen2": TIED | {"hidden_size": 40},
    "qwen3": TIED,
    "gemma": TIED,
    "gemma2": TIED | WINDOWED | HALF | {"query_pre_attn_scalar": 10},
    "gemma3_text": TIED | WINDOWED | HALF | {"query_pre_attn_scalar": 10},
    "gemma3": TIED,
    "granite": TIED | {"attention_multiplier": 0.3, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "olmo2": UNTIED | {"hidden_size": 40},
    "phi3": TIED | {"hidden_size": 48, "partial_rotary_factor": 0.5, "head_dim": None},
    "opt": TIED,
    "gpt2": TIED,
    "mixtral": UNTIED | {"intermediate_size": 52, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": UNTIED
    | EXPERTS
    | {"hidden_size": 40, "num_experts": 4, "shared_expert_intermediate_size": 19, "decoder_sparse_step": 1},
    "qwen3_moe": UNTIED | EXPERTS | {"num_experts": 4, "mlp_only_layers": [1]},
    "gpt_oss": UNTIED | WINDOWED | HALF | {"intermediate_size": 52, "num_local_experts": 4},
}
"""What each config has beside SIZES."""


def config_of(family: str) -> PreTrainedConfig:
    settings = {name: value for name, value in (SIZES | FAMILIES[family]).items() if value is not None}
    if family == "gpt2":
        settings = {
            "vocab_size": VOCABULARY,
            "n_embd": 44,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }
    elif family == "opt":
        settings |= {"ffn_dim": 53, "word_embed_proj_dim": 44, "dropout": 0.0, "init_std": 0.2}
    elif family == "gemma3":
        vision = {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        }
        text = SIZES | FAMILIES["gemma3_text"]
        settings = {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
        settings |= {"boi_token_index": 58, "eoi_token_index": 59, "image_token_index": 60} | TIED
    return AutoConfig.for_model(family, **settings)


def make_family(folder: Path, family: str) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family), dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "sinks")):  # transformers begins with zeros, which would hide what is done to them
            nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder
