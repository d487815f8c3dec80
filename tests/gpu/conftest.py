"""Phases on one rank of a GPU (NCCL). Without a GPU these tests fail: `make test-gpu` is for machines that have one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from phases import make_phase

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import Accelerator
from osftx.launch.cluster import Cluster


@pytest.fixture(scope="session")
def run_phase(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PhaseSpec]:
    """Runs a phase (`phases.make_phase`) as a user's run does, on the GPU unless told otherwise; returns its spec."""

    def run(model: Path, samples: Path, *, accelerator: Accelerator = Accelerator.cuda, **settings: Any) -> PhaseSpec:
        folder = tmp_path_factory.mktemp("phase")
        spec = make_phase(folder, model, samples, accelerator=accelerator, nproc=1, **settings)
        Cluster().launch(spec)
        return spec

    return run
