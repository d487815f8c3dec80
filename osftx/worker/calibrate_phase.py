"""The pace of one phase on its ranks: it begins as for real, takes some steps, and nothing of it is kept.

Imports DeepSpeed, so only ranks import this module (`__main__.py`).
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch.distributed as dist

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import METRICS, PHASE_RESULT
from osftx.distributed.engine import close
from osftx.distributed.load_model import DTYPES
from osftx.evaluation.held_out import evaluate
from osftx.training.batches import Samples
from osftx.training.callbacks.dispatch import Callbacks
from osftx.training.callbacks.metrics_log import MetricsLog
from osftx.training.callbacks.progress_bar import ProgressBar
from osftx.utils.files import write_json
from osftx.worker.export import export
from osftx.worker.setup_phase import ReadyPhase, join_ranks, set_up, status


def calibrate_phase(spec: PhaseSpec) -> None:
    """Takes `spec.calibration_steps` steps after a first one, and measures their pace. Collective.

    Rank 0 writes `result.json`, all in seconds: `start_s` (without the start of the processes, of which they know
    nothing), `training_s_per_token`, `forward_s_per_token`, `saving_s`, and `duration_s` of the whole.
    """
    begun = time.monotonic()
    device = join_ranks(spec)
    ready = set_up(spec, device)
    pace = {"start_s": time.monotonic() - begun}
    few = Samples(Path(spec.data), np.sort(ready.trainer.steps[0]))
    pace["training_s_per_token"] = _train(spec, ready)
    measure = partial(evaluate, ready.engine, few, spec.evaluation_max_tokens, device)
    measure()  # the first pass of a kind is slower
    pace["forward_s_per_token"] = _seconds(measure) / int(few.lengths.sum())
    pace["saving_s"] = _seconds(partial(_save, spec, ready))
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / PHASE_RESULT, {**pace, "duration_s": time.monotonic() - begun})
    close(ready.engine)


def _train(spec: PhaseSpec, ready: ReadyPhase) -> float:
    """Takes the steps, and returns the seconds per token on rank 0; 0 where nothing is trained. Collective."""
    if ready.scheduler is None:
        return 0.0
    assert spec.calibration_steps is not None
    ready.trainer.steps = ready.trainer.steps[: 1 + spec.calibration_steps]
    metrics = Path(spec.folder) / METRICS
    bar = ProgressBar(f"timing {spec.name}", ready.trainer.progress)
    callbacks = Callbacks(partial(status, spec, ready), [MetricsLog(metrics), bar])
    callbacks.phase_started()
    with bar:
        ready.trainer.run(ready.engine, ready.scheduler, callbacks)
    return _per_token(metrics) if dist.get_rank() == 0 else 0.0


def _save(spec: PhaseSpec, ready: ReadyPhase) -> None:
    save_dtype = DTYPES[spec.training.save_dtype]
    export(ready.engine.module, ready.opened.method, Path(spec.model.path), spec.checkpoint, save_dtype)


def _per_token(metrics: Path) -> float:
    """Returns the seconds per token over all steps but the first, in which the optimizer creates its state."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    later = lines[1:] or lines
    return sum(line["time_per_batch"] for line in later) / sum(line["num_total_tokens"] for line in later)


def _seconds(call: Callable[[], object]) -> float:
    """Returns the seconds that `call` takes. All ranks must wait for each other at its end."""
    begun = time.monotonic()
    call()
    return time.monotonic() - begun
