"""The opening of a phase on the ranks: from its specification to an engine that is ready to take the first step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import BASES, INPUT_COVARIANCE
from osftx.config.schema import Method, RankAllocation
from osftx.distributed.collectives import agreed
from osftx.distributed.engine import Engine, Scheduler, after_each_step, be_deterministic, init_distributed, initialize
from osftx.distributed.load_model import load_model
from osftx.distributed.masters import start_masters
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero_config import zero_config
from osftx.methods.covariance.covariance import KeptInputs
from osftx.methods.covariance.index import PRESERVED
from osftx.methods.covariance.measure import measure_inputs
from osftx.methods.osft.eigenvector_cache import Eigenvectors
from osftx.methods.osft.projection import Projection
from osftx.methods.osft.rank_allocation import layer_ratios, layers_of
from osftx.methods.osft.setup import Subspace, open_subspaces
from osftx.methods.osft.weight_update import Merging
from osftx.models.files import read_folder, tensor_files
from osftx.models.targets import Target, find_targets
from osftx.models.weight_names import lost, named_as_in_model, named_otherwise, stored_whole
from osftx.probes.forward_pass import gathering
from osftx.probes.layer_similarity import input_output_similarity
from osftx.probes.packing_check import check_samples_apart
from osftx.training.batches import Samples, open_samples
from osftx.training.callbacks.base import PhaseStatus
from osftx.training.measured_once import measured_once
from osftx.training.trainer import Trainer
from osftx.utils.library_logging import quiet_libraries
from osftx.utils.manifest import is_whole


@dataclass
class OpenPhase:
    """A model in partitions whose trainable parameters are chosen."""

    model: nn.Module
    samples: Samples
    held_out: Samples | None
    """The samples that the phase validates on."""
    targets: list[Target]
    """The layers that are protected; none for `sft`."""
    source: SourceWeights
    subspaces: list[Subspace]
    kept: KeptInputs | None
    """The inputs on which the model's outputs must be kept; None where the weights choose the directions."""
    similarity: dict[str, float] | None
    """The similarity of input and output by layer; None for a uniform allocation of ranks."""


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
    merging = Merging(opened.subspaces, opened.source, spec.distributed.offload.bases)
    if scheduler is not None:
        start_masters(engine, opened.source)
        after_each_step(engine, Projection(opened.subspaces), merging)
    return ReadyPhase(opened, trainer, engine, scheduler, merging)


def status(spec: PhaseSpec, ready: ReadyPhase) -> PhaseStatus:
    """Returns where the training of the phase stands now."""
    trainer, scheduler = ready.trainer, ready.scheduler
    return PhaseStatus(
        name=spec.name,
        index=spec.index,
        method=spec.method.value,
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

    Sets torch's random numbers to the phase's seed. Raises ValueError where packed samples would see each other.
    """
    torch.manual_seed(spec.training.seed)
    model = load_model(Path(spec.model.path), spec.model, spec.training, spec.distributed)
    check_samples_apart(model, device)
    return model


def open_phase(model: nn.Module, spec: PhaseSpec, device: torch.device) -> OpenPhase:
    """Makes trainable every weight of `model`, or the free subspaces of the targets, as the method says. Collective.

    Raises ValueError where a trained weight could not be saved.
    """
    folder = Path(spec.model.path)
    targets = _targets(model, spec, folder)
    kept = _kept_inputs(model, targets, spec, device)
    samples, held_out = open_samples(spec)
    similarity = _similarity(model, targets, samples, spec, device)
    turned = {f"{target.name}.weight" for target in targets if target.transposed}
    source = SourceWeights(folder, stored_whole(model, tensor_files(folder)), turned)
    subspaces = _choose_trainable(model, targets, source, spec, kept, similarity)
    _check_exportable(model, folder)
    return OpenPhase(model, samples, held_out, targets, source, subspaces, kept, similarity)


def measure_own_inputs(forward: nn.Module, opened: OpenPhase, spec: PhaseSpec, device: torch.device) -> KeptInputs:
    """Measures the inputs of the targets on the phase's own samples; `forward` is the model's engine. Collective."""
    room = spec.training.max_tokens_per_gpu
    return _measure_inputs(forward, opened.model, opened.targets, opened.samples, spec.name, spec, device, room)


def _targets(model: nn.Module, spec: PhaseSpec, source: Path) -> list[Target]:
    """Returns the layers that are protected, by their names in the model; none for `sft`."""
    if spec.method is Method.sft:
        return []
    files = read_folder(source)
    return named_as_in_model(model, find_targets(files.config, files.shapes, spec.osft.target_patterns))


def _choose_trainable(
    model: nn.Module,
    targets: list[Target],
    source: SourceWeights,
    spec: PhaseSpec,
    kept: KeptInputs | None,
    similarity: dict[str, float] | None,
) -> list[Subspace]:
    """Makes trainable every weight (`sft`), or the free subspaces of the targets, which it returns. Collective.

    `similarity` is what `_similarity` has returned.
    """
    if spec.method is Method.sft:
        model.requires_grad_(True)
        return []
    assert spec.unfreeze_rank_ratio is not None
    bases, known = Path(spec.folder) / BASES if spec.osft.save_bases else None, None
    if spec.resume is not None:  # needed to go on, whatever is kept at the end
        bases, known = Path(spec.resume.folder) / BASES, Path(spec.resume.eigenvectors)
    ratios = dict.fromkeys((target.name for target in targets), spec.unfreeze_rank_ratio)
    if similarity is not None:
        by_layer = layer_ratios(similarity, spec.unfreeze_rank_ratio, spec.osft.minimum_retention)
        ratios = {target: by_layer[layer] for target, layer in layers_of(list(ratios)).items()}
    settings = zero_config(spec.training, spec.distributed)
    subspaces = open_subspaces(
        model, targets, ratios, settings, source, bases, kept, Eigenvectors(known), spec.distributed.offload.bases
    )
    if spec.osft.train_others:
        protected = {f"{target.name}.weight" for target in targets}
        for name, parameter in model.named_parameters():
            if name not in protected and ".updates." not in name:
                parameter.requires_grad_(True)
    return subspaces


def _similarity(
    model: nn.Module, targets: list[Target], samples: Samples, spec: PhaseSpec, device: torch.device
) -> dict[str, float] | None:
    """Returns by layer how similar its output is to its input; None for a uniform allocation of ranks. Collective.

    A phase that resumes uses the figures that it measured at first, since rounding could give another free rank.
    """
    if spec.method is Method.sft or spec.osft.rank_allocation is RankAllocation.uniform:
        return None
    layers = list(dict.fromkeys(layers_of([target.name for target in targets]).values()))
    measure = partial(input_output_similarity, model, layers, samples, spec.training.max_tokens_per_gpu, device)
    return measured_once(spec, "similarity", measure)


def _kept_inputs(model: nn.Module, targets: list[Target], spec: PhaseSpec, device: torch.device) -> KeptInputs | None:
    """Returns the inputs on which the outputs must be kept, as recorded by the phase before or measured on samples.

    Returns None where the weights choose the directions. Collective.
    """
    if spec.preserve is None:
        return None
    if spec.preserve.record is not None:
        return KeptInputs.load(Path(spec.preserve.record))
    assert spec.preserve.samples is not None
    known = Path(spec.resume.folder) / INPUT_COVARIANCE if spec.resume is not None else None
    if known is not None and agreed(is_whole, known):
        return KeptInputs.load(known)
    with gathering(model):
        samples = Samples(Path(spec.preserve.samples))
        kept = _measure_inputs(model, model, targets, samples, PRESERVED, spec, device, spec.evaluation_max_tokens)
    if known is not None:
        kept.save(known, [Path(spec.model.path)])
    return kept


def _measure_inputs(
    forward: nn.Module,
    model: nn.Module,
    targets: list[Target],
    samples: Samples,
    source: str,
    spec: PhaseSpec,
    device: torch.device,
    max_tokens_per_gpu: int,
) -> KeptInputs:
    """Measures the inputs of `targets` on `samples`; `forward` is the model or its engine. Collective."""
    assert spec.preserve is not None
    names = [target.name for target in targets]
    kept = measure_inputs(
        forward,
        model,
        names,
        samples,
        source,
        max_tokens=spec.preserve.max_tokens,
        max_tokens_per_gpu=max_tokens_per_gpu,
        device=device,
    )
    kept.record.stored = named_otherwise(model, tensor_files(Path(spec.model.path)), names)
    return kept


def _check_exportable(model: nn.Module, source: Path) -> None:
    """Raises ValueError for a trained parameter that no tensor of the model's files can take back."""
    if missing := lost(model, tensor_files(source)):
        raise ValueError(
            f"{len(missing)} trained weights, such as {missing[0]}, are held by no tensor of the files of {source} "
            "that could take them back; save the model anew with transformers' save_pretrained and start from that "
            "folder, or train the targets alone (method=osft, osft.train_others=false)"
        )
