"""Fixtures: phases run on real ZeRO-3 ranks (gloo, CPU)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_ranks import RankServer
from phases import make_phase

from osftx.config.phase_spec import PhaseSpec


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankServer]:
    server = RankServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def run_phase(ranks: RankServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PhaseSpec]:
    """Runs a phase (`phases.make_phase`), on forked ranks unless another `start` is given, and returns its spec."""

    def run(
        model: Path, samples: Path, *, start: Callable[[PhaseSpec], None] = ranks.run, **settings: Any
    ) -> PhaseSpec:
        spec = make_phase(tmp_path_factory.mktemp("phase"), model, samples, **settings)
        start(spec)
        return spec

    return run
