"""The pace of one phase on its ranks: it begins as for real, takes some steps, and nothing of it is kept.

Imports DeepSpeed, so only ranks import this module (`worker.py`).
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import PHASE_RESULT
from osftx.distributed.engine import after_each_step, be_deterministic, close, init_distributed, initialize
from osftx.distributed.load_model import DTYPES
from osftx.evaluation.held_out import evaluate
from osftx.training.batches import Samples
from osftx.training.checkpoint import METRICS
from osftx.training.trainer import Trainer
from osftx.utils.files import write_json
from osftx.utils.library_logging import quiet_libraries
from osftx.worker.export import export
from osftx.worker.setup_phase import load, open_phase


def calibrate_phase(spec: PhaseSpec) -> None:
    """Take `spec.calibration_steps` steps behind a first one. Collective.

    `result.json` then holds `start_s` (without the start of the processes, of which they know nothing),
    `training_s_per_token`, `forward_s_per_token`, `saving_s`, and how long all of it took, `duration_s`.
    """
    assert spec.calibration_steps is not None
    begun = time.monotonic()
    quiet_libraries()
    if spec.training.deterministic:  # which takes slower kernels
        be_deterministic()
    device = init_distributed(spec.distributed.timeout_s)
    torch.manual_seed(spec.training.seed)
    opened = open_phase(load(spec, device), spec, device)
    trainer = Trainer(opened.samples, spec.training, device)
    engine, optimizer, scheduler = initialize(opened.model, spec.training, len(trainer.steps), spec.distributed)
    pace = {"start_s": time.monotonic() - begun, "training_s_per_token": 0.0}
    few = Samples(Path(spec.data), np.sort(trainer.steps[0]))
    if optimizer is not None and scheduler is not None:
        after_each_step(engine, *opened.method.after_step(engine).calls)
        trainer.steps = trainer.steps[: 1 + spec.calibration_steps]
        metrics = Path(spec.folder) / METRICS
        trainer.run(engine, scheduler, f"timing {spec.name}", metrics, None, None, None)
        if dist.get_rank() == 0:
            pace["training_s_per_token"] = _per_token(metrics)
    measure = partial(evaluate, engine, few, spec.evaluation_max_tokens, device)
    measure()  # the first pass of a kind is slower
    pace["forward_s_per_token"] = _seconds(measure) / int(few.lengths.sum())
    save_dtype = DTYPES[spec.training.save_dtype]
    save = partial(export, engine.module, opened.method, Path(spec.model.path), spec.checkpoint, save_dtype)
    pace["saving_s"] = _seconds(save)
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / PHASE_RESULT, {**pace, "duration_s": time.monotonic() - begun})
    close(engine)


def _per_token(metrics: Path) -> float:
    """Seconds, over all steps but the first, in which the optimizer makes its state."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    later = lines[1:] or lines
    return sum(line["time_per_batch"] for line in later) / sum(line["num_total_tokens"] for line in later)


def _seconds(call: Callable[[], object]) -> float:
    """Of a call whose last act all ranks wait for."""
    begun = time.monotonic()
    call()
    return time.monotonic() - begun
