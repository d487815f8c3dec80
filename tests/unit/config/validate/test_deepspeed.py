"""Keys of DeepSpeed: what is passed on, what osftx sets itself, and what the installed DeepSpeed knows."""

from pathlib import Path
from typing import Any

import pytest
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

from osftx.config.schema import DistributedConfig, ExperimentConfig, TrainingConfig
from osftx.config.validate.deepspeed import OWNED, OWNED_ZERO, RULES, TOP_LEVEL, ZERO_KEYS
from osftx.distributed.zero_config import zero_config


def problems(**own: Any) -> list[str]:
    config = ExperimentConfig(distributed=DistributedConfig(deepspeed=own))
    return [problem for rule in RULES for problem in rule(config)]


def test_known_keys_are_passed_on_beside_those_of_osftx() -> None:
    own = {"steps_per_print": 7, "zero_optimization": {"overlap_comm": True, "leaf_module": {"names": ["a"]}}}
    assert problems(**own) == []
    settings = zero_config(TrainingConfig(max_grad_norm=0.5), DistributedConfig(deepspeed=own))
    assert settings["zero_optimization"] == {"stage": 3, "overlap_comm": True, "leaf_module": {"names": ["a"]}}
    assert (settings["steps_per_print"], settings["gradient_clipping"]) == (7, 0.5)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            {"gradient_clipping": 1.0},
            "distributed.deepspeed.gradient_clipping=1.0: osftx decides this itself; set training.",
        ),
        ({"optimizer": {}}, "training.learning_rate"),
        (
            {"zero_optimization": {"stage": 2}},
            "zero_optimization.stage=2: osftx decides this itself; osftx is made",
        ),
        ({"zero_optimization": {"offload_optimizer": {}}}, "set distributed.offload.optimizer"),
        ({"zero_optimization": {"overlap_com": True}}, "did you mean overlap_comm?"),
        ({"zero_optimisation": {}}, "did you mean zero_optimization?"),
        ({"xyz": 1}, "the keys are aio, "),
        ({"zero_optimization": 3}, "zero_optimization=3: must be a group of keys"),
        ({"zero_optimization": {1: 2}}, "zero_optimization.1=2: no key of DeepSpeed"),
    ],
)
def test_other_keys_are_refused(own: dict[str, Any], said: str) -> None:
    (problem,) = problems(**own)
    assert said in problem


def test_all_of_them_are_told_at_once() -> None:
    assert len(problems(fp16={}, zero_optimization={"stage": 1, "zenflow": {}, "nothing": 0})) == 4


def test_the_keys_are_those_of_the_installed_deepspeed() -> None:
    known = set(DeepSpeedZeroConfig.model_fields)
    known |= {field.alias for field in DeepSpeedZeroConfig.model_fields.values() if field.alias}
    assert known == ZERO_KEYS | OWNED_ZERO.keys()
    assert not ZERO_KEYS & OWNED_ZERO.keys()
    import deepspeed

    package = Path(deepspeed.__file__).parent
    sources = [
        path.read_text(encoding="utf-8")
        for pattern in ("runtime/*.py", "monitor/*.py", "profiling/*.py", "comm/*.py", "runtime/*/*.py", "utils/*.py")
        for path in package.glob(pattern)
    ]
    written = "\n".join(sources).replace("'", '"')
    unknown = {key for key in TOP_LEVEL | OWNED.keys() if f'"{key}"' not in written}
    assert unknown == set()
