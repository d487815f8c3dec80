"""One phase on one rank, from the spec to the checkpoint: open it, train, save, measure.

Imports DeepSpeed, so only ranks import this module, after the accelerator is chosen (`worker.py`).
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock
from torch import nn

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import BEST, PHASE_RESULT, RANKS_LOCK
from osftx.config.schema import BestState
from osftx.config.steps import validation_steps
from osftx.distributed.engine import Engine, after_each_step, be_deterministic, close, init_distributed, initialize
from osftx.distributed.load_model import DTYPES
from osftx.distributed.masters import start_masters
from osftx.evaluation.held_out import check_finite, evaluate
from osftx.methods.registry import method_named
from osftx.training.batches import Samples
from osftx.training.checkpoint import METRICS, Saves
from osftx.training.curve import Curve
from osftx.training.measured_once import measured_once
from osftx.training.snapshot import Snapshot
from osftx.training.trainer import Trainer
from osftx.training.validation import Validation, outcome
from osftx.utils.files import write_json
from osftx.utils.library_logging import quiet_libraries
from osftx.worker.export import export
from osftx.worker.setup_phase import OpenPhase, load, open_phase

Evaluation = dict[str, dict[str, float]]
"""Figures by evaluation set."""
Measure = Callable[[Engine, int], Evaluation]
"""Takes the engine and the steps that were trained before."""


def train_phase(spec: PhaseSpec) -> None:
    """Run the phase; rank 0 writes `result.json` last, so that its presence means the phase is whole. Collective.

    Raises Stopped after SIGTERM or SIGUSR1 during the training, when the phase was saved.
    """
    begun = time.monotonic()
    quiet_libraries()
    if spec.training.deterministic:
        be_deterministic()
    device = init_distributed(spec.distributed.timeout_s)
    with _to_itself(spec):
        if dist.get_rank() == 0:
            _clear(spec)
        _run(spec, device, begun)


def _run(spec: PhaseSpec, device: torch.device, begun: float) -> None:
    torch.manual_seed(spec.training.seed)
    folder, source = Path(spec.folder), Path(spec.model.path)
    model = load(spec, device)
    measure = _evaluation(spec, device)
    if spec.evaluate_only:
        _evaluate_only(model, spec, measure)
        return
    opened = open_phase(model, spec, device)
    method = opened.method
    trainer = Trainer(opened.samples, spec.training, device)
    engine, optimizer, scheduler = initialize(model, spec.training, len(trainer.steps), spec.distributed)
    method.before_training(engine)
    evaluation_before = _evaluation_before(spec, partial(measure, engine, 0))
    curve = _curve(spec, partial(measure, engine), len(trainer.steps))
    use_of_best = spec.validation.settings.best if spec.validation is not None else BestState.ignore
    best: Snapshot | None = None
    if optimizer is not None and scheduler is not None:
        start_masters(engine, method.source)
        calls, restored = method.after_step(engine)
        after_each_step(engine, *calls)
        if use_of_best is not BestState.ignore:
            best = Snapshot(engine, restored)
        saves = None
        if spec.resume is not None:
            where = Path(spec.resume.folder)
            saves = Saves(where, spec.resume.checkpointing, engine, scheduler, folder / METRICS, begun, restored, best)
        validation = _validation(spec, engine, opened, best, device)
        trainer.run(engine, scheduler, f"training {spec.name}", folder / METRICS, saves, curve, validation)
        if best is not None and use_of_best is BestState.hand_on:
            best.put_back()
    done = trainer.progress
    save_dtype = DTYPES[spec.training.save_dtype]
    records = export(engine.module, method, source, spec.checkpoint, save_dtype)
    checkpoints = [spec.checkpoint]
    method.after_training(engine)
    evaluation = measure(engine, done.steps)
    if best is not None and use_of_best is BestState.keep:
        best.put_back()
        export(engine.module, method, source, spec.best, save_dtype)
        checkpoints.append(spec.best)
    method.leave(folder, checkpoints)
    if dist.get_rank() == 0:
        write_json(
            folder / PHASE_RESULT,
            {
                "name": spec.name,
                "steps": done.steps,
                "samples": done.samples,
                "tokens": done.tokens,
                "duration_s": round(done.duration_s + time.monotonic() - begun, 3),
                "world_size": dist.get_world_size(),
                "deterministic": torch.are_deterministic_algorithms_enabled(),
                "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
                "evaluation_before": evaluation_before,
                "evaluation": evaluation,
                "curve": curve.points() if curve is not None else None,
                "validation": outcome(done, use_of_best),
                "fill": asdict(trainer.fill()) if optimizer is not None else None,
                "layer_similarity": None,
                "free_shares": None,
                "targets": records,
                **method.results(),
            },
        )
    close(engine)


@contextmanager
def _to_itself(spec: PhaseSpec) -> Iterator[None]:
    """Wait for ranks of an earlier run, whose parent was killed, to end, and keep later ones out. On rank 0."""
    if spec.resume is None or dist.get_rank() != 0:
        yield
        return
    folder = Path(spec.resume.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / RANKS_LOCK, timeout=spec.distributed.timeout_s):
        yield


def _evaluate_only(model: nn.Module, spec: PhaseSpec, measure: Measure) -> None:
    model.requires_grad_(False)
    engine, *_ = initialize(model, spec.training, 0, spec.distributed)
    evaluation = measure(engine, 0)
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / PHASE_RESULT, {"evaluation": evaluation})
    close(engine)


def _evaluation_before(spec: PhaseSpec, measure: Callable[[], Evaluation]) -> Evaluation | None:
    """What the model scores before the first step, where that is asked for. Collective."""
    if not spec.evaluate_before:
        return None
    of = {name: Path(path).name for name, path in spec.evaluation_sets.items()}  # folders are named by their content
    return measured_once(spec, "evaluation_before", measure, of)


def _clear(spec: PhaseSpec) -> None:
    """Nothing of an earlier run may pass for this one's, nor be written through: folders may link to the store."""
    folder = Path(spec.folder)
    (folder / PHASE_RESULT).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
        elif path.name in (BEST, *method_named(spec.method).folders):
            shutil.rmtree(path)


def _curve(spec: PhaseSpec, measure: Callable[[int], Evaluation], total_steps: int) -> Curve | None:
    if spec.evaluate_every_steps is None:
        return None
    folder = Path(spec.resume.folder if spec.resume is not None else spec.folder)
    return Curve(folder, spec.evaluate_every_steps, total_steps, measure)


def _evaluation(spec: PhaseSpec, device: torch.device) -> Measure:
    """Measures every evaluation set. Collective."""
    sets = {name: Samples(Path(path)) for name, path in spec.evaluation_sets.items()}

    def measure(engine: Engine, steps: int) -> Evaluation:
        measured = {name: evaluate(engine, rows, spec.evaluation_max_tokens, device) for name, rows in sets.items()}
        check_finite({f"evaluation set {name!r}": figures for name, figures in measured.items()}, steps)
        return measured

    return measure


def _validation(
    spec: PhaseSpec,
    engine: Engine,
    opened: OpenPhase,
    best: Snapshot | None,
    device: torch.device,
) -> Validation | None:
    """Measures the samples that are held out while the others are trained on."""
    held_out = opened.held_out
    if spec.validation is None or held_out is None:
        return None

    def measure(steps: int) -> dict[str, float]:
        figures = evaluate(engine, held_out, spec.training.max_tokens_per_gpu, device)
        check_finite({"the validation samples": figures}, steps)
        return figures

    return Validation(validation_steps(spec.validation.settings, spec.training, len(opened.samples)), measure, best)
