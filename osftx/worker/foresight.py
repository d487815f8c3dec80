"""Predicts before the first step what a phase will forget, where activations have chosen the free directions.

The kept inputs protect what the model does on inputs that are like them. The share of an evaluation set's inputs that
lies in free directions tells whether they are: where it is near that of the data that is taught, training changes the
answers to both (measured in experiments/subspace_by_activations).
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
from osftx.worker.setup_phase import OpenPhase

NEAR = 0.25
"""A warning is given above this fraction of the share of what is taught. On the tiny model no set below it lost more
than a twentieth of its exact match, and most sets above it did."""


def free_shares(spec: PhaseSpec, engine: Engine, opened: OpenPhase, device: torch.device) -> dict[str, Any] | None:
    """Returns which share of the layers' inputs lies in free directions, and warns of sets that will be forgotten.

    `taught` is the share of the phase's own samples; `sets` holds that of each evaluation set, by the fingerprint of
    its content. Returns None where the weights have chosen the directions, or where nothing is frozen. Collective.
    """
    if spec.preserve is None or not opened.subspaces:
        return None
    # Folders are named by their content: two sets of the same rows are read once.
    names = {Path(path).name: name for name, path in spec.evaluation_sets.items()}
    share = partial(free_input_share, engine, max_tokens=spec.preserve.max_tokens, device=device)

    def measure() -> dict[str, Any]:
        sets = {
            content: share(Samples(Path(spec.evaluation_sets[name])), spec.evaluation_max_tokens, f"of {name}")
            for content, name in names.items()
        }
        taught = share(opened.samples, spec.training.max_tokens_per_gpu, "of what is taught")
        return {"taught": taught, "sets": sets}

    shares = measured_once(spec, "free_shares", measure, sorted(names))
    if dist.get_rank() == 0:
        for warning in warnings(spec, shares):
            print(f"warning: {warning}", flush=True)
    return shares


def warnings(spec: PhaseSpec, shares: Mapping[str, Any]) -> Iterator[str]:
    """Yields a warning for each evaluation set that asks what was taught before, and that this phase will change."""
    for name in spec.sets_to_keep:
        share, taught = shares["sets"][Path(spec.evaluation_sets[name]).name], shares["taught"]
        if share > NEAR * taught:
            yield (
                f"phase {spec.name} will probably forget what evaluation set {name} asks: {share:.2g} of the length of "
                f"its inputs lies in free directions, {taught:.2g} of those that are taught; add conversations of its "
                f"kind to preserve.data where it has none, or replay some (phases.{spec.name}.replay)"
            )
