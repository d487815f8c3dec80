"""Specs of phases on small models: what the tests of the ranks start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec, PreserveSpec, ValidationSpec
from osftx.config.run_layout import SPLIT
from osftx.config.schema import (
    Accelerator,
    DistributedConfig,
    ModelConfig,
    OffloadConfig,
    OsftConfig,
    Precision,
    TrainingConfig,
)
from osftx.data.samples import read_index
from osftx.data.splitting import split_samples


def make_phase(
    folder: Path,
    model: Path,
    samples: Path,
    *,
    method: str = "osft",
    ratio: float | None = 0.3,
    accelerator: Accelerator = Accelerator.cpu,
    nproc: int = 2,
    offload: OffloadConfig | None = None,
    evaluation_sets: dict[str, Path] | None = None,
    dtype: Precision = Precision.float32,
    preserve: PreserveSpec | None = None,
    validation: ValidationSpec | None = None,
    evaluate_every_steps: int | None = None,
    osft: OsftConfig | None = None,
    **training: Any,
) -> PhaseSpec:
    """The spec of a phase, saved in its `folder`; further keywords override training settings.

    With `preserve` the inputs choose what is trained, otherwise the weights. Of a `validation` with a share and without
    samples the places are drawn here, as the launching process draws them.
    """
    settings: dict[str, Any] = {
        "num_epochs": 2,
        "effective_batch_size": 8,
        "max_seq_len": 32,
        "max_tokens_per_gpu": 40,
        "learning_rate": 1e-2,
        "use_liger": False,
        "activation_checkpointing": False,
        "train_dtype": dtype,
        "save_dtype": dtype,
    }
    spec = PhaseSpec(
        index=0,
        name="study",
        method=method,
        unfreeze_rank_ratio=ratio,
        model=ModelConfig(path=str(model)),
        training=TrainingConfig(**(settings | training)),
        osft=replace(osft or OsftConfig(), subspace="weights" if preserve is None else "activations"),
        distributed=DistributedConfig(
            nproc_per_node=nproc,
            accelerator=accelerator,
            exclusive_devices=False,
            timeout_s=120,
            offload=offload or OffloadConfig(),
        ),
        data=str(samples),
        folder=str(folder),
        evaluation_sets={name: str(path) for name, path in (evaluation_sets or {}).items()},
        evaluation_max_tokens=64,
        evaluate_every_steps=evaluate_every_steps,
        evaluate_before=True,
        preserve=preserve,
        validation=validation,
    )
    if validation is not None and validation.settings.split is not None and validation.samples is None:
        spec.validation = _drawn(spec, validation)
    spec.save()
    return spec


def _drawn(spec: PhaseSpec, validation: ValidationSpec) -> ValidationSpec:
    share = validation.settings.split
    assert share is not None
    _, _, digests = read_index(Path(spec.data))
    place = Path(spec.folder) / SPLIT
    place.parent.mkdir(parents=True, exist_ok=True)
    split_samples(digests, validation.own_samples, share, spec.training.seed).save(place)
    return replace(validation, split=str(place))
