"""A small random model and random samples, made in a moment."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Features, List, Value
from datasets.arrow_writer import ArrowWriter
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PreTrainedConfig, Qwen2Config

from osftx.data.samples import SAMPLES_FILE

VOCABULARY = 61
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 44,
    "intermediate_size": 53,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
"""Odd, so that ZeRO-3 cuts rows in two; fewer key-value heads, so that k and v are wider than tall."""


def config_of(family: str) -> PreTrainedConfig:
    sizes = {**SIZES, "tie_word_embeddings": False}
    if family == "phi3":
        return Phi3Config(**{**sizes, "hidden_size": 40})
    if family == "qwen2":  # has biases
        return Qwen2Config(**{**sizes, "hidden_size": 40})
    return LlamaConfig(**sizes)


def make_model(folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family), dtype=dtype)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # transformers begins with zeros, which would hide what is done to them
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


def make_samples(folder: Path, count: int, seed: int = 0) -> Path:
    """Random conversations: a prompt that does not count, an answer that does."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        prompt, answer = random.integers(3, 9), random.integers(1, 7)
        ids = random.integers(3, VOCABULARY, size=prompt + answer).tolist()
        rows.append({"input_ids": ids, "counted": [False] * prompt + [True] * answer})
    return write_samples(folder, rows)


def write_samples(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """`input_ids` and `counted` of each row, as ranks read them."""
    features = Features({"input_ids": List(Value("int32")), "counted": List(Value("bool"))})
    folder.mkdir(parents=True)
    with ArrowWriter(path=str(folder / SAMPLES_FILE), features=features) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    return folder


def make_batch(seed: int) -> torch.Tensor:
    """Random tokens (2, 12)."""
    return torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(seed))
