"""When a phase is saved, and who is told."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch.distributed as dist
from callback_status import status

from osftx.config.schema import CheckpointingConfig
from osftx.training.callbacks import saving
from osftx.training.callbacks.saving import Saving
from osftx.training.checkpoint import Saves
from osftx.training.progress import Progress
from osftx.training.stop_signal import Stopped, StopRequest


@pytest.fixture(autouse=True)
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Trained:
    """A phase of four steps. It fails to save after the steps in `full_disk`."""

    def __init__(self, settings: CheckpointingConfig, full_disk: tuple[int, ...] = ()):
        self.progress, self.stop, self.told = Progress(), StopRequest(grace_s=50), list[Any]()
        self.saved: list[int] = []
        self.full_disk = full_disk
        saves = cast(Saves, SimpleNamespace(save=self.save))
        self.saving = Saving(saves, settings, self.progress, self.stop, lambda *told: self.told.append(told))

    def save(self, progress: Progress) -> Path | None:
        self.saved.append(progress.steps)
        return Path(f"save_{progress.steps}") if progress.steps not in self.full_disk else None

    def step(self) -> None:
        self.progress.steps += 1
        self.saving.on_step(status(steps=self.progress.steps), {})


def test_by_steps_and_after_the_last() -> None:
    trained = Trained(CheckpointingConfig(every_minutes=None, every_steps=3), full_disk=(3,))
    for _ in range(4):
        trained.step()
    assert trained.saved == [3, 4]
    assert trained.told == [(4, Path("save_4"))]


def test_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(saving.time, "monotonic", lambda: clock.now)
    trained = Trained(CheckpointingConfig(every_minutes=1.0))
    for now in (59.0, 60.0, 119.0):
        clock.now = now
        trained.step()
    assert trained.saved == [2]


def test_a_stop_request_saves_and_then_stops() -> None:
    trained = Trained(CheckpointingConfig())
    trained.step()
    trained.stop.made = True
    with pytest.raises(Stopped):
        trained.step()
    assert trained.told == [(2, Path("save_2"))]
