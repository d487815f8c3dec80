"""What the ranks of each phase are told: a chain of checkpoints, and of records of what must be kept."""

from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from osftx.config.phase_spec import PhaseSpec, PreserveSpec
from osftx.config.schema import EvaluationSetConfig, ExperimentConfig, ModelConfig, PhaseConfig, TrainingConfig
from osftx.data.samples import DataSummary
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.phase_specs import RunFiles

RUN = Path("/run")


def experiment(**phases: dict[str, Any]) -> ExperimentConfig:
    training = vars(TrainingConfig())
    made = {name: PhaseConfig(**(training | settings)) for name, settings in phases.items()}
    return ExperimentConfig(name="study", model=ModelConfig(path="base", revision="v2"), phases=made)


def specs(config: ExperimentConfig, recorded: tuple[str, ...] = ()) -> list[PhaseSpec]:
    sets = {name: Path("/data/sets") / name for name in config.evaluation.sets}
    files = RunFiles(RUN, Path("/models/base"), sets, {"preserve.data": Path("/data/kept")})
    model, targets = ModelFiles({}, {"a.weight": (4, 4)}), [Target("a", ((4, 4),))]
    data = {name: DataSummary(name, samples=8) for name in config.phases}
    found = [phase.spec for phase in plan_of(config, model, targets, data, recorded, files).phases]
    return [spec for spec in found if spec is not None]


def test_each_phase_starts_from_the_checkpoint_of_the_one_before() -> None:
    config = experiment(one={}, two={"method": "sft", "method_settings": {"rank": 8}}, three={})
    config.evaluation.sets = {name: EvaluationSetConfig(path=f"{name}.jsonl") for name in ("general", "one", "two")}
    one, two, three = specs(config)
    assert [spec.folder for spec in (one, two, three)] == [
        f"/run/phases/{name}" for name in ("01_one", "02_two", "03_three")
    ]
    assert [spec.model.path for spec in (one, two, three)] == [
        "/models/base",
        "/run/phases/01_one/checkpoint",
        "/run/phases/02_two/checkpoint",
    ]
    assert [spec.model.revision for spec in (one, two, three)] == [None] * 3, "a folder has none"
    assert [spec.data for spec in (one, two, three)] == ["/data/one", "/data/two", "/data/three"]
    assert [(spec.method, spec.unfreeze_rank_ratio) for spec in (one, two, three)] == [
        ("osft", 0.3),
        ("sft", None),
        ("osft", 0.2),
    ]
    assert [spec.method_settings for spec in (one, two, three)] == [{}, {"rank": 8}, {}]
    assert [spec.evaluate_before for spec in (one, two, three)] == [True, False, False]
    assert [spec.sets_to_keep for spec in (one, two, three)] == [
        ["general"],
        ["general", "one"],
        ["general", "one", "two"],
    ]
    assert one.evaluation_sets == {name: f"/data/sets/{name}" for name in ("general", "one", "two")}
    assert [spec.preserve for spec in (one, two, three)] == [None] * 3, "the weights decide"


def test_a_run_that_starts_in_the_middle_starts_from_its_model() -> None:
    two, three = specs(experiment(one={}, two={"init_from": "earlier/checkpoint"}, three={}))
    assert (two.index, two.model.path, two.evaluate_before) == (1, "/models/base", True)
    assert (three.index, three.model.path, three.evaluate_before) == (2, "/run/phases/02_two/checkpoint", False)


@pytest.mark.parametrize(
    ("recorded", "first"),
    [
        ((), PreserveSpec(record=None, samples="/data/kept", max_tokens=99)),
        (("preserve.data", "zero"), PreserveSpec(record="/models/kept_inputs", samples=None, max_tokens=99)),
    ],
)
def test_what_must_be_kept_lies_beside_the_checkpoint_before(recorded: tuple[str, ...], first: PreserveSpec) -> None:
    """Or is measured on `preserve.data`: at the beginning, and after a phase that leaves no record."""
    config = experiment(one={}, two={}, three={"method": "sft"}, four={})
    config.osft.subspace, config.preserve.max_tokens = "activations", 99
    assert [spec.preserve for spec in specs(config, recorded)] == [
        first,
        PreserveSpec(record="/run/phases/01_one/kept_inputs", samples=None, max_tokens=99),
        None,
        PreserveSpec(record=None, samples="/data/kept", max_tokens=99),
    ]
