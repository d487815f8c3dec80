"""The shipped YAML composes into the typed schema, and the overrides that the documentation promises work."""

import shlex
from collections.abc import Iterator
from dataclasses import fields

import pytest
from checkout import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from osftx.config.load import typed
from osftx.config.schedule import advice
from osftx.config.schema import EvaluationSetConfig, ExperimentConfig, PhaseConfig, ScheduleKind, TrainingConfig
from osftx.methods.registry import BUILT_IN
from osftx.planning.outline import outline
from osftx.planning.validate import problems

CONF = ROOT / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
TRAINING_KEYS = [field.name for field in fields(TrainingConfig)]
TINY = "+experiment=tiny_two_phase"


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(*overrides: str) -> ExperimentConfig:
    return typed(compose("config", overrides=list(overrides)))


def ratios(config: ExperimentConfig) -> dict[str, float | None]:
    return {phase.name: phase.ratio for phase in outline(config)}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_valid(name: str) -> None:
    config = composed(f"+experiment={name}")
    assert config.name == name
    assert problems(config) == []
    own = {phase.name: phase.config.unfreeze_rank_ratio for phase in outline(config) if phase.method.takes_ratio}
    assert advice(config.schedule, own) == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_opens_with_its_command_and_an_override(name: str) -> None:
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    commands = [line for line in lines if line.startswith(f"#   python -m osftx +experiment={name}")]
    assert len(commands) == 2
    override = commands[1].split(f"+experiment={name} ")[1]
    assert problems(composed(f"+experiment={name}", *override.split())) == []


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_opens_with_its_command_and_an_override(name: str) -> None:
    lines = (CONF / "sweep" / f"{name}.yaml").read_text().splitlines()
    commands = [line for line in lines if line.startswith("#   python -m osftx -m +experiment=")]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.removeprefix("#   python -m osftx -m "))
        assert f"+sweep={name}" in words
        assert problems(composed(*one_job(words))) == []


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_needs_no_m(name: str) -> None:
    config = compose("config", overrides=[TINY, f"+sweep={name}"], return_hydra_config=True)
    assert config.hydra.mode is RunMode.MULTIRUN


def one_job(words: list[str]) -> list[str]:
    """The overrides of one job of a sweep: the first of several values, the upper end of an interval."""
    given = OverridesParser.create().parse_overrides(words)
    fixed = [str(word.input_line) for word in given if not word.is_sweep_override()]
    params = compose("config", overrides=fixed, return_hydra_config=True).hydra.sweeper.params
    searched = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    last = {word.key_or_group: word for word in (*searched, *given)}
    assert all(word.is_sweep_override() for word in searched)
    return [
        str(word.input_line)
        if not word.is_sweep_override()
        else f"{key}={next(word.sweep_string_iterator()) if word.is_discrete_sweep() else word.value().end}"
        for key, word in last.items()
    ]


@pytest.mark.parametrize(
    "choice",
    [
        f"{group.name}={path.stem}"
        for group in sorted(CONF.iterdir())
        if group.name in ("model", "training", "schedule", "distributed", "evaluation")
        for path in sorted(group.glob("*.yaml"))
    ],
)
def test_every_group_choice_composes(choice: str) -> None:
    remaining = problems(composed(TINY, choice, "training.use_liger=false"))
    if choice == "distributed=multi_node":  # the one choice that cannot be complete without the user's machines
        assert [line.split("=")[0] for line in remaining] == ["distributed.rdzv_endpoint"]
    else:
        assert remaining == []


@pytest.mark.parametrize("method", BUILT_IN)
def test_every_method_is_a_phase_choice(method: str) -> None:
    config = composed(TINY, f"+phase@phases.more={method}", "phases.more.data.path=x.jsonl")
    assert config.phases["more"].method == method
    assert problems(config) == []


def test_every_phase_choice_is_a_method() -> None:
    assert {path.stem for path in (CONF / "phase").glob("*.yaml")} == set(BUILT_IN)


def test_an_unknown_method_or_subspace_is_a_problem() -> None:
    (line,) = problems(composed(TINY, "phases.skills.method=lora"))
    assert line.startswith("phases.skills.method=lora: no such method; use one of osft, sft,")
    (line,) = problems(composed(TINY, "osft.subspace=gradients"))
    assert line == "osft.subspace=gradients: no such rule; use one of weights, activations"


def test_without_an_experiment_the_problems_say_how_to_go_on() -> None:
    assert [line.split("=")[0] for line in problems(composed())] == ["model.path", "phases"]


def test_the_seed_recipe() -> None:
    config = composed("+experiment=llama_two_phase")
    assert config.model.path == "meta-llama/Llama-3.1-8B-Instruct"
    assert list(ratios(config).items()) == [
        ("knowledge", 0.3),
        ("skills", 0.2),
    ]
    distributed = config.distributed
    assert (distributed.nproc_per_node, distributed.rdzv_id, distributed.rdzv_endpoint) == (
        8,
        47,
        "127.0.0.1:29500",
    )
    for phase in config.phases.values():
        assert (phase.learning_rate, phase.effective_batch_size, phase.num_epochs) == (5e-6, 128, 2)
        assert (phase.max_seq_len, phase.max_tokens_per_gpu) == (8192, 10000)
        assert (phase.lr_scheduler, phase.warmup_steps) == ("cosine", 0)
        assert (phase.use_liger, phase.seed) == (True, 42)


def test_training_default_repeats_the_schema() -> None:
    assert composed("training=default").training == TrainingConfig()


def test_every_training_key_is_a_phase_key_that_follows_training() -> None:
    phase_fields = {field.name: field for field in fields(PhaseConfig)}
    for key in TRAINING_KEYS:
        assert phase_fields[key].default == f"${{training.{key}}}"
        assert str(phase_fields[key].type) == str(TrainingConfig.__dataclass_fields__[key].type)
    config = composed(TINY, "+phase@phases.code=osft", "phases.code.data.path=code.jsonl")
    assert {key: getattr(config.phases["code"], key) for key in TRAINING_KEYS} == vars(config.training)


def test_an_override_of_training_reaches_every_phase_and_one_of_a_phase_stays_there() -> None:
    phases = composed(TINY, "training.weight_decay=0.5", "phases.skills.learning_rate=1e-5").phases
    assert [phase.weight_decay for phase in phases.values()] == [0.5, 0.5]
    assert [phase.learning_rate for phase in phases.values()] == [composed(TINY).training.learning_rate, 1e-5]


def test_scheduler_arguments_of_one_phase_stay_there() -> None:
    config = composed(TINY, "++phases.skills.lr_scheduler_kwargs={num_cycles:0.4}")
    assert config.phases["skills"].lr_scheduler_kwargs == {"num_cycles": 0.4}
    assert config.phases["knowledge"].lr_scheduler_kwargs == config.training.lr_scheduler_kwargs == {}


def test_a_phase_can_be_dropped() -> None:
    config = composed(TINY, "~phases.skills")
    assert list(config.phases) == ["knowledge"]
    assert problems(config) == []


def test_a_phase_can_be_added() -> None:
    config = composed(TINY, "+phase@phases.code=osft", "phases.code.data.path=code.jsonl")
    assert list(config.phases) == ["knowledge", "skills", "code"]
    assert config.phases["code"].data.path == "code.jsonl"
    assert ratios(config)["code"] == 0.1
    assert problems(config) == []


def test_an_added_phase_without_data_is_a_problem() -> None:
    (line,) = problems(composed(TINY, "+phase@phases.code=osft"))
    assert line.startswith("phases.code.data.path=???: ")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_evaluation_set_can_be_added(experiment: str) -> None:
    add = "+data@evaluation.sets.math=file"
    config = composed(
        f"+experiment={experiment}", add, "evaluation.sets.math.path=m", "evaluation.sets.math.learned_in=base"
    )
    assert config.evaluation.sets["math"] == EvaluationSetConfig(path="m", learned_in="base")
    assert problems(config) == []
    (line,) = problems(composed(f"+experiment={experiment}", add))
    assert line.startswith("evaluation.sets.math.path=???: ")


def test_a_phase_can_become_the_baseline() -> None:
    config = composed(TINY, "phases.skills.method=sft")
    assert config.phases["skills"].method == "sft"
    assert problems(config) == []


def test_the_command_line_wins_over_the_experiments_choices() -> None:
    assert composed(TINY, "model=qwen2_5_7b_instruct").model.path == "Qwen/Qwen2.5-7B-Instruct"
    assert composed(TINY, "schedule=geometric").schedule.kind is ScheduleKind.geometric
    assert composed(TINY, "model=phi_4_mini_instruct", "model.path=mine").model.path == "mine"


def test_a_third_phase_comes_by_inheritance() -> None:
    phases = composed("+experiment=tiny_three_phase").phases
    assert list(phases) == ["knowledge", "skills", "recap"]
    assert phases["recap"].data == phases["knowledge"].data
    assert phases["recap"].num_epochs < phases["knowledge"].num_epochs


@pytest.mark.parametrize("override", ["training.learning_rat=1", "schedule.kind=linear", "distributed.nnodes=many"])
def test_unknown_keys_and_wrong_types_are_refused(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        composed(TINY, override)
