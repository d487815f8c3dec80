import inspect
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from valid_config import changed, experiment

from osftx.config import validate
from osftx.config.load import typed
from osftx.config.schema import (
    Accelerator,
    DataConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    PhaseConfig,
    TrainOn,
)
from osftx.config.validate import GROUPS, problems
from osftx.config.validate.training import LR_SCHEDULERS, TRAINING_RANGES


def found(**changes: Any) -> list[str]:
    """The problems of the valid configuration after `changes`."""
    return problems(changed(**changes))


def test_a_valid_configuration_has_no_problem() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "start", "remedy"),
    [
        ({"name": "a/b"}, "name=a/b: ", "set name=NAME"),
        ({"model__path": "???"}, "model.path=???: no model", "model=tiny"),
        ({"model__attn_implementation": "fast"}, "model.attn_implementation=fast: unknown", "sdpa"),
        (
            {"phases__first__data__path": "???"},
            "phases.first.data.path=???: ",
            "set phases.first.data.path=FILE",
        ),
        (
            {"phases__first__data__path": ""},
            "phases.first.data.path=???: ",
            "set phases.first.data.path=FILE",
        ),
        ({"phases__first__init_from": ""}, "phases.first.init_from=: ", "give a folder"),
        (
            {"phase_order": ["second"]},
            "phase_order=['second']: must name every phase once (first, second)",
            "null",
        ),
        ({"phase_order": ["first", "second", "first"]}, "phase_order=", "null"),
        (
            {"schedule__initial": -0.1, "schedule__minimum": -0.2},
            "schedule.initial=-0.1: must be from 0 to 1",
            "0.3",
        ),
        ({"schedule__minimum": math.nan}, "schedule.minimum=nan: must be from 0 to 1", "0.1"),
        ({"schedule__minimum": 0.4}, "schedule.minimum=0.4: above schedule.initial=0.3", "0.3 or less"),
        ({"schedule__ratios": [0.3]}, "schedule.ratios=[0.3]: not read", "schedule.kind=explicit"),
        ({"schedule__factor": 0.5}, "schedule.factor=0.5: not read", "schedule.kind=geometric"),
        (
            {"schedule__kind": "geometric", "schedule__reduction": 0.05},
            "schedule.reduction=0.05: not read by schedule.kind=geometric",
            "schedule.kind=progressive",
        ),
        (
            {"schedule__kind": "constant", "schedule__minimum": 0.2},
            "schedule.minimum=0.2: not read by schedule.kind=constant",
            "remove it, or set schedule.kind=progressive or geometric",
        ),
        ({"schedule__kind": "explicit", "schedule__initial": 0.2}, "schedule.initial=0.2: not read", "remove it"),
        ({"training__num_epochs": 0}, "training.num_epochs=0: must be 1 or more", "the default is 2"),
        ({"training__effective_batch_size": 0}, "training.effective_batch_size=0: ", "the default is 128"),
        (
            {"training__learning_rate": 0.0},
            "training.learning_rate=0.0: must be above 0",
            "the default is 5e-06",
        ),
        ({"training__learning_rate": math.inf}, "training.learning_rate=inf: must be above 0", "5e-06"),
        ({"training__warmup_steps": -1}, "training.warmup_steps=-1: ", "the default is 0"),
        ({"training__beta1": 1.0}, "training.beta1=1.0: must be from 0 to below 1", "the default is 0.9"),
        ({"training__beta2": -0.5}, "training.beta2=-0.5: ", "the default is 0.95"),
        ({"training__eps": 0.0}, "training.eps=0.0: must be above 0", "the default is 1e-08"),
        ({"training__weight_decay": -1.0}, "training.weight_decay=-1.0: ", "the default is 0.0"),
        ({"training__max_grad_norm": math.nan}, "training.max_grad_norm=nan: ", "the default is 1.0"),
        ({"training__seed": -1}, "training.seed=-1: ", "the default is 42"),
        ({"training__max_seq_len": 1}, "training.max_seq_len=1: must be 2 or more", "the default is 8192"),
        (
            {"training__max_tokens_per_gpu": 4096},
            "training.max_tokens_per_gpu=4096: too few for a sample of max_seq_len=8192",
            "training.max_seq_len=4096 or less",
        ),
        (
            {"phases__second__max_seq_len": 16384},
            "phases.second.max_tokens_per_gpu=10000: too few for a sample of max_seq_len=16384",
            "phases.second.max_tokens_per_gpu=16384 or more",
        ),
        ({"training__lr_scheduler": "cosin"}, "training.lr_scheduler=cosin: unknown", "linear, cosine, "),
        ({"training__lr_scheduler": "reduce_lr_on_plateau"}, "training.lr_scheduler=", "use one of"),
        (
            {"training__lr_scheduler_kwargs": {"min": 1}},
            "training.lr_scheduler_kwargs={'min': 1}: ",
            "remove min",
        ),
        (
            {"training__lr_scheduler": "constant", "training__warmup_steps": 5},
            "training.warmup_steps=5: lr_scheduler=constant has no warm-up",
            "constant_with_warmup",
        ),
        (
            {"training__lr_scheduler": "cosine_with_min_lr"},
            "training.lr_scheduler_kwargs={}: ",
            "={min_lr_rate:0.1}",
        ),
        (
            {"training__lr_scheduler": "warmup_stable_decay"},
            "training.lr_scheduler_kwargs={}: ",
            "num_decay_steps",
        ),
        (
            {"distributed__accelerator": Accelerator.cpu},
            "training.use_liger=true: ",
            "set training.use_liger=false",
        ),
        (
            {"distributed__nproc_per_node": 0},
            "distributed.nproc_per_node=0: must be 1 or more",
            "the default is 8",
        ),
        ({"distributed__omp_num_threads": 0}, "distributed.omp_num_threads=0: ", "the default is 1"),
        ({"distributed__timeout_s": 0}, "distributed.timeout_s=0: ", "the default is 1800"),
        ({"evaluation__generation__batch_size": 0}, "evaluation.generation.batch_size=0: must be 1 or more", "16"),
        ({"evaluation__generation__temperature": -1}, "evaluation.generation.temperature=-1.0: must be 0", "is 0"),
        ({"evaluation__lm_eval__limit": 0}, "evaluation.lm_eval.limit=0: must be 1 or more", "the default is null"),
        ({"evaluation__lm_eval__num_fewshot": -1}, "evaluation.lm_eval.num_fewshot=-1: must be 0 or more", "null"),
        ({"evaluation__lm_eval__timeout_s": 0}, "evaluation.lm_eval.timeout_s=0: must be 1 or more", "21600"),
        ({"evaluation__lm_eval__tasks": ["a", "b", "a"]}, "evaluation.lm_eval.tasks=['a', 'b', 'a']: a is", "once"),
        ({"evaluation__lm_eval__tasks": [""]}, "evaluation.lm_eval.tasks=['']: names an empty task", "remove it"),
        ({"distributed__join_timeout_s": 0}, "distributed.join_timeout_s=0: must be 1 or more", "the default is 300"),
        ({"distributed__nnodes": 0}, "distributed.nnodes=0: must be 1 or more", "the default is 1"),
        ({"distributed__node_rank": 1}, "distributed.node_rank=1: must be 0 to 0", "each node its own"),
        (
            {"plan__calibrate": True, "distributed__nnodes": 2},
            "plan.calibrate=true: times the ranks of one node",
            "distributed.nnodes=1 dry_run=true",
        ),
        (
            {"distributed__nnodes": 2, "distributed__rdzv_endpoint": "gpu1:0"},
            "distributed.rdzv_endpoint=gpu1:0: port 0",
            "gpu1:29500",
        ),
        (
            {"distributed__rdzv_endpoint": "???"},
            "distributed.rdzv_endpoint=???: must be HOST:PORT",
            "127.0.0.1:29500",
        ),
        (
            {"distributed__rdzv_endpoint": "gpu1"},
            "distributed.rdzv_endpoint=gpu1: must be HOST:PORT",
            "29500",
        ),
        (
            {"distributed__rdzv_endpoint": "gpu1:70000"},
            "distributed.rdzv_endpoint=gpu1:70000: ",
            "0 to 65535",
        ),
        (
            {"distributed__rdzv_endpoint": ":29500"},
            "distributed.rdzv_endpoint=:29500: must be HOST:PORT",
            "29500",
        ),
    ],
)
def test_one_mistake_is_one_problem_with_path_value_and_remedy(
    changes: dict[str, Any], start: str, remedy: str
) -> None:
    lines = [line for line in found(**changes) if line.startswith(start)]
    assert len(lines) == 1, found(**changes)
    assert remedy in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize("key", TRAINING_RANGES)
def test_what_a_phase_inherits_is_reported_once(key: str) -> None:
    assert len([line for line in found(**{f"training__{key}": -1}) if f".{key}=" in line]) == 1


def test_what_a_phase_sets_itself_is_reported_at_the_phase() -> None:
    assert found(phases__second__learning_rate=-1.0) == [
        "phases.second.learning_rate=-1.0: must be above 0; the default is 5e-06"
    ]


def test_every_problem_is_reported_at_once() -> None:
    lines = found(model__path="???", training__beta1=2.0, phases__second__data__path="???", distributed__nnodes=0)
    assert [line.split("=")[0] for line in lines] == [
        "model.path",
        "phases.second.data.path",
        "training.beta1",
        "distributed.nnodes",
    ]


def broken(change: Callable[[ExperimentConfig], None]) -> list[str]:
    """The problems after `change` to the valid configuration, for what cannot be said as `path=value`."""
    config = experiment()
    change(config)
    return problems(typed(OmegaConf.structured(config)))


def test_no_phases() -> None:
    assert broken(lambda config: config.phases.clear()) == [
        "phases={}: nothing to train; choose +experiment=NAME, "
        "or add +phase@phases.NAME=osft phases.NAME.data.path=FILE"
    ]


@pytest.mark.parametrize("name", ["base", "a b", "a/b", "é"])
def test_phase_names_must_be_folder_names_and_not_base(name: str) -> None:
    phase = PhaseConfig(data=DataConfig(path="x.jsonl"))
    (line,) = broken(lambda config: config.phases.update({name: phase}))
    assert line.startswith(f"phases.{name}: ")
    assert line.endswith("rename the phase")


def test_a_run_starts_at_one_phase() -> None:
    lines = found(phases__first__init_from="a", phases__second__init_from="b")
    assert [line.split(": ")[0] for line in lines] == [
        "phases.first.init_from=a",
        "phases.second.init_from=b",
    ]
    assert found(phases__second__init_from="b") == []


def test_evaluation_sets_need_a_path_and_a_known_phase() -> None:
    def change(config: ExperimentConfig) -> None:
        config.evaluation.sets = {
            "general": EvaluationSetConfig(path="g.jsonl", learned_in="base"),
            "facts": EvaluationSetConfig(path="f.jsonl", learned_in="frist"),
            "code": EvaluationSetConfig(),
        }

    assert broken(change) == [
        "evaluation.sets.facts.learned_in=frist: no such phase; use one of base, first, second, or null",
        "evaluation.sets.code.path=???: no evaluation data; set evaluation.sets.code.path=FILE",
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (EvaluationSetConfig(path="f.jsonl", score="contains"), []),
        (EvaluationSetConfig(path="f.jsonl", score="json.loads"), []),  # a function of some module
        (
            EvaluationSetConfig(path="f.jsonl", score="bleu"),
            [
                "evaluation.sets.facts.score=bleu: no such score; use one of exact_match, contains, json_equal, regex, "
                "numeric, f1, or an import path, or null"
            ],
        ),
        (
            EvaluationSetConfig(path="f.jsonl", score="no_such_module.score"),
            ["evaluation.sets.facts.score=no_such_module.score: there is no module no_such_module in"],
        ),
        (
            EvaluationSetConfig(path="f.jsonl", score="f1", train_on=TrainOn.everything),
            ["evaluation.sets.facts.train_on=everything: with score or against_base the model answers"],
        ),
        (
            EvaluationSetConfig(path="f.jsonl", max_new_tokens=0),
            ["evaluation.sets.facts.max_new_tokens=0: must be 1 or more; the default is 128"],
        ),
    ],
)
def test_scores_of_generated_answers(settings: EvaluationSetConfig, says: list[str]) -> None:
    def change(config: ExperimentConfig) -> None:
        config.evaluation.sets = {"facts": settings}

    lines = broken(change)
    assert len(lines) == len(says)
    assert all(line.startswith(expected) for line, expected in zip(lines, says, strict=True))


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ("phases.1.steps", None),
        ("phases.2.steps", "no phase 2 among the 2 phases of the run; use 0 to 1"),
        ("retention.metrics.loss.2.0", None),
        ("retention.metrics.loss.3.0", "no state 3 among the 3 states (the base, then after each phase); use 0 to 2"),
        ("retention.generated.values.2.0", None),
        ("retention.generated.values.0.1", "no set 1 among the 1 evaluation sets with a score; use 0 to 0"),
        ("retention.benchmarks.values.2.0", None),
        ("retention.benchmarks.values.0.1", "no task 1 among the 1 tasks of evaluation.lm_eval; use 0 to 0"),
        (
            "retention.benchmarks.values.3.0",
            "no state 3 among the 3 states (the base, then after each phase); use 0 to 2",
        ),
        ("retention.metrics.exact_match.0.9", "no set 9 among the 1 evaluation sets; use 0 to 0"),
    ],
)
def test_the_objective_is_a_number_that_the_run_will_have(objective: str, says: str | None) -> None:
    def change(config: ExperimentConfig) -> None:
        config.evaluation.sets = {"facts": EvaluationSetConfig(path="f.jsonl", score="f1")}
        config.evaluation.lm_eval.tasks = ["hellaswag"]
        config.objective = objective

    assert broken(change) == ([f"objective={objective}: {says}"] if says else [])


@pytest.mark.parametrize(
    ("objective", "lines"),
    [
        (["summary.learning_accuracy", "summary.forgetting"], []),
        (["summary.forgetting", "summary.luck"], ["objective=summary.luck: no number of results.json"]),
        (["summary.forgetting", "summary.forgetting"], ["objective=summary.forgetting: named twice"]),
        ([], ["objective=[]: names nothing"]),
        (3, ["objective=3: no number of results.json"]),
        ({"a": 1}, ["objective={'a': 1}: no number of results.json"]),
    ],
)
def test_several_objectives(objective: Any, lines: list[str]) -> None:
    found_lines = found(objective=objective)
    assert len(found_lines) == len(lines)
    for said, expected in zip(found_lines, lines, strict=True):
        assert said.startswith(expected)


def test_phases_before_a_starting_point_have_no_results() -> None:
    (line,) = found(phases__second__init_from="b", objective="phases.1.steps")
    assert line.startswith("objective=phases.1.steps: no phase 1 among the 1 phases of the run")


def test_flash_attention_needs_a_gpu() -> None:
    (line,) = found(
        distributed__accelerator="cpu",
        training__use_liger=False,
        model__attn_implementation="flash_attention_2",
    )
    assert line.startswith("model.attn_implementation=flash_attention_2: does not train on a CPU")


def test_the_schedules_and_their_arguments_are_those_of_transformers() -> None:
    functions = {kind.value: function for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items()}
    given = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    for name, arguments in LR_SCHEDULERS.items():
        assert set(inspect.signature(functions[name]).parameters) - given == arguments


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_rule_is_registered(group: ModuleType) -> None:
    rules = {
        value
        for value in vars(group).values()
        if callable(value) and getattr(value, "__annotations__", {}).keys() == {"config", "return"}
    }
    assert rules == set(group.RULES)
    assert rules


def test_every_group_of_rules_is_asked() -> None:
    modules = {path.stem for path in Path(validate.__path__[0]).glob("*.py")} - {"__init__", "ranges"}
    assert modules == {group.__name__.rpartition(".")[2] for group in GROUPS}


@pytest.mark.parametrize("key", ["output_dir", "store_dir"])
def test_a_home_folder_of_no_user_is_told_with_its_key(key: str) -> None:
    (line,) = broken(lambda config: setattr(config, key, "~nosuchuser/x"))
    assert line == f"{key}=~nosuchuser/x: there is no user nosuchuser; write the whole path"


def test_files_in_a_home_folder_of_no_user_are_told_with_their_keys() -> None:
    def change(config: ExperimentConfig) -> None:
        config.data.processing_dir = config.distributed.secret_file = "~nosuchuser"
        config.evaluation.lm_eval.include_path = "~nosuchuser/tasks"

    keys = [line.partition("=")[0] for line in broken(change)]
    assert keys == ["data.processing_dir", "distributed.secret_file", "evaluation.lm_eval.include_path"]
