"""Three phases whose results are known: what ranks would leave, for tests of the walk and of what is made of it."""

from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import (
    DataConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    TrainingConfig,
)

NAMES = ("one", "two", "three")
# Exact match of each set (columns base, one, two, three) at each state; loss and token accuracy follow from it.
ACCURACY = {
    "base": [0.9, 0.1, 0.0, 0.0],
    "one": [0.8, 1.0, 0.1, 0.0],
    "two": [0.6, 0.8, 0.9, 0.0],
    "three": [0.5, 0.7, 0.7, 1.0],
}
SETS = list(ACCURACY)
ARGUMENTS = ["+experiment=study", "training.seed=1"]


def experiment(**changes: Any) -> ExperimentConfig:
    config = ExperimentConfig(name="study", model=ModelConfig(path="hub/name", attn_implementation="eager"))
    config.phases = {
        name: PhaseConfig(data=DataConfig(f"{name}.jsonl"), **vars(TrainingConfig(num_epochs=place)))
        for place, name in enumerate(NAMES, start=1)
    }
    config.evaluation.sets = {name: EvaluationSetConfig(path=f"{name}_eval.jsonl") for name in SETS}
    config.distributed.nproc_per_node = 2
    for key, value in changes.items():
        setattr(config, key, value)
    return config


def measured(state: str) -> dict[str, dict[str, float]]:
    return {
        name: {"exact_match": value, "loss": 1 - value, "token_accuracy": value / 2, "samples": 4}
        for name, value in zip(SETS, ACCURACY[state], strict=True)
    }


def result_of(spec: PhaseSpec) -> dict[str, Any]:
    """What rank 0 leaves behind."""
    kept: list[dict[str, Any]] = [
        {"name": "q_proj", "leak_fp32": 3e-7, "leak_saved": 4e-3, "free_input_share": 0.3, "kept_output_change": 0.02},
        {"name": "v_proj", "leak_fp32": 1e-7, "leak_saved": 9e-3, "free_input_share": 0.4, "kept_output_change": 0.01},
    ]
    kept[0]["update_kept"], kept[1]["update_kept"] = 0.95, None
    for target in kept:
        target.update(shape=[4, 4], frozen_rank=3, free_rank=1, relative_change=0.1, update_norm=0.2)
    return {
        "name": spec.name,
        "steps": 10 * (spec.index + 1),
        "tokens": 1000,
        "duration_s": 1.5,
        "evaluation_before": measured("base") if spec.evaluate_before else None,
        "evaluation": measured(spec.name),
        "targets": kept if spec.method == "osft" else [],
    }


def finished(config: ExperimentConfig, run_folder: Path, *names: str) -> list[tuple[PhaseSpec, dict[str, Any]]]:
    phases = []
    for name in names:
        index = NAMES.index(name)
        spec = PhaseSpec(
            index=index,
            name=name,
            method=config.phases[name].method,
            unfreeze_rank_ratio=0.3,
            model=config.model,
            training=config.training,
            osft=config.osft,
            distributed=config.distributed,
            data="data",
            folder=str(run_folder / "phases" / f"{index + 1:02d}_{name}"),
            evaluation_max_tokens=64,
            evaluate_before=name == names[0],
        )
        phases.append((spec, result_of(spec) | {"fingerprint": f"f-{name}", "reused": False}))
    return phases
