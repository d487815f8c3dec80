"""Implements OSFT's part in one phase on the ranks: what is trained, done after each step, saved, and left."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import BASES, INPUT_COVARIANCE
from osftx.config.schema import RankAllocation
from osftx.distributed.collectives import agreed
from osftx.distributed.engine import Engine
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero_config import zero_config
from osftx.methods.base import AfterStep, Merged, OpenedPhase
from osftx.methods.covariance.covariance import InputCovariance
from osftx.methods.covariance.index import PRESERVED
from osftx.methods.covariance.measure import measure_inputs
from osftx.methods.osft.eigenvector_cache import EigenvectorCache
from osftx.methods.osft.foresight import free_shares
from osftx.methods.osft.projection import Projection
from osftx.methods.osft.rank_allocation import layer_ratios, layers_of
from osftx.methods.osft.rules import rule_of
from osftx.methods.osft.saved_weight import saved_weight
from osftx.methods.osft.setup import open_subspaces
from osftx.methods.osft.subspace import Subspace
from osftx.methods.osft.weight_update import Merging
from osftx.models.files import read_folder, tensor_files
from osftx.models.targets import Target, find_targets
from osftx.models.weight_names import named_as_in_model, named_otherwise, stored_whole
from osftx.probes.forward_pass import gathering
from osftx.probes.layer_similarity import input_output_similarity
from osftx.training.batches import Samples
from osftx.training.measured_once import measured_once
from osftx.utils.files import link_folder
from osftx.utils.manifest import is_whole


def open_osft(model: nn.Module, spec: PhaseSpec, samples: Samples, device: torch.device) -> "OpenedOsft":
    """Makes the chosen directions of the targets trainable, and with `osft.train_others` all other parameters.

    Returns the phase. Collective.
    """
    folder = Path(spec.model.path)
    files = read_folder(folder)
    targets = named_as_in_model(model, find_targets(files.config, files.shapes, spec.osft.target_patterns))
    covariance = _covariance_to_keep(model, targets, spec, device)
    similarity = _layer_similarity(model, targets, samples, spec, device)
    turned = {f"{target.name}.weight" for target in targets if target.transposed}
    source = SourceWeights(folder, stored_whole(model, tensor_files(folder)), turned)
    subspaces = _subspaces(model, targets, source, spec, covariance, similarity)
    if spec.osft.train_others:
        protected = {f"{target.name}.weight" for target in targets}
        for name, parameter in model.named_parameters():
            if name not in protected and ".updates." not in name:
                parameter.requires_grad_(True)
    return OpenedOsft(model, spec, samples, device, targets, source, subspaces, covariance, similarity)


class TrainedSubspaces(OpenedPhase):
    """Trained subspaces: updates are projected and put into the weights after each step, and saved merged."""

    def __init__(self, source: SourceWeights, subspaces: Sequence[Subspace], bases_on_host: bool = False):
        self.source, self.subspaces, self.bases_on_host = source, subspaces, bases_on_host
        self._blocks: dict[str, list[Subspace]] = defaultdict(list)
        for space in subspaces:
            self._blocks[space.weight_name].append(space)
        self.replaced = self._blocks.keys()
        self.added = [space.update.delta for space in subspaces]

    def after_step(self, engine: Engine) -> AfterStep:
        """Returns calls that project each update into its subspace and then put it into the weight."""
        merging = Merging(self.subspaces, self.source, self.bases_on_host)
        return AfterStep([Projection(self.subspaces), merging], merging)

    def merged(self, parameter: str, before: Tensor | None, save_dtype: torch.dtype) -> Merged:
        return saved_weight(before, self._blocks[parameter], save_dtype)


class OpenedOsft(TrainedSubspaces):
    """One OSFT phase on the ranks: its subspaces, and the input covariance that it respects and passes on."""

    def __init__(
        self,
        model: nn.Module,
        spec: PhaseSpec,
        samples: Samples,
        device: torch.device,
        targets: list[Target],
        source: SourceWeights,
        subspaces: list[Subspace],
        covariance: InputCovariance | None,
        similarity: dict[str, float] | None,
    ):
        super().__init__(source, subspaces, spec.distributed.offload.bases)
        self.model, self.spec, self.samples, self.device = model, spec, samples, device
        self.targets, self.covariance, self.similarity = targets, covariance, similarity
        self.shares: dict[str, Any] | None = None

    def before_training(self, engine: Engine) -> None:
        """Measures the subspace overlap of each evaluation set, and warns of what the phase may forget."""
        if self.covariance is not None and self.subspaces:
            self.shares = free_shares(self.spec, engine, self.samples, self.device)

    def after_training(self, engine: Engine) -> None:
        """Adds the covariance of the phase's own inputs to what later phases must keep."""
        if self.covariance is not None:
            room = self.spec.training.max_tokens_per_gpu
            measure = partial(_measure_inputs, engine, self.model, self.targets, self.samples, self.spec.name)
            self.covariance.add(measure(self.spec, self.device, room), self.device)

    def leave(self, folder: Path, checkpoints: Sequence[Path]) -> None:
        """Writes the input covariance and, with `osft.save_bases`, the bases."""
        if self.covariance is not None:
            self.covariance.save(folder / INPUT_COVARIANCE, checkpoints)
        if dist.get_rank() == 0 and self.spec.resume is not None and self.spec.osft.save_bases:
            link_folder(Path(self.spec.resume.folder) / BASES, folder / BASES)

    def results(self) -> dict[str, Any]:
        return {"layer_similarity": self.similarity, "free_shares": self.shares}


def _subspaces(
    model: nn.Module,
    targets: list[Target],
    source: SourceWeights,
    spec: PhaseSpec,
    covariance: InputCovariance | None,
    similarity: dict[str, float] | None,
) -> list[Subspace]:
    """Returns the subspaces of the targets. Collective. `similarity` is what `_layer_similarity` returns."""
    assert spec.unfreeze_rank_ratio is not None
    bases, known = Path(spec.folder) / BASES if spec.osft.save_bases else None, None
    if spec.resume is not None:  # needed to resume, whatever is kept at the end
        bases, known = Path(spec.resume.folder) / BASES, Path(spec.resume.eigenvectors)
    ratios = dict.fromkeys((target.name for target in targets), spec.unfreeze_rank_ratio)
    if similarity is not None:
        by_layer = layer_ratios(similarity, spec.unfreeze_rank_ratio, spec.osft.minimum_retention)
        ratios = {target: by_layer[layer] for target, layer in layers_of(list(ratios)).items()}
    return open_subspaces(
        model,
        targets,
        ratios,
        rule_of(spec.osft),
        zero_config(spec.training, spec.distributed),
        source,
        bases,
        covariance,
        EigenvectorCache(known),
        spec.distributed.offload.bases,
    )


def _layer_similarity(
    model: nn.Module, targets: list[Target], samples: Samples, spec: PhaseSpec, device: torch.device
) -> dict[str, float] | None:
    """Returns the similarities that rank the layers for the allocation of ranks; None for a uniform one. Collective.

    A phase that resumes uses what it measured at first, since rounding could give another free rank.
    """
    if spec.osft.rank_allocation is RankAllocation.uniform:
        return None
    layers = list(dict.fromkeys(layers_of([target.name for target in targets]).values()))
    measure = partial(input_output_similarity, model, layers, samples, spec.training.max_tokens_per_gpu, device)
    return measured_once(spec, "similarity", measure)


def _covariance_to_keep(
    model: nn.Module, targets: list[Target], spec: PhaseSpec, device: torch.device
) -> InputCovariance | None:
    """Returns the input covariance that the phase must keep; None if the rule reads no inputs. Collective.

    It is the record of the phase before, or measured on the preserve set.
    """
    if spec.preserve is None:
        return None
    if spec.preserve.record is not None:
        return InputCovariance.load(Path(spec.preserve.record))
    assert spec.preserve.samples is not None
    known = Path(spec.resume.folder) / INPUT_COVARIANCE if spec.resume is not None else None
    if known is not None and agreed(is_whole, known):
        return InputCovariance.load(known)
    with gathering(model):
        samples = Samples(Path(spec.preserve.samples))
        measured = _measure_inputs(model, model, targets, samples, PRESERVED, spec, device, spec.evaluation_max_tokens)
    if known is not None:
        measured.save(known, [Path(spec.model.path)])
    return measured


def _measure_inputs(
    forward: nn.Module,
    model: nn.Module,
    targets: list[Target],
    samples: Samples,
    source: str,
    spec: PhaseSpec,
    device: torch.device,
    max_tokens_per_gpu: int,
) -> InputCovariance:
    """Returns the input covariance of `targets` on `samples`. Collective.

    `forward` runs the model: the model itself, or its engine.
    """
    assert spec.preserve is not None
    names = [target.name for target in targets]
    measured = measure_inputs(
        forward,
        model,
        names,
        samples,
        source,
        max_tokens=spec.preserve.max_tokens,
        max_tokens_per_gpu=max_tokens_per_gpu,
        device=device,
    )
    measured.record.stored = named_otherwise(model, tensor_files(Path(spec.model.path)), names)
    return measured
