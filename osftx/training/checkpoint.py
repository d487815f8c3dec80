"""Saves of a phase in the middle of its training, from which it resumes: with the same bits on as many ranks as before.

A save holds the fp32 masters of everything that is trained, the optimizer's moments, the learning-rate schedule, the
states of the random number generators and the progress. Everything else is computed again or lies beside it.
torch.distributed.checkpoint writes the tensors, and partitions them anew for another number of ranks. A save appears
whole or not at all, with a digest of each file.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
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
from osftx.distributed.accelerator import current_device, device_random_state, set_device_random_state
from osftx.distributed.collectives import agreed
from osftx.distributed.engine import Engine, Scheduler, flat_masters, optimizer_of
from osftx.distributed.masters import follow_masters, trained_parameters
from osftx.distributed.partition import flat_range
from osftx.distributed.zero3 import master_shard, whole_shape
from osftx.training.progress import Progress
from osftx.training.save_reader import SaveReader, read_description
from osftx.training.snapshot import Snapshot
from osftx.utils.disk import refusal
from osftx.utils.files import write_json
from osftx.utils.manifest import FileDigest, begin, describe, file_problem, partial_of, seal, seal_of
from osftx.utils.ownership import not_ours

STATE = "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's names of its moments."""


class Saves:
    """Writes and reads the saves of a phase in `folder`: the state of an engine, its optimizer and its schedule.

    Each save replaces older ones, so that the newest `keep` are left. It holds a copy of the phase's metrics.jsonl,
    `metrics`, and of the best state so far, `best`, where one is kept. `begun` is the time at which this process began
    the phase, as `time.monotonic` tells it. `restored` is called after a save was restored, to update what is computed
    from the masters.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        engine: Engine,
        scheduler: Scheduler,
        metrics: Path,
        begun: float,
        restored: Callable[[], None],
        best: Snapshot | None = None,
    ):
        self.folder, self.keep, self.metrics, self.begun = folder, keep, metrics, begun
        self.scheduler, self.restored, self.best = scheduler, restored, best
        self.optimizer = optimizer_of(engine)
        self.masters = flat_masters(engine)
        self.parameters = trained_parameters(engine)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        # DTensor moves its part to the mesh's device, but what lies in host memory has to stay there.
        kinds = {self.masters[0].device.type} | ({"cpu"} if best is not None else set())
        self.meshes = {kind: init_device_mesh(kind, (self.world_size,)) for kind in sorted(kinds)}

    def restore(self) -> Progress:
        """Restores the newest save that is whole, and returns its progress; where there is none, that of no step.

        Collective. A save that is damaged, or was being written, is removed: it would pass for a newer one than those
        that are written from now on. Raises PermissionError for files that another user may have written; they stay.
        """
        if (refused := agreed(not_ours, self.folder)) is not None:
            raise PermissionError(
                f"saves of this phase are not read, because another user may have written them: {refused}; remove "
                f"{self.folder} to begin the phase anew, or give another store_dir"
            )
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

    def save(self, progress: Progress) -> Path | None:
        """Saves the present state, and returns the folder of the save. Collective.

        Where the disk refuses it, a warning is printed and None returned on every rank; earlier saves remain.
        """
        save = save_folder(self.folder, progress.steps)
        problem = agreed(_problem_of, begin, save)
        if problem is None:
            problem = self._write_tensors(partial_of(save))
        if problem is None:
            problem = self._write_rest(save, progress)
        if problem is not None and self.rank == 0:
            shutil.rmtree(partial_of(save), ignore_errors=True)
            print(f"warning: step {progress.steps} could not be saved in {self.folder} ({problem})", flush=True)
        return save if problem is None else None

    def _tensors(self, with_random_state: bool) -> dict[str, Tensor]:
        """Returns views of all tensors of a save. A ZeRO-3 shard is DTensor's Shard(0) of the flat parameter."""
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
        """Writes the tensors, and returns what kept a rank from it, on every rank. Collective."""
        try:
            dcp.save(self._tensors(with_random_state=True), checkpoint_id=partial)
        except CheckpointException as error:  # on all ranks, whichever could not write
            if (refused := refusal(error, partial)) is not None:
                return refused
            first = next(iter(error.failures.values()))[0]
            return f"{type(first).__name__}: {first}".splitlines()[0]
        return None

    def _write_rest(self, save: Path, progress: Progress) -> str | None:
        """Writes the plain data and the digests of all files, and gives the save its final name. Collective.

        Each rank computes the digests of the files that it has written. Returns what went wrong.
        """
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
            for old in saved_steps(self.folder)[self.keep :]:
                shutil.rmtree(save_folder(self.folder, old), ignore_errors=True)
        return problem

    def _write_plain(self, partial: Path, progress: Progress) -> None:
        """Writes everything that is no tensor."""
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
        """Returns what is wrong with a save, if anything. The ranks share the work of reading it. Collective."""
        files = agreed(seal_of, save)
        if files is None:
            return "its manifest cannot be read"
        mine = sorted(files)[self.rank :: self.world_size]
        found = _together({name: file_problem(save / name, files[name]) for name in mine})
        problem = next((f"{name} {problem}" for name, problem in found.items() if problem is not None), None)
        return problem or agreed(_wrong_description, save)

    def _load(self, save: Path) -> Progress:
        """Restores the state in `save`, and returns its progress. Collective."""
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
            dcp.load(tensors, storage_reader=SaveReader(save))  # into the shards themselves
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


def _wrong_description(save: Path) -> str | None:
    try:
        read_description(save)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _read_state(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _problem_of(work: Callable[..., object], *arguments: object) -> str | None:
    """Returns what kept `work(*arguments)` from writing; None where it has written."""
    try:
        work(*arguments)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _together(own: dict[str, Any]) -> dict[str, Any]:
    """Returns the union of what all ranks have found. Collective."""
    parts: list[dict[str, Any] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return {name: value for part in parts if part is not None for name, value in part.items()}
