"""Which GPUs the ranks get: what is claimed, and what is refused before anything starts. torch's count is replaced."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from osftx.config.schema import Accelerator, DistributedConfig
from osftx.errors import ConfigurationError, TrainingError
from osftx.launch import gpus
from osftx.launch.devices import claimed
from osftx.launch.gpus import check_devices, exclusive_devices

OUTER = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


class Gpu:
    def __init__(self, uuid: str):
        self.uuid = uuid


@pytest.fixture(autouse=True)
def no_outer_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (*OUTER, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def outer_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in OUTER.items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpus, "lock_folder", lambda: tmp_path / "locks")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: Gpu("abcd"[place]))


def held(**settings: Any) -> list[str]:
    with exclusive_devices(DistributedConfig(**settings), "phase 'skills'") as names:
        return names


def test_ranks_get_the_gpus_that_no_other_run_holds(tmp_path: Path, four_gpus: None) -> None:
    with claimed(["GPU-b"], 1, tmp_path / "locks"):
        assert held(nproc_per_node=2) == ["GPU-a", "GPU-c"]
    assert held(nproc_per_node=4) == ["GPU-a", "GPU-b", "GPU-c", "GPU-d"], "an earlier claim has ended"


@pytest.mark.parametrize("settings", [{"exclusive_devices": False}, {"accelerator": Accelerator.cpu}], ids=str)
def test_nothing_is_claimed_where_devices_are_shared_or_not_used(
    tmp_path: Path, four_gpus: None, settings: dict[str, Any]
) -> None:
    with claimed([f"GPU-{name}" for name in "abcd"], 4, tmp_path / "locks"):
        assert held(nproc_per_node=2, **settings) == []


@pytest.mark.parametrize("exclusive", [True, False])
def test_each_process_of_an_outer_launcher_takes_another_gpu(
    four_gpus: None, outer_launcher: None, exclusive: bool
) -> None:
    assert held(nproc_per_node=1, exclusive_devices=exclusive) == ["GPU-b"]


def test_a_process_of_an_outer_launcher_waits_for_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, four_gpus: None, outer_launcher: None
) -> None:
    """Were it to take another one, two runs could hold half of the GPUs each and wait for the other half."""
    asked: list[Sequence[str]] = []

    @contextmanager
    def claim(devices: Sequence[str], wanted: int, _: Path) -> Iterator[list[str]]:
        asked.append(devices)
        yield list(devices[:wanted])

    monkeypatch.setattr(gpus, "claimed", claim)
    held(nproc_per_node=1)
    assert asked == [["GPU-b"]]


def test_parts_of_a_gpu_are_claimed_by_their_own_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, four_gpus: None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1/2, MIG-1/3")
    with claimed(["MIG-1/2"], 1, tmp_path / "locks"):
        assert held(nproc_per_node=1) == ["MIG-1/3"]


def test_a_lock_folder_that_cannot_be_made_is_named(tmp_path: Path, four_gpus: None) -> None:
    (tmp_path / "locks").write_text("")
    with pytest.raises(TrainingError, match=r"locks cannot be written .*distributed.exclusive_devices=false"):
        held(nproc_per_node=1)


@pytest.mark.parametrize(
    ("accelerator", "ranks", "use_liger", "gpus", "start"),
    [
        (Accelerator.cpu, 8, False, 0, None),
        (Accelerator.cpu, 8, False, 2, None),
        (Accelerator.auto, 8, False, 0, None),
        (Accelerator.auto, 2, True, 2, None),
        (Accelerator.cuda, 2, True, 4, None),
        (Accelerator.auto, 8, True, 0, "training.use_liger=true: "),
        (Accelerator.cuda, 8, False, 0, "distributed.accelerator=cuda: "),
        (Accelerator.cuda, 8, True, 4, "distributed.nproc_per_node=8: this machine has 4 GPUs"),
        (Accelerator.auto, 8, True, 4, "distributed.nproc_per_node=8: this machine has 4 GPUs"),
    ],
)
def test_devices_are_checked_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
    accelerator: Accelerator,
    ranks: int,
    use_liger: bool,
    gpus: int,
    start: str | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    distributed = DistributedConfig(accelerator=accelerator, nproc_per_node=ranks)
    if start is None:
        check_devices(distributed, use_liger)
        return
    with pytest.raises(ConfigurationError) as raised:
        check_devices(distributed, use_liger)
    (line,) = raised.value.problems
    assert line.startswith(start)


@pytest.mark.parametrize(
    ("gpus", "visible", "refused"),
    [(1, None, True), (1, "3", False), (2, "3,4", False), (3, "3,4,5", True), (0, None, False), (4, None, False)],
)
def test_more_processes_than_gpus_are_refused_where_all_see_the_same(
    monkeypatch: pytest.MonkeyPatch, gpus: int, visible: str | None, refused: bool
) -> None:
    """They would wait for each other's."""
    for key, value in (OUTER | {"LOCAL_WORLD_SIZE": "2" if gpus != 3 else "4"}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if not refused:
        check_devices(DistributedConfig(nproc_per_node=1), use_liger=False)
        return
    with pytest.raises(ConfigurationError, match=rf"torchrun .* and they see {gpus} GPUs; start {gpus} on each"):
        check_devices(DistributedConfig(nproc_per_node=1), use_liger=False)
