"""Phases run on real ZeRO-3 ranks (gloo, CPU). The folders of the reports' unit tests serve the browser's tests too."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_ranks import RankServer

from osftx.config import (
    Accelerator,
    DistributedConfig,
    Method,
    ModelConfig,
    OsftConfig,
    Precision,
    TrainingConfig,
)
from osftx.phase import PhaseSpec, PreserveSpec, ValidationSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "report"))


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankServer]:
    server = RankServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def run_phase(ranks: RankServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PhaseSpec]:
    """Runs a phase on forked ranks and returns its spec; keywords override training settings."""

    def run(
        model: Path,
        samples: Path,
        *,
        method: Method = Method.osft,
        ratio: float | None = 0.3,
        nproc: int = 2,
        evaluation_sets: dict[str, Path] | None = None,
        dtype: Precision = Precision.float32,
        preserve: PreserveSpec | None = None,
        validation: ValidationSpec | None = None,
        evaluate_every_steps: int | None = None,
        osft: OsftConfig | None = None,
        start: Callable[[PhaseSpec], None] = ranks.run,
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
            osft=osft or OsftConfig(),
            distributed=DistributedConfig(nproc_per_node=nproc, accelerator=Accelerator.cpu, timeout_s=120),
            data=str(samples),
            folder=str(tmp_path_factory.mktemp("phase")),
            evaluation_sets={name: str(path) for name, path in (evaluation_sets or {}).items()},
            evaluation_max_tokens=64,
            evaluate_every_steps=evaluate_every_steps,
            evaluate_before=True,
            preserve=preserve,
            validation=validation,
        )
        spec.save()
        start(spec)
        return spec

    return run
