"""Save a phase in the middle of its training, and go on from there: the same bits on as many ranks as before.

A save holds what is trained (the fp32 master), the optimizer's moments, the schedule, the random numbers and how far
the training has come; everything else is computed again or lies beside it. torch.distributed.checkpoint writes the
tensors and cuts them anew for another number of ranks. A save appears whole or not at all, with a digest of each file.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from osftx.config.run_layout import METRICS, save_folder, saved_steps
from osftx.config.schema import CheckpointingConfig
from osftx.distributed.accelerator import current_device, device_random_state, set_device_random_state
from osftx.distributed.collectives import agreed
from osftx.distributed.engine import Engine, Scheduler, flat_masters, optimizer_of
from osftx.distributed.masters import follow_masters, trained_parameters
from osftx.distributed.partition import flat_range
from osftx.distributed.zero3 import master_shard, whole_shape
from osftx.training.snapshot import Snapshot
from osftx.training.stop_signal import Stopped, StopRequest
from osftx.utils.files import write_json
from osftx.utils.manifest import FileDigest, begin, describe, file_problem, partial_of, seal, seal_of

STATE = "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's, by its names."""


@dataclass
class Progress:
    """How far the training of a phase has come."""

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    duration_s: float = 0.0
    """Seconds that the phase has taken so far, also in processes that have ended since."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """`step`, `loss` and `token_accuracy` of each measurement so far on samples that are not trained on."""


class Saves:
    """The saves of a phase in `folder`, of the state of an engine, its optimizer and its schedule.

    `metrics`: the phase's metrics.jsonl, a copy of which goes into every save. `begun`: when this process began with
    the phase (`time.monotonic`). `restored`: to be called when a save was put back, for what follows from it. `best`:
    the copy of the best state so far, where one is kept; it goes into every save.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointingConfig,
        engine: Engine,
        scheduler: Scheduler,
        metrics: Path,
        begun: float,
        restored: Callable[[], None],
        best: Snapshot | None = None,
    ):
        self.folder, self.settings, self.metrics, self.begun = folder, settings, metrics, begun
        self.scheduler, self.restored, self.best = scheduler, restored, best
        self.optimizer = optimizer_of(engine)
        self.masters = flat_masters(engine)
        self.parameters = trained_parameters(engine)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        # DTensor moves its part to the mesh's device: what waits on the host is to stay there.
        kinds = {self.masters[0].device.type} | ({"cpu"} if best is not None else set())
        self.meshes = {kind: init_device_mesh(kind, (self.world_size,)) for kind in sorted(kinds)}
        self.saved_at = time.monotonic()

    def restore(self) -> Progress:
        """Put back the newest save that is whole; nothing is done yet where there is none. Collective.

        What is damaged, or was being written, is removed: it would pass for newer than what is saved from now on.
        """
        if self.rank == 0:
            for partial in self.folder.glob("step_*.partial"):
                shutil.rmtree(partial, ignore_errors=True)
        for steps in agreed(saved_steps, self.folder):
            save = save_folder(self.folder, steps)
            problem = self._problem(save)
            if problem is None:
                return self._load(save)
            if self.rank == 0:
                print(f"warning: the save {save} is damaged ({problem}); it is removed", flush=True)
                shutil.rmtree(save, ignore_errors=True)
        return Progress()

    def after_step(self, progress: Progress, last: bool, stop: StopRequest) -> None:
        """Save when it is due, after the last step, and when a stop was asked for. Collective.

        Raises Stopped in the last case.
        """
        asked = torch.tensor([stop.made, self._due(progress)], dtype=torch.int32, device=current_device())
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        stopped, due = asked.tolist()
        if stopped or due or last:
            self.save(progress)
        if stopped:
            raise Stopped

    def save(self, progress: Progress) -> None:
        """Save now. What goes wrong with the disk is told, and costs no more than this save. Collective."""
        save = save_folder(self.folder, progress.steps)
        problem = agreed(_problem_of, begin, save)
        if problem is None:
            problem = self._write_tensors(partial_of(save))
        if problem is None:
            problem = self._write_rest(save, progress)
        if problem is not None and self.rank == 0:
            shutil.rmtree(partial_of(save), ignore_errors=True)
            print(f"warning: step {progress.steps} could not be saved in {self.folder} ({problem})", flush=True)
        self.saved_at = time.monotonic()

    def _due(self, progress: Progress) -> bool:
        minutes, steps = self.settings.every_minutes, self.settings.every_steps
        by_clock = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        return by_clock or (steps is not None and progress.steps % steps == 0)

    def _tensors(self, with_random_state: bool) -> dict[str, Tensor]:
        """Everything trained, as views: ZeRO-3's shards are what DTensor calls Shard(0) of the flat parameter."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            size = whole_shape(parameter).numel()
            first, last = flat_range(size, self.rank, self.world_size)  # the last shard is padded
            parts = {moment: master_shard(parameter, moment) for moment in MOMENTS}
            parts["master"] = master_shard(parameter)
            if self.best is not None and self.best.shards:
                parts["best"] = self.best.shards[name]
            for key, shard in parts.items():
                local = shard[: last - first]
                tensors[f"{name}.{key}"] = DTensor.from_local(
                    local, self.meshes[local.device.type], [Shard(0)], shape=torch.Size([size]), stride=(1,)
                )
        if with_random_state:
            tensors[f"random_state.{self.rank}"] = torch.get_rng_state()
            if current_device().type == "cuda":
                tensors[f"random_state_of_device.{self.rank}"] = device_random_state()
        return tensors

    def _write_tensors(self, partial: Path) -> str | None:
        try:
            dcp.save(self._tensors(with_random_state=True), checkpoint_id=partial)
        except CheckpointException as error:  # on all ranks, whichever could not write
            first = next(iter(error.failures.values()))[0]
            return f"{type(first).__name__}: {first}".splitlines()[0]
        return None

    def _write_rest(self, save: Path, progress: Progress) -> str | None:
        """The plain data, digests of the files by the ranks that wrote them, and the name that makes it count."""
        partial = partial_of(save)
        problem = agreed(_problem_of, self._write_plain, partial, progress)
        if problem is not None:
            return problem
        names = [path.name for path in partial.glob(f"__{self.rank}_*")]
        if self.rank == 0:
            names += [".metadata", STATE, METRICS]
        try:
            found: dict[str, FileDigest | None] = {name: describe(partial / name) for name in names}
        except OSError as error:
            found = {str(error.filename): None}
        digests = _together(found)
        if unread := [name for name, known in digests.items() if known is None]:
            return f"{unread[0]} cannot be read again"
        problem = agreed(_problem_of, seal, save, digests)
        if problem is None and self.rank == 0:
            for old in saved_steps(self.folder)[self.settings.keep :]:
                shutil.rmtree(save_folder(self.folder, old), ignore_errors=True)
        return problem

    def _write_plain(self, partial: Path, progress: Progress) -> None:
        so_far = Progress(**asdict(progress))
        so_far.duration_s += time.monotonic() - self.begun
        content = {
            "progress": asdict(so_far),
            "scheduler": self.scheduler.state_dict(),
            "optimizer_step": max((float(state["step"]) for state in self.optimizer.state.values()), default=0.0),
            "world_size": self.world_size,
        }
        write_json(partial / STATE, content)
        shutil.copyfile(self.metrics, partial / METRICS)

    def _problem(self, save: Path) -> str | None:
        """What is wrong with a save, if anything; the ranks share the work of reading it. Collective."""
        files = agreed(seal_of, save)
        if files is None:
            return "its manifest cannot be read"
        mine = sorted(files)[self.rank :: self.world_size]
        found = _together({name: file_problem(save / name, files[name]) for name in mine})
        return next((f"{name} {problem}" for name, problem in found.items() if problem is not None), None)

    def _load(self, save: Path) -> Progress:
        content = agreed(_read_state, save / STATE)
        for master in self.masters:  # before its first step AdamW has no state yet
            zeros = {moment: torch.zeros_like(master) for moment in MOMENTS}
            step = torch.tensor(content["optimizer_step"], dtype=torch.float32, device=master.device)  # as fused asks
            self.optimizer.state[master] = {"step": step, **zeros}
        progress = Progress(**content["progress"])
        if self.best is not None and progress.validation:
            self.best.take()  # makes room for what is read below
        as_many = content["world_size"] == self.world_size
        tensors = self._tensors(with_random_state=as_many)
        with torch.no_grad():
            dcp.load(tensors, checkpoint_id=save)  # into the shards themselves
            follow_masters(self.parameters.values())
        self.restored()
        if as_many:
            torch.set_rng_state(tensors[f"random_state.{self.rank}"])
            if current_device().type == "cuda":
                set_device_random_state(tensors[f"random_state_of_device.{self.rank}"])
        self.scheduler.load_state_dict(content["scheduler"])
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        if self.rank == 0:
            shutil.copyfile(save / METRICS, self.metrics)
        return progress


def _read_state(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _problem_of(work: Callable[..., object], *arguments: object) -> str | None:
    """What kept `work` from writing."""
    try:
        work(*arguments)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _together(own: dict[str, Any]) -> dict[str, Any]:
    """What all ranks have found. Collective."""
    parts: list[dict[str, Any] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return {name: value for part in parts if part is not None for name, value in part.items()}
