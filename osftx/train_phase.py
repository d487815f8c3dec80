"""One phase on one rank, from the spec to the checkpoint: load, open the subspaces, train, save, measure.

Imports DeepSpeed, so only ranks import this module, after the accelerator is chosen (`worker.py`).
"""

import json
import logging
import shutil
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from filelock import FileLock
from torch import nn
from transformers.utils import logging as transformers_logging

from osftx.config import BestState, Method, RankAllocation
from osftx.evaluation.heldout import check_finite, evaluate
from osftx.files import link_folder, write_json
from osftx.manifest import is_whole
from osftx.model_folder import read_folder, tensor_files
from osftx.osft.allocation import layer_ratios, layers_of
from osftx.osft.eigenvectors import Eigenvectors
from osftx.osft.kept_inputs import KeptInputs
from osftx.osft.merging import Merging
from osftx.osft.projection import Projection
from osftx.osft.record import FOLDER as KEPT_INPUTS
from osftx.osft.record import PRESERVED
from osftx.osft.sharding import agreed
from osftx.osft.subspace import Subspace, open_subspaces
from osftx.osft.targets import Target, find_targets
from osftx.phase import PhaseSpec
from osftx.training.batches import Samples, open_samples
from osftx.training.checkpoint import METRICS, Saves
from osftx.training.curve import Curve
from osftx.training.engine import DTYPES, after_each_step, close, init_distributed, initialize, load_model, zero_config
from osftx.training.export import export
from osftx.training.importance import input_output_similarity
from osftx.training.inputs import measure_inputs
from osftx.training.packing_check import check_samples_apart
from osftx.training.reading import gathering
from osftx.training.snapshot import Snapshot
from osftx.training.trainer import Trainer
from osftx.training.validation import Validation, due_steps, outcome

BASES = "bases"
Evaluation = dict[str, dict[str, float]]
"""Figures by evaluation set."""
Measure = Callable[[deepspeed.DeepSpeedEngine, int], Evaluation]
"""Takes the engine and the steps that were trained before."""


def train_phase(spec: PhaseSpec) -> None:
    """Run the phase; rank 0 writes `result.json` last, so that its presence means the phase is whole. Collective.

    Raises Stopped after SIGTERM or SIGUSR1 during the training, when the phase was saved.
    """
    begun = time.monotonic()
    _quiet_libraries()
    device = init_distributed(spec.distributed.timeout_s)
    with _to_itself(spec):
        if dist.get_rank() == 0:
            _clear(spec)
        _run(spec, device, begun)


def _run(spec: PhaseSpec, device: torch.device, begun: float) -> None:
    torch.manual_seed(spec.training.seed)
    folder, source = Path(spec.folder), Path(spec.model.path)
    model = load_model(source, spec.model, spec.training)
    check_samples_apart(model, device)
    measure = _evaluation(spec, device)
    if spec.evaluate_only:
        _evaluate_only(model, spec, measure)
        return
    targets = _targets(spec, source)
    kept = _kept_inputs(model, targets, spec, device)
    samples, held_out = open_samples(spec)
    similarity = _similarity(model, targets, samples, spec, device)
    subspaces = _choose_trainable(model, targets, spec, kept, similarity)
    _check_exportable(model, source)
    trainer = Trainer(samples, spec.training, device)
    engine, optimizer, scheduler = initialize(model, spec.training, len(trainer.steps), spec.distributed.offload)
    evaluation_before = _evaluation_before(spec, partial(measure, engine, 0))
    curve = _curve(spec, partial(measure, engine), len(trainer.steps))
    use_of_best = spec.validation.settings.best if spec.validation is not None else BestState.ignore
    best: Snapshot | None = None
    if optimizer is not None and scheduler is not None:
        merging = Merging(subspaces, spec.distributed.offload.bases)
        after_each_step(engine, Projection(subspaces), merging)
        if use_of_best is not BestState.ignore:
            best = Snapshot(engine, merging)
        saves = None
        if spec.resume is not None:
            where = Path(spec.resume.folder)
            saves = Saves(where, spec.resume.checkpointing, engine, scheduler, folder / METRICS, begun, merging, best)
        validation = _validation(spec, engine, samples, held_out, best, device)
        trainer.run(engine, scheduler, f"training {spec.name}", folder / METRICS, saves, curve, validation)
        if best is not None and use_of_best is BestState.hand_on:
            best.put_back()
    done = trainer.progress
    save_dtype = DTYPES[spec.training.save_dtype]
    protection = export(engine.module, subspaces, source, spec.checkpoint, save_dtype)
    if kept is not None:
        kept.add(_measure_inputs(engine, engine.module, targets, samples, spec.name, spec, device))
        kept.save(folder / KEPT_INPUTS)
    evaluation = measure(engine, done.steps)
    if best is not None and use_of_best is BestState.keep:
        best.put_back()
        export(engine.module, subspaces, source, spec.best, save_dtype)
    if dist.get_rank() == 0:
        if spec.resume is not None and spec.osft.save_bases:
            link_folder(Path(spec.resume.folder) / BASES, folder / BASES)
        write_json(
            folder / "result.json",
            {
                "name": spec.name,
                "steps": done.steps,
                "samples": done.samples,
                "tokens": done.tokens,
                "duration_s": round(done.duration_s + time.monotonic() - begun, 3),
                "world_size": dist.get_world_size(),
                "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
                "evaluation_before": evaluation_before,
                "evaluation": evaluation,
                "curve": curve.points() if curve is not None else None,
                "validation": outcome(done, use_of_best),
                "fill": asdict(trainer.fill()) if optimizer is not None else None,
                "layer_similarity": similarity,
                "targets": protection,
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
    with FileLock(folder / "ranks.lock", timeout=spec.distributed.timeout_s):
        yield


def _evaluate_only(model: nn.Module, spec: PhaseSpec, measure: Measure) -> None:
    model.requires_grad_(False)
    engine, *_ = initialize(model, spec.training, 0, spec.distributed.offload)
    evaluation = measure(engine, 0)
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / "result.json", {"evaluation": evaluation})
    close(engine)


def _evaluation_before(spec: PhaseSpec, measure: Callable[[], Evaluation]) -> Evaluation | None:
    """What the model scores before the first step, where that is asked for. Collective."""
    if not spec.evaluate_before:
        return None
    of = {name: Path(path).name for name, path in spec.evaluation_sets.items()}  # folders are named by their content
    return _once(spec, "evaluation_before", measure, of)


def _clear(spec: PhaseSpec) -> None:
    """Nothing of an earlier run may pass for this one's, nor be written through: folders may link to the store."""
    folder = Path(spec.folder)
    (folder / "result.json").unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
        elif path.name in (BASES, spec.best.name):
            shutil.rmtree(path)


def _once(spec: PhaseSpec, name: str, measure: Callable[[], dict[str, Any]], of: object = None) -> dict[str, Any]:
    """What `measure` gives. A phase that is broken off and goes on takes what it measured at first, in `<name>.json`,
    unless that was `of` something else. Collective."""
    if spec.resume is None:
        return measure()
    path = Path(spec.resume.folder) / f"{name}.json"
    known = agreed(_read, path)
    if known.get("of") == of and isinstance(known.get("measured"), dict):
        return dict(known["measured"])
    measured = measure()
    if dist.get_rank() == 0:
        write_json(path, {"of": of, "measured": measured})
    return measured


def _read(path: Path) -> dict[str, Any]:
    """Nothing where there is no such file, or not what was written."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _curve(spec: PhaseSpec, measure: Callable[[int], Evaluation], total_steps: int) -> Curve | None:
    if spec.evaluate_every_steps is None:
        return None
    folder = Path(spec.resume.folder if spec.resume is not None else spec.folder)
    return Curve(folder, spec.evaluate_every_steps, total_steps, measure)


def _evaluation(spec: PhaseSpec, device: torch.device) -> Measure:
    """Measures every evaluation set. Collective."""
    sets = {name: Samples(Path(path)) for name, path in spec.evaluation_sets.items()}

    def measure(engine: deepspeed.DeepSpeedEngine, steps: int) -> Evaluation:
        measured = {name: evaluate(engine, rows, spec.evaluation_max_tokens, device) for name, rows in sets.items()}
        check_finite({f"evaluation set {name!r}": figures for name, figures in measured.items()}, steps)
        return measured

    return measure


def _validation(
    spec: PhaseSpec,
    engine: deepspeed.DeepSpeedEngine,
    samples: Samples,
    held_out: Samples | None,
    best: Snapshot | None,
    device: torch.device,
) -> Validation | None:
    """Measures the samples that are `held_out` while `samples` are trained on."""
    if spec.validation is None or held_out is None:
        return None

    def measure(steps: int) -> dict[str, float]:
        figures = evaluate(engine, held_out, spec.training.max_tokens_per_gpu, device)
        check_finite({"the validation samples": figures}, steps)
        return figures

    return Validation(due_steps(spec.validation.settings, spec.training, len(samples)), measure, best)


def _targets(spec: PhaseSpec, source: Path) -> list[Target]:
    """The layers that are protected; none for `sft`."""
    if spec.method is Method.sft:
        return []
    files = read_folder(source)
    return find_targets(files.config, files.shapes, spec.osft.target_patterns)


def _choose_trainable(
    model: nn.Module,
    targets: list[Target],
    spec: PhaseSpec,
    kept: KeptInputs | None,
    similarity: dict[str, float] | None,
) -> list[Subspace]:
    """Decide what is trained: every weight (`sft`), or the free subspaces of the targets (`osft`).

    `similarity`: see `_similarity`.
    """
    if spec.method is Method.sft:
        model.requires_grad_(True)
        return []
    assert spec.unfreeze_rank_ratio is not None
    bases, known = Path(spec.folder) / BASES if spec.osft.save_bases else None, None
    if spec.resume is not None:  # needed to go on, whatever is kept at the end
        bases, known = Path(spec.resume.folder) / BASES, Path(spec.resume.eigenvectors)
    ratios = dict.fromkeys((target.name for target in targets), spec.unfreeze_rank_ratio)
    if similarity is not None:
        by_layer = layer_ratios(similarity, spec.unfreeze_rank_ratio, spec.osft.minimum_retention)
        ratios = {target: by_layer[layer] for target, layer in layers_of(list(ratios)).items()}
    settings = zero_config(spec.training)
    subspaces = open_subspaces(
        model, targets, ratios, settings, bases, kept, Eigenvectors(known), spec.distributed.offload.bases
    )
    if spec.osft.train_others:
        protected = {f"{target.name}.weight" for target in targets}
        for name, parameter in model.named_parameters():
            if name not in protected and ".updates." not in name:
                parameter.requires_grad_(True)
    return subspaces


def _similarity(
    model: nn.Module, targets: list[Target], samples: Samples, spec: PhaseSpec, device: torch.device
) -> dict[str, float] | None:
    """What ranks the layers for the allocation of ranks; None for a uniform one. Collective.

    A phase that was broken off goes on with what it measured at first, lest rounding give another free rank.
    """
    if spec.method is Method.sft or spec.osft.rank_allocation is RankAllocation.uniform:
        return None
    layers = list(dict.fromkeys(layers_of([target.name for target in targets]).values()))
    measure = partial(input_output_similarity, model, layers, samples, spec.training.max_tokens_per_gpu, device)
    return _once(spec, "similarity", measure)


def _kept_inputs(model: nn.Module, targets: list[Target], spec: PhaseSpec, device: torch.device) -> KeptInputs | None:
    """What the model must keep: the record of the phase before, or measured on samples. None: the weights decide."""
    if spec.preserve is None:
        return None
    if spec.preserve.record is not None:
        return KeptInputs.load(Path(spec.preserve.record))
    assert spec.preserve.samples is not None
    known = Path(spec.resume.folder) / KEPT_INPUTS if spec.resume is not None else None
    if known is not None and agreed(is_whole, known):
        return KeptInputs.load(known)
    with gathering(model):
        samples = Samples(Path(spec.preserve.samples))
        kept = _measure_inputs(model, model, targets, samples, PRESERVED, spec, device)
    if known is not None:
        kept.save(known)
    return kept


def _measure_inputs(
    forward: nn.Module,
    model: nn.Module,
    targets: list[Target],
    samples: Samples,
    source: str,
    spec: PhaseSpec,
    device: torch.device,
) -> KeptInputs:
    """Measure the inputs of `targets` on `samples`; `forward` runs the model: itself, or its engine."""
    assert spec.preserve is not None
    return measure_inputs(
        forward,
        model,
        [target.name for target in targets],
        samples,
        source,
        max_tokens=spec.preserve.max_tokens,
        max_tokens_per_gpu=spec.training.max_tokens_per_gpu,
        device=device,
    )


def _check_exportable(model: nn.Module, source: Path) -> None:
    """Refuse before training what could not be saved: a trained parameter that no tensor of the files holds.

    transformers renames tensors of some models while it reads them; the export goes by the names in the files.
    """
    stored = tensor_files(source).keys()
    names: dict[int, list[str]] = defaultdict(list)  # tied parameters have several
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and ".updates." not in name:
            names[id(parameter)].append(name)
    lost = [known[0] for known in names.values() if not stored & set(known)]
    if lost:
        raise ValueError(
            f"{len(lost)} trained weights, such as {lost[0]}, have another name in the files of {source}; save the "
            "model anew with transformers' save_pretrained and start from that folder"
        )


def _quiet_libraries() -> None:
    """Leave the screen to the run's own lines; warnings still show."""
    # DeepSpeed still calls collectives by the names that torch is about to rename.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    transformers_logging.set_verbosity_warning()
    transformers_logging.disable_progress_bar()
