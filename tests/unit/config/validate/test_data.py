"""Rules across the settings of data: each with its place, its value and the remedy."""

from typing import Any

import pytest

from osftx.config.schema import (
    DataConfig,
    DataFormat,
    DataProcessingConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    SpecialTokens,
    TooLong,
    TrainingConfig,
    TrainOn,
)
from osftx.config.validate import problems


def experiment(**data: Any) -> ExperimentConfig:
    config = ExperimentConfig(name="study", model=ModelConfig(path="base"))
    config.phases["one"] = PhaseConfig(data=DataConfig(**{"path": "a.jsonl", **data}), **vars(TrainingConfig()))
    return config


@pytest.mark.parametrize(
    "data",
    [
        {"path": ["a.jsonl"], "weights": [0.5]},
        {"path": ["a.jsonl", "b.jsonl"], "weights": [0, 3]},
        {"path": ["a.jsonl", "a.jsonl"]},
        {"block_size": 8192},
        {"block_size": 2, "format": DataFormat.documents},
        {"train_on": TrainOn.everything, "format": DataFormat.messages},
        {"limit": 1},
        {"too_long": TooLong.split, "roles": {"chatgpt": "assistant"}, "ignore_fields": ["weight"]},
    ],
)
def test_settings_that_go_together(data: dict[str, Any]) -> None:
    assert problems(experiment(**data)) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"path": []}, "path=[]: must be a path or a name, or a list of them; correct it"),
        ({"path": ["a", " "]}, "path=['a', ' ']: must be a path or a name, or a list"),
        ({"path": ["a", 1]}, "path=['a', 1]: must be a path or a name, or a list"),
        ({"path": {"a": 1}}, "path={'a': 1}: must be a path or a name, or a list"),
        ({"path": 3}, "path=3: must be a path or a name, or a list of them"),
        ({"weights": [1]}, "weights=[1]: is for a list of paths, but phases.one.data.path is one; remove weights"),
        ({"path": ["a", "b"], "weights": [1]}, "weights=[1]: 1 for 2 paths; give one for each"),
        ({"path": ["a", "b"], "weights": [1, 2, 3]}, "weights=[1, 2, 3]: 3 for 2 paths; give one for each"),
        ({"path": ["a", "b"], "weights": [1, -1]}, "weights=[1, -1]: each must be 0 or more; correct"),
        ({"path": ["a", "b"], "weights": [1, float("nan")]}, "weights=[1, nan]: each must be 0 or more"),
        ({"path": ["a", "b"], "weights": [1, float("inf")]}, "weights=[1, inf]: each must be 0 or more"),
        ({"path": ["a", "b"], "weights": [0, 0]}, "weights=[0, 0]: leaves nothing; give at least one of them"),
        ({"limit": 0}, "limit=0: must be 1 or more; the default is null"),
        ({"block_size": 1}, "block_size=1: must be 2 or more; the default is null"),
        ({"block_size": 8193}, "block_size=8193: longer than phases.one.max_seq_len=8192, so every block would be"),
        ({"block_size": 8, "format": DataFormat.messages}, "block_size=8: not read with format=messages, since blocks"),
        (
            {"train_on": TrainOn.last_assistant, "format": DataFormat.documents},
            "train_on=last_assistant: not read with format=documents, of which everything",
        ),
        ({"train_on": TrainOn.everything, "format": DataFormat.tokenized}, "train_on=everything: not read with"),
        ({"special_tokens": SpecialTokens.fail, "format": DataFormat.tokenized}, "special_tokens=fail: not read with"),
        ({"too_long": TooLong.cut, "format": DataFormat.tokenized}, "too_long=cut: not read with format=tokenized"),
        ({"too_long": TooLong.split, "block_size": 8}, "too_long=split: not read with block_size=8, where no turns"),
        ({"roles": {"chatgpt": "asistant"}}, "roles={chatgpt: asistant}: must be one of system, user, assistant, tool"),
        ({"roles": {" ": "user"}}, "roles={' ': 'user'}: a name is blank; remove it"),
        ({"ignore_fields": [""]}, "ignore_fields=['']: has the blank name ''; remove it"),
        ({"ignore_fields": ["content"]}, "ignore_fields=['content']: content is what samples are made of; remove it"),
        ({"document_column": ""}, "document_column=: names no column; the default is document"),
    ],
)
def test_settings_that_do_not(data: dict[str, Any], says: str) -> None:
    (problem,) = problems(experiment(**data))
    assert problem.startswith(f"phases.one.data.{says}")


def test_all_data_has_the_same_rules() -> None:
    config = experiment()
    config.preserve.data.limit = 0
    config.evaluation.sets["one"] = EvaluationSetConfig(path="b.jsonl", block_size=9000)
    config.data = DataProcessingConfig(processing_dir=" ", num_proc=0)
    assert [problem.partition(":")[0] for problem in problems(config)] == [
        "data.num_proc=0",
        "data.processing_dir=",
        "preserve.data.limit=0",
        "evaluation.sets.one.block_size=9000",
    ]


def test_what_is_validated_or_replayed_is_a_path_or_a_name() -> None:
    config = experiment()
    config.phases["one"].validation.path = 5
    config.phases["one"].replay.sources, config.phases["one"].replay.ratio = [7], 1.0
    assert problems(config) == [
        "phases.one.validation.path=5: must be a path or a name, or a list of them; correct it",
        "phases.one.replay.sources: 7 must be a phase, a path or a name; correct it",
    ]
