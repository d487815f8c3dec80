"""Loads a transformers model in ZeRO-3 partitions."""

from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from osftx.config.schema import DistributedConfig, ModelConfig, Precision, TrainingConfig
from osftx.distributed.accelerator import device_kind
from osftx.distributed.zero_config import zero_config
from osftx.models.attention import AUTO, choose_attention

DTYPES = {Precision.bfloat16: torch.bfloat16, Precision.float32: torch.float32}


def load_model(
    folder: Path, model: ModelConfig, training: TrainingConfig, distributed: DistributedConfig
) -> PreTrainedModel:
    """Returns the model of `folder` in the precision `training.train_dtype`. Collective.

    Its parameters are partitioned over the ranks while they are read.
    """
    dtype, attention = DTYPES[training.train_dtype], model.attn_implementation
    # transformers partitions the model only while this object exists.
    partitioned = HfDeepSpeedConfig(zero_config(training, distributed))
    loaded = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=_best_attention(folder, model, dtype) if attention == AUTO else attention,
        trust_remote_code=model.trust_remote_code,
    )
    del partitioned
    if training.use_liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=loaded)
    if training.activation_checkpointing:
        loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return loaded


def _best_attention(folder: Path, model: ModelConfig, dtype: torch.dtype) -> str | None:
    """Returns the attention implementation that `auto` stands for; None leaves the choice to transformers."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    known = None  # if the model comes with its own code
    if not (model.trust_remote_code and "AutoModelForCausalLM" in getattr(config, "auto_map", {})):
        known = AutoModelForCausalLM._model_mapping.get(type(config), None)
    architecture = cast("type[PreTrainedModel] | None", known)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return choose_attention(architecture, device_kind(), dtype, capped)
