"""Predicts, before the first step of a phase with activation-based subspaces, what the phase will forget.

The constraint protects what the model does on inputs like those of the preserve set. The subspace overlap shows whether
the inputs of an evaluation set are like them: it is the share of their length that lies in trainable directions. If it
is close to that of the data being taught, training changes the answers to both (measured:
experiments/subspace_by_activations).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from osftx.config.phase_spec import PhaseSpec
from osftx.distributed.engine import Engine
from osftx.methods.osft.subspace_overlap import free_input_share
from osftx.training.batches import Samples
from osftx.training.measured_once import measured_once

NEAR = 0.25
"""Threshold for a warning, as a share of the subspace overlap of the data being taught. On the tiny model no set below
it lost more than a twentieth of its exact match, and most sets above it did."""


def free_shares(spec: PhaseSpec, engine: Engine, samples: Samples, device: torch.device) -> dict[str, Any]:
    """Returns the subspace overlap of the phase's own `samples` (`taught`) and of each evaluation set (`sets`).

    The sets are named by their content. Prints a warning for each set that the phase is likely to forget. Collective.
    """
    assert spec.preserve is not None
    # Folders are named by their content, so two sets with the same rows are read once.
    names = {Path(path).name: name for name, path in spec.evaluation_sets.items()}
    share = partial(free_input_share, engine, max_tokens=spec.preserve.max_tokens, device=device)

    def measure() -> dict[str, Any]:
        sets = {
            content: share(Samples(Path(spec.evaluation_sets[name])), spec.evaluation_max_tokens, f"of {name}")
            for content, name in names.items()
        }
        return {"taught": share(samples, spec.training.max_tokens_per_gpu, "of what is taught"), "sets": sets}

    shares = measured_once(spec, "free_shares", measure, sorted(names))
    if dist.get_rank() == 0:
        for warning in warnings(spec, shares):
            print(f"warning: {warning}", flush=True)
    return shares


def warnings(spec: PhaseSpec, shares: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each evaluation set of earlier training that the phase will probably forget."""
    for name in spec.sets_to_keep:
        share, taught = shares["sets"][Path(spec.evaluation_sets[name]).name], shares["taught"]
        if share > NEAR * taught:
            yield (
                f"phase {spec.name} will probably forget what evaluation set {name} asks: its subspace overlap is "
                f"{share:.2g}, that of the taught data {taught:.2g}; add conversations of its kind to preserve.data "
                f"where it has none, or replay some (phases.{spec.name}.replay)"
            )
