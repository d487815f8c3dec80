"""Defines plain fine-tuning as a method. Imports no torch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import PhaseConfig
from osftx.methods.base import Method, OpenedPhase
from osftx.methods.sizes import MethodSizes, Workload

if TYPE_CHECKING:
    import torch
    from torch import nn

    from osftx.training.batches import Samples


class Sft(Method):
    """Trains every weight of the model."""

    name = "sft"

    def phase_problems(self, path: str, phase: PhaseConfig) -> Iterator[str]:
        if phase.unfreeze_rank_ratio is not None:
            ratio = phase.unfreeze_rank_ratio
            yield f"{path}.unfreeze_rank_ratio={ratio}: sft trains every weight; set it to null"

    def sizes(self, work: Workload) -> MethodSizes:
        return MethodSizes(trainable=work.parameters, frozen=0, trained_weights=work.shapes.keys(), trains_norms=True)

    def open(self, model: "nn.Module", spec: PhaseSpec, samples: "Samples", device: "torch.device") -> OpenedPhase:
        from osftx.methods.sft.opened import open_sft

        return open_sft(model, spec)
