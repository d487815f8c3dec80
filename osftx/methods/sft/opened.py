"""Implements plain fine-tuning's part in one phase on the ranks."""

from pathlib import Path

from torch import nn

from osftx.config.phase_spec import PhaseSpec
from osftx.distributed.source_weights import SourceWeights
from osftx.methods.base import OpenedPhase
from osftx.models.files import tensor_files
from osftx.models.weight_names import stored_whole


def open_sft(model: nn.Module, spec: PhaseSpec) -> "OpenedSft":
    """Makes every parameter of the model trainable."""
    model.requires_grad_(True)
    folder = Path(spec.model.path)
    return OpenedSft(SourceWeights(folder, stored_whole(model, tensor_files(folder))))


class OpenedSft(OpenedPhase):
    """One phase of plain fine-tuning. It needs only the start weights, since the optimizer does all the work."""

    def __init__(self, source: SourceWeights):
        self.source = source
