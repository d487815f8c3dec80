"""Model families: which linear layers of a decoder block are protected. Add a family here."""

import re

DECODER_LAYER = r"(?:.*?\.)?(?:layers|h|blocks)\.\d+"
"""Regular expression of a decoder layer's module name. The only one: what counts as a layer is decided here."""
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
    # Mixtures of experts: what every token runs through.
    **dict.fromkeys(["mixtral", "gpt_oss"], rf"{_BLOCK}{_ATTENTION}"),
    "qwen3_moe": _LLAMA,
    "qwen2_moe": rf"{_BLOCK}(?:{_ATTENTION}|mlp\.(?:shared_expert\.)?(?:gate|up|down)_proj)",
}
"""Regular expression over whole module names, by transformers' `config.model_type`."""
TRANSPOSED = ("gpt2",)
"""Families whose linear layers are transformers' Conv1D: their files hold (in, out)."""
NOT_LINEAR = re.compile(
    r".*(?:^|\.)(?:gate|router|experts|\w*embed\w*|\w*norm\w*|vision\w*|visual|audio\w*|\w*bias|\w+_gate)(?:\.|$).*"
)
"""Matrices that are no target in a model of an unknown family: routers, experts, tables, and what is not text."""
