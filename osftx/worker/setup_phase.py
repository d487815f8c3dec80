"""From the spec of a phase to a model that is ready to be trained: what is trained of it, on which samples."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from osftx.config.phase_spec import PhaseSpec
from osftx.distributed.load_model import load_model
from osftx.methods.base import OpenedPhase
from osftx.methods.registry import method_named
from osftx.models.files import tensor_files
from osftx.models.weight_names import lost
from osftx.probes.packing_check import check_samples_apart
from osftx.training.batches import Samples, open_samples


@dataclass
class OpenPhase:
    """A model in partitions whose trainable parameters are chosen."""

    model: nn.Module
    samples: Samples
    held_out: Samples | None
    """What the phase validates on."""
    method: OpenedPhase


def load(spec: PhaseSpec, device: torch.device) -> nn.Module:
    """The model that the phase starts from, in partitions; packed samples do not see each other in it. Collective."""
    model = load_model(Path(spec.model.path), spec.model, spec.training, spec.distributed)
    check_samples_apart(model, device)
    return model


def open_phase(model: nn.Module, spec: PhaseSpec, device: torch.device) -> OpenPhase:
    """Has the phase's method decide what of the `model` is trained. Collective.

    Raises ValueError where something is trained that could not be saved.
    """
    samples, held_out = open_samples(spec)
    opened = method_named(spec.method).open(model, spec, samples, device)
    _check_exportable(model, Path(spec.model.path))
    return OpenPhase(model, samples, held_out, opened)


def _check_exportable(model: nn.Module, source: Path) -> None:
    """Refuse before training what could not be saved: a trained parameter that no tensor of the files can take back."""
    if missing := lost(model, tensor_files(source)):
        raise ValueError(
            f"{len(missing)} trained weights, such as {missing[0]}, are held by no tensor of the files of {source} "
            "that could take them back; save the model anew with transformers' save_pretrained and start from that "
            "folder, or train the targets alone (method=osft, osft.train_others=false)"
        )
