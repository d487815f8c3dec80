"""What the ranks of a phase measure: the evaluation sets, and the samples that the phase validates on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import PHASE_RESULT
from osftx.distributed.engine import Engine, close, initialize
from osftx.evaluation.held_out import check_finite, evaluate
from osftx.training.batches import Samples
from osftx.training.measured_once import measured_once
from osftx.utils.files import write_json
from osftx.worker.setup_phase import load

Evaluation = dict[str, dict[str, float]]
"""Figures by evaluation set."""
Measure = Callable[[Engine, int], Evaluation]
"""Measures every evaluation set. It takes the engine and the number of steps that were trained before."""


def evaluation_of(spec: PhaseSpec, device: torch.device) -> Measure:
    """Returns the function that measures the evaluation sets of a phase. Its calls are collective."""
    sets = {name: Samples(Path(path)) for name, path in spec.evaluation_sets.items()}

    def measure(engine: Engine, steps: int) -> Evaluation:
        measured = {name: evaluate(engine, rows, spec.evaluation_max_tokens, device) for name, rows in sets.items()}
        check_finite({f"evaluation set {name!r}": figures for name, figures in measured.items()}, steps)
        return measured

    return measure


def evaluate_only(spec: PhaseSpec, device: torch.device) -> None:
    """Measures the evaluation sets on the model that the phase starts from, and trains nothing. Collective.

    Rank 0 writes `result.json`, which holds `evaluation` alone.
    """
    model = load(spec, device)
    model.requires_grad_(False)
    engine, *_ = initialize(model, spec.training, 0, spec.distributed)
    evaluation = evaluation_of(spec, device)(engine, 0)
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / PHASE_RESULT, {"evaluation": evaluation})
    close(engine)


def evaluation_before(spec: PhaseSpec, measure: Measure, engine: Engine) -> Evaluation | None:
    """Returns what the model scores before the first step; None where that is not asked for. Collective."""
    if not spec.evaluate_before:
        return None
    of = {name: Path(path).name for name, path in spec.evaluation_sets.items()}  # folders are named by their content
    return measured_once(spec, "evaluation_before", partial(measure, engine, 0), of)


def measure_held_out(
    engine: Engine, held_out: Samples, max_tokens: int, device: torch.device, steps: int
) -> dict[str, float]:
    """Returns what the model scores on the validation samples after `steps` optimizer steps. Collective."""
    figures = evaluate(engine, held_out, max_tokens, device)
    check_finite({"the validation samples": figures}, steps)
    return figures
