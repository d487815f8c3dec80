"""Trains one phase on one rank, from its specification to its checkpoint: set up, train, save, measure.

Imports DeepSpeed, so only ranks import this module, after the accelerator is chosen (`__main__.py`).
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from filelock import FileLock

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import BEST, PHASE_RESULT, RANKS_LOCK
from osftx.config.schema import BestState
from osftx.distributed.accelerator import current_device
from osftx.distributed.collectives import agreed
from osftx.distributed.engine import close
from osftx.distributed.load_model import DTYPES
from osftx.methods.registry import method_named
from osftx.training.callbacks.user import load_callbacks
from osftx.training.callbacks.validation import outcome
from osftx.utils.files import write_json
from osftx.worker.evaluate_phase import Evaluation, Measure, evaluate_only, evaluation_before, evaluation_of
from osftx.worker.export import export
from osftx.worker.setup_phase import join_ranks, set_up
from osftx.worker.start_model import check_start
from osftx.worker.training_run import TrainingRun


def train_phase(spec: PhaseSpec) -> None:
    """Runs the phase. Rank 0 writes `result.json` last, so its presence means that the phase is complete. Collective.

    Raises Stopped after SIGTERM or SIGUSR1 during the training, when the phase was saved.
    """
    begun = time.monotonic()
    device = join_ranks(spec)
    with _exclusively(spec):
        if dist.get_rank() == 0:
            _clear(spec)
        if spec.evaluate_only:
            evaluate_only(spec, device)
        else:
            _run(spec, device, begun)


def _run(spec: PhaseSpec, device: torch.device, begun: float) -> None:
    user_callbacks = load_callbacks(spec.callbacks, dist.get_rank())  # before the model, which takes longer
    measure = evaluation_of(spec, device)
    ready = set_up(spec, device)
    ready.opened.method.before_training(ready.engine)
    before = evaluation_before(spec, measure, ready.engine)
    training = TrainingRun(spec, ready, device, user_callbacks, partial(measure, ready.engine), begun)
    training.run(before)
    records, after = _write_and_measure(spec, training, measure)
    if after:
        training.users.evaluated(training.done.steps, after)
    result = agreed(partial(_result, spec, training, begun, before, after, records))
    training.users.phase_ended(result)
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / PHASE_RESULT, result)
    close(ready.engine)


def _write_and_measure(
    spec: PhaseSpec, training: TrainingRun, measure: Measure
) -> tuple[list[dict[str, Any]], Evaluation]:
    """Writes the checkpoints and what the method leaves beside them, and measures the state that is left. Collective.

    Returns, on rank 0, the records of the weights that the method replaced, and the evaluation on every rank.
    """
    ready, best, use_of_best = training.ready, training.best, _use_of_best(spec)
    engine, method, save_dtype = ready.engine, ready.opened.method, DTYPES[spec.training.save_dtype]
    source, stop_tokens = Path(spec.model.path), spec.added_stop_tokens
    write = partial(export, engine.module, method, source, save_dtype=save_dtype, added_stop_tokens=stop_tokens)
    if best is not None and use_of_best is BestState.hand_on:
        best.put_back()
    records = write(folder=spec.checkpoint)
    written = [spec.checkpoint]
    method.after_training(engine)
    evaluation = measure(engine, training.done.steps)
    if best is not None and use_of_best is BestState.keep:
        best.put_back()
        write(folder=spec.best)
        written.append(spec.best)
    method.leave(Path(spec.folder), written)
    check_start(spec)  # the frozen tensors were copied from it
    return records, evaluation


def _result(
    spec: PhaseSpec,
    training: TrainingRun,
    begun: float,
    before: Evaluation | None,
    after: Evaluation,
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns the content of result.json, on rank 0. Its last entries are the method's; null where it has none."""
    done, ready = training.done, training.ready
    return {
        "name": spec.name,
        "steps": done.steps,
        "samples": done.samples,
        "tokens": done.tokens,
        "duration_s": round(done.duration_s + time.monotonic() - begun, 3),
        "world_size": dist.get_world_size(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "device": torch.cuda.get_device_name() if current_device().type == "cuda" else "cpu",
        "evaluation_before": before,
        "evaluation": after,
        "curve": training.curve.points() if training.curve is not None else None,
        "validation": outcome(done, _use_of_best(spec)),
        "fill": asdict(ready.trainer.fill()) if ready.scheduler is not None else None,
        "targets": records,
        "layer_similarity": None,
        "free_shares": None,
        **ready.opened.method.results(),
    }


def _use_of_best(spec: PhaseSpec) -> BestState:
    return spec.validation.settings.best if spec.validation is not None else BestState.ignore


@contextmanager
def _exclusively(spec: PhaseSpec) -> Iterator[None]:
    """Holds the phase's lock on rank 0.

    It waits for the ranks of an earlier run, whose parent was killed, to end, and keeps later ones out.
    """
    if spec.resume is None or dist.get_rank() != 0:
        yield
        return
    folder = Path(spec.resume.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / RANKS_LOCK, timeout=spec.distributed.timeout_s):
        yield


def _clear(spec: PhaseSpec) -> None:
    """Removes what an earlier run has left in the phase's folder, so that it does not pass for this run's.

    Links to folders of the store are removed, so that nothing is written through them.
    """
    folder = Path(spec.folder)
    (folder / PHASE_RESULT).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
        elif path.name in (BEST, *method_named(spec.method).folders):
            shutil.rmtree(path)
