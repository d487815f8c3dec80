"""The opening of a phase on the ranks: from its specification to an engine that is ready to take the first step."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from osftx.config.phase_spec import PhaseSpec
from osftx.distributed.engine import Engine, Scheduler, after_each_step, be_deterministic, init_distributed, initialize
from osftx.distributed.load_model import load_model
from osftx.distributed.loaded_weights import check_loaded
from osftx.distributed.masters import start_masters
from osftx.methods.base import AfterStep, OpenedPhase
from osftx.methods.registry import method_named
from osftx.models.completeness import check_complete, empty_model
from osftx.models.files import read_folder, tensor_files
from osftx.models.weight_names import lost
from osftx.probes.packing_check import check_samples_apart
from osftx.training.batches import Samples, open_samples
from osftx.training.callbacks.base import PhaseStatus
from osftx.training.trainer import Trainer
from osftx.utils.library_logging import quiet_libraries
from osftx.worker.start_model import check_start


@dataclass
class OpenPhase:
    """A model in partitions whose trainable parameters are chosen."""

    model: nn.Module
    samples: Samples
    held_out: Samples | None
    """The samples that the phase validates on."""
    method: OpenedPhase
    """The part of the phase's method."""


@dataclass
class ReadyPhase:
    """A phase whose ranks are ready to take its first step."""

    opened: OpenPhase
    trainer: Trainer
    engine: Engine
    scheduler: Scheduler | None
    """None where nothing is trained."""
    restored: Callable[[], None]
    """Updates the weights that are computed from the masters. It is called after those were restored. Collective."""


def join_ranks(spec: PhaseSpec) -> torch.device:
    """Joins the group of ranks, and returns this rank's device. It must be called before anything runs on a GPU."""
    quiet_libraries()
    if spec.training.deterministic:
        be_deterministic()
    return init_distributed(spec.distributed.timeout_s)


def set_up(spec: PhaseSpec, device: torch.device) -> ReadyPhase:
    """Returns the phase, ready for its first step. Collective.

    Raises ValueError for a model that cannot be trained so, with the remedy.
    """
    opened = open_phase(load(spec, device), spec, device)
    trainer = Trainer(opened.samples, spec.training, device)
    engine, _, scheduler = initialize(opened.model, spec.training, len(trainer.steps), spec.distributed)
    after = AfterStep()
    if scheduler is not None:
        start_masters(engine, opened.method.source)
        after = opened.method.after_step(engine)
        after_each_step(engine, *after.calls)
    return ReadyPhase(opened, trainer, engine, scheduler, after.restored)


def status(spec: PhaseSpec, ready: ReadyPhase) -> PhaseStatus:
    """Returns where the training of the phase stands now."""
    trainer, scheduler = ready.trainer, ready.scheduler
    return PhaseStatus(
        name=spec.name,
        index=spec.index,
        method=spec.method,
        folder=Path(spec.folder),
        total_steps=len(trainer.steps) if scheduler is not None else 0,
        steps=trainer.progress.steps,
        samples=trainer.progress.samples,
        tokens=trainer.progress.tokens,
        learning_rate=float(scheduler.get_last_lr()[0]) if scheduler is not None else 0.0,
        rank=trainer.rank,
        world_size=trainer.world_size,
    )


def load(spec: PhaseSpec, device: torch.device) -> nn.Module:
    """Returns the model that the phase starts from, in partitions. Collective.

    Sets torch's random numbers to the phase's seed. Raises ValueError where packed samples would see each other, where
    the model is not exactly what its files hold, and where it was changed since the phase was planned.
    """
    folder, own_code = Path(spec.model.path), spec.model.trust_remote_code
    shapes = read_folder(folder).shapes
    if not own_code:  # before the model is loaded, since transformers' own errors name no remedy
        check_complete(empty_model(folder), shapes, folder)
    torch.manual_seed(spec.training.seed)
    model = load_model(folder, spec.model, spec.training, spec.distributed)
    check_start(spec)
    if own_code:  # it need not be able to build a model without weights
        check_complete(model, shapes, folder)
    check_loaded(model, folder)
    check_samples_apart(model, device)
    return model


def open_phase(model: nn.Module, spec: PhaseSpec, device: torch.device) -> OpenPhase:
    """Lets the phase's method choose what of `model` is trained. Collective.

    Raises ValueError where a trained weight could not be saved.
    """
    samples, held_out = open_samples(spec)
    method = method_named(spec.method).open(model, spec, samples, device)
    _check_exportable(model, Path(spec.model.path), method.added)
    return OpenPhase(model, samples, held_out, method)


def _check_exportable(model: nn.Module, source: Path, added: Collection[nn.Parameter]) -> None:
    """Raises ValueError for a trained parameter that no tensor of the model's files can take back."""
    if missing := lost(model, tensor_files(source), added):
        raise ValueError(
            f"{len(missing)} trained weights, such as {missing[0]}, are held by no tensor of the files of {source} "
            "that could take them back; save the model anew with transformers' save_pretrained and start from that "
            "folder, or train the targets alone (method=osft, osft.train_others=false)"
        )
