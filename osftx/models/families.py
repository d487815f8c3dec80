"""Model families: which linear layers of a decoder block are protected. A new family is added here."""

import re

DECODER_LAYER = r"(?:.*?\.)?(?:layers|h|blocks)\.\d+"
"""Regular expression of a decoder layer's module name. All code uses this one to recognise decoder layers."""
_BLOCK = rf"{DECODER_LAYER}\."
_ATTENTION = r"self_attn\.[qkvo]_proj"
_LLAMA = rf"{_BLOCK}(?:{_ATTENTION}|mlp\.(?:gate|up|down)_proj)"
FAMILIES: dict[str, str] = {
    **dict.fromkeys(
        ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite", "olmo2"], _LLAMA
    ),
    "gemma3": rf"(?!.*vision_tower){_LLAMA}",
    "phi3": rf"{_BLOCK}(?:self_attn\.(?:qkv_proj|o_proj)|mlp\.(?:gate_up_proj|down_proj))",
    "opt": rf"{_BLOCK}(?:self_attn\.(?:q|k|v|out)_proj|fc1|fc2)",
    "gpt2": rf"{_BLOCK}(?:attn\.(?:c_attn|c_proj)|mlp\.(?:c_fc|c_proj))",
    # Of mixtures of experts, only the layers that every token passes through are protected.
    **dict.fromkeys(["mixtral", "gpt_oss"], rf"{_BLOCK}{_ATTENTION}"),
    "qwen3_moe": _LLAMA,
    "qwen2_moe": rf"{_BLOCK}(?:{_ATTENTION}|mlp\.(?:shared_expert\.)?(?:gate|up|down)_proj)",
}
"""Regular expressions that match the whole module names of protected layers, by transformers' `config.model_type`."""
TRANSPOSED = ("gpt2",)
"""Families whose linear layers are transformers' Conv1D: their files hold the weights as (in, out)."""
NOT_LINEAR = re.compile(
    r".*(?:^|\.)(?:gate|router|experts|\w*embed\w*|\w*norm\w*|vision\w*|visual|audio\w*|\w*bias|\w+_gate)(?:\.|$).*"
)
"""Names of matrices that are not targets in a model of an unknown family: routers, experts, embedding tables, and parts
that do not process text."""
