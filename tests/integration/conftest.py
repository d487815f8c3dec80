"""Small random models and samples, and phases run on real ZeRO-3 ranks (gloo, CPU)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Features, List, Value
from datasets.arrow_writer import ArrowWriter
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PreTrainedConfig

from osftx.config import (
    Accelerator,
    DistributedConfig,
    Method,
    ModelConfig,
    OsftConfig,
    Precision,
    TrainingConfig,
)
from osftx.data.prepare import SAMPLES_FILE
from osftx.launch import launch
from osftx.phase import PhaseSpec, PreserveSpec

VOCABULARY = 61


def config_of(family: str) -> PreTrainedConfig:
    """Odd sizes, so that ZeRO-3 cuts rows in two; fewer key-value heads, so that k and v are wider than tall."""
    sizes = {
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
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
    }
    if family == "phi3":
        return Phi3Config(**{**sizes, "hidden_size": 40})
    return LlamaConfig(**sizes)


def make_model(folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family), dtype=dtype)
    model.save_pretrained(folder)
    return folder


def make_samples(folder: Path, count: int, seed: int = 0) -> Path:
    """Random conversations: a prompt that does not count, an answer that does."""
    random = np.random.default_rng(seed)
    features = Features({"input_ids": List(Value("int32")), "counted": List(Value("bool"))})
    folder.mkdir(parents=True)
    with ArrowWriter(path=str(folder / SAMPLES_FILE), features=features) as writer:
        for _ in range(count):
            prompt, answer = random.integers(3, 9), random.integers(1, 7)
            ids = random.integers(3, VOCABULARY, size=prompt + answer).tolist()
            writer.write({"input_ids": ids, "counted": [False] * prompt + [True] * answer})
        writer.finalize()
    return folder


@pytest.fixture(scope="session")
def run_phase(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PhaseSpec]:
    """Runs a phase in fresh ranks and returns its spec; keywords override training settings."""

    def run(
        model: Path,
        samples: Path,
        *,
        method: Method = Method.osft,
        ratio: float | None = 0.3,
        ranks: int = 2,
        evaluation_sets: dict[str, Path] | None = None,
        dtype: Precision = Precision.float32,
        preserve: PreserveSpec | None = None,
        **training: Any,
    ) -> PhaseSpec:
        settings: dict[str, Any] = {
            "num_epochs": 2,
            "effective_batch_size": 8,
            "max_seq_len": 32,
            "max_tokens_per_gpu": 40,
            "learning_rate": 1e-2,
            "use_liger": False,
            "activation_checkpointing": False,
            "train_dtype": dtype,
            "save_dtype": dtype,
        }
        spec = PhaseSpec(
            index=0,
            name="study",
            method=method,
            unfreeze_rank_ratio=ratio,
            model=ModelConfig(path=str(model)),
            training=TrainingConfig(**(settings | training)),
            osft=OsftConfig(),
            distributed=DistributedConfig(nproc_per_node=ranks, accelerator=Accelerator.cpu, timeout_s=120),
            data=str(samples),
            folder=str(tmp_path_factory.mktemp("phase")),
            evaluation_sets={name: str(path) for name, path in (evaluation_sets or {}).items()},
            evaluation_max_tokens=64,
            evaluate_before=True,
            preserve=preserve,
        )
        spec.save()
        launch(spec)
        return spec

    return run
