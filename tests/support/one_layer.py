"""A Llama of one layer whose sizes can be worked out by hand."""

from dataclasses import replace
from typing import Any

from osftx.config.schema import OffloadConfig, OsftConfig, TrainingConfig
from osftx.methods.registry import method_named
from osftx.methods.sizes import Shape, Workload
from osftx.models.targets import find_targets

LAYER = "model.layers.0"
SHAPES: dict[str, Shape] = {
    "model.embed_tokens.weight": (1000, 512),
    f"{LAYER}.input_layernorm.weight": (512,),
    f"{LAYER}.mlp.down_proj.weight": (512, 1024),
    f"{LAYER}.mlp.gate_proj.weight": (1024, 512),
    f"{LAYER}.mlp.up_proj.weight": (1024, 512),
    f"{LAYER}.post_attention_layernorm.weight": (512,),
    f"{LAYER}.self_attn.k_proj.weight": (256, 512),
    f"{LAYER}.self_attn.o_proj.weight": (512, 512),
    f"{LAYER}.self_attn.q_proj.weight": (512, 512),
    f"{LAYER}.self_attn.v_proj.weight": (256, 512),
    "model.norm.weight": (512,),
    "lm_head.weight": (1000, 512),
}
"""3,384,832 numbers, 2,359,296 of them in the seven targets, 1536 in the norms."""
NUMBERS = 3_384_832


def workload(ratio: float | None, **settings: Any) -> Workload:
    """Of an OSFT phase with this ratio, or of `sft` where it is None; bf16 on two ranks."""
    work = Workload(
        shapes=SHAPES,
        targets=[] if ratio is None else find_targets({"model_type": "llama"}, SHAPES, None),
        method=method_named("sft" if ratio is None else "osft"),
        ratio=ratio,
        training=TrainingConfig(max_tokens_per_gpu=10, max_seq_len=5, activation_checkpointing=False),
        osft=OsftConfig(),
        offload=OffloadConfig(),
        ranks=2,
    )
    return replace(work, **settings)
