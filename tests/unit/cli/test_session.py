"""The session of the program, and how Hydra's calls find it."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from omegaconf import DictConfig, OmegaConf

from osftx.cli.callback import PastHydra, SweepCallback
from osftx.cli.session import Session, current_session, open_session
from osftx.launch.cluster import Cluster
from osftx.sweep.running import RunningSweep


def composed(folder: Path) -> DictConfig:
    content: dict[str, Any] = {
        "dry_run": False,
        "output_dir": None,
        "distributed": {},
        "sweep": {"resume": None},
        "hydra": {"sweep": {"dir": str(folder)}, "overrides": {"hydra": [], "task": ["seed=1,2"]}},
    }
    return OmegaConf.create(content)


def test_it_is_the_open_one() -> None:
    with open_session() as session:
        assert current_session() is session
    with pytest.raises(LookupError):
        current_session()


def test_hydra_begins_and_ends_its_sweep_by_the_callback(tmp_path: Path) -> None:
    with open_session():
        SweepCallback().on_multirun_start(composed(tmp_path))
        with pytest.raises(SystemExit, match="2"):  # the folder is locked
            RunningSweep(composed(tmp_path)).begin(Cluster())
    with open_session():
        SweepCallback().on_multirun_start(composed(tmp_path))
        SweepCallback().on_multirun_end(composed(tmp_path))


def test_a_sweep_that_was_broken_off_is_closed_with_the_session(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), open_session() as session:
            session.begin_sweep(composed(tmp_path))
            raise KeyboardInterrupt


def test_a_session_without_a_sweep_has_none_to_end() -> None:
    with open_session() as session:
        session.end_sweep()


def test_launchers_can_pickle_the_callback(tmp_path: Path) -> None:
    with open_session():
        callback = SweepCallback()
        callback.on_multirun_start(composed(tmp_path))
    pickle.loads(pickle.dumps(callback))


@pytest.mark.parametrize("name", ["begin_sweep", "end_sweep"])
def test_no_error_of_the_callback_stays_in_hydra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("anything")

    monkeypatch.setattr(Session, name, fail)
    hydra = Callbacks()
    hydra.callbacks.append(SweepCallback())
    with open_session(), pytest.raises(PastHydra) as raised:
        if name == "begin_sweep":
            hydra.on_multirun_start(OmegaConf.create())
        else:
            hydra.on_multirun_end(OmegaConf.create())
    assert isinstance(raised.value.error, RuntimeError)
