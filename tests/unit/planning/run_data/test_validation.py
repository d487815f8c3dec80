"""What a phase may validate on: through the checks before a run, as far as the samples that its ranks read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from checkout import TINY_BASE
from datasets import Dataset, DatasetDict

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import PHASE, SPLIT
from osftx.config.schema import (
    BestState,
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    ReplayConfig,
    TrainingConfig,
    ValidationConfig,
)
from osftx.data.splitting import Split
from osftx.errors import ConfigurationError
from osftx.planning.preflight import Checked, check
from osftx.planning.validate import problems
from osftx.training.batches import Samples, open_samples


def write(path: Path, answers: Sequence[str]) -> str:
    turns = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    """Two OSFT phases: `one` trains on a to j, `two` on k to r."""
    config = ExperimentConfig(name="study", model=ModelConfig(path=str(TINY_BASE)), reuse=False)
    for name, answers in (("one", "abcdefghij"), ("two", "klmnopqr")):
        data = DataConfig(path=write(tmp_path / f"{name}.jsonl", answers))
        config.phases[name] = PhaseConfig(data=data, **vars(TrainingConfig(effective_batch_size=4)))
    return config


def validate(config: ExperimentConfig, **settings: Any) -> None:
    config.phases["two"].validation = ValidationConfig(**settings)


def refused(config: ExperimentConfig) -> list[str]:
    if found := problems(config):
        return found
    with pytest.raises(ConfigurationError) as raised:
        check(config, None)
    return raised.value.problems


def read(checked: Checked) -> tuple[list[list[int]], list[list[int]]]:
    """The tokens that the ranks of phase two train on, and those that they validate on."""
    trained, held_out = open_samples(checked.plan.phases[1].ready())
    assert held_out is not None
    return tokens(trained), tokens(held_out)


def tokens(samples: Samples) -> list[list[int]]:
    rows = [row["input_ids"] for row in samples.rows]
    assert [len(row) for row in rows] == samples.lengths.tolist()
    assert [sum(row["counted"][1:]) for row in samples.rows] == samples.counted.tolist()
    return rows


@pytest.mark.parametrize("dry", [True, False])
def test_a_split_is_taken_out_of_the_plan_and_of_the_training(
    config: ExperimentConfig, tmp_path: Path, dry: bool
) -> None:
    """Not out of what is replayed; the ranks hold out as many as the plan says."""
    config.phases["two"].replay = ReplayConfig(["one"], 0.5)
    without = check(config, None).plan.phases[1]
    validate(config, split=0.25)
    assert not problems(config)
    checked = check(config, None if dry else tmp_path / "run")
    one, two = checked.plan.phases
    assert (one.samples, one.validated) == (10, 0)
    assert (two.samples, two.validated) == (8 - 2 + 5, 2)
    assert (without.steps, two.steps) == (7, 6)  # 13 and 11 samples, 2 epochs, 4 a step
    assert two.tokens < without.tokens
    if dry:
        assert one.spec is two.spec is None
        return
    assert one.spec is not None
    assert one.spec.validation is None
    trained, held_out = read(checked)
    assert (len(trained), len(held_out)) == (two.samples, two.validated)
    assert sum(map(len, trained)) == two.tokens
    assert not [row for row in held_out if row in trained]
    config.phases["two"].seed = 43
    assert read(check(config, tmp_path / "other"))[1] != held_out


def test_the_ranks_read_the_places_that_were_drawn(config: ExperimentConfig, tmp_path: Path) -> None:
    """From the folder of their phase, where they lie once it is to be started; nothing is drawn again."""
    validate(config, split=0.25)
    (*_, two) = check(config, tmp_path / "run").plan.phases
    assert two.spec is not None
    folder = tmp_path / "run" / "phases" / "02_two"
    assert Path(two.spec.folder) == folder
    assert not folder.exists()
    assert two.ready() == two.spec == PhaseSpec.load(folder / PHASE)
    places = Split.load(folder / SPLIT)
    assert (len(places.trained), len(places.held_out)) == (6, 2)
    exchanged = Split(places.held_out, places.trained)
    exchanged.save(folder / SPLIT)
    trained, held_out = open_samples(two.spec)
    assert held_out is not None
    assert (len(trained), len(held_out)) == (2, 6)


def test_a_file_is_read_beside_the_training(config: ExperimentConfig, tmp_path: Path) -> None:
    file = write(tmp_path / "held_out.jsonl", "klxyz")
    validate(config, path=file)
    checked = check(config, tmp_path / "run")
    two = checked.plan.phases[1]
    assert (two.samples, two.validated) == (8, 5)
    (warning,) = (line for line in checked.plan.warnings if "validation" in line)
    assert warning.startswith("phases.two.validation.path: the phase trains on 2 of its 5 samples")
    trained, held_out = read(checked)
    assert (len(trained), len(held_out)) == (8, 5)
    assert not (tmp_path / "run" / "phases" / "02_two" / SPLIT).exists()


def test_samples_that_are_too_long_are_told(config: ExperimentConfig, tmp_path: Path) -> None:
    file = write(tmp_path / "held_out.jsonl", ["x", "y" * 200])
    validate(config, path=file)
    config.phases["two"].max_seq_len = 100
    told = "phases.two.validation.path: 1 of 2 samples are longer than phases.two.max_seq_len=100 and are not measured"
    assert told in check(config, None).plan.warnings


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"split": 0.0}, "split=0.0: must be above 0 and below 1"),
        ({"split": 1.0}, "split=1.0: must be above 0 and below 1"),
        ({"split": 0.1, "path": "v.jsonl"}, "split=0.1: phases.two.validation.path=v.jsonl says what is validated"),
        ({"path": ""}, "path=: names no file"),
        ({"split": 0.1, "every_steps": 0}, "every_steps=0: must be 1 or more"),
        ({"split": 0.1, "at_end": False}, "at_end=False: nothing is ever measured"),
        ({"best": BestState.keep}, "best=keep: nothing is validated"),
        ({"every_steps": 5}, "every_steps=5: nothing is validated"),
        ({"every_epoch": True}, "every_epoch=True: nothing is validated"),
        ({"at_end": False}, "at_end=False: nothing is validated"),
        ({"split": 0.01}, "split=0.01: holds out 0 of 8 samples (8 different)"),
        ({"split": 0.99}, "split=0.99: holds out 8 of 8 samples"),
        ({"split": 0.25, "every_steps": 4, "at_end": False}, "every_steps=4: the phase has 3 steps, so nothing is"),
        ({"path": "none.jsonl"}, "path: none.jsonl: cannot be read"),
    ],
    ids=str,
)
def test_mistakes_are_refused(config: ExperimentConfig, settings: dict[str, Any], start: str) -> None:
    validate(config, **settings)
    (problem,) = refused(config)
    assert problem.startswith(f"phases.two.validation.{start}")


def test_a_file_that_is_trained_on_is_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    """A copy of it, and what is replayed, too."""
    config.phases["two"].replay = ReplayConfig(["one"], 1.0)
    for answers in ("rqponmlk", "abc"):
        validate(config, path=write(tmp_path / "copy.jsonl", answers))
        (problem,) = refused(config)
        assert problem.endswith(
            f"copy.jsonl: the phase trains on all of its {len(answers)} samples; give others, or hold out a share of "
            "the phase's own: phases.two.validation.path=null phases.two.validation.split=0.05"
        )


def test_the_split_of_the_phase_is_not_that_of_the_file(config: ExperimentConfig, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "k"}]}
    DatasetDict(train_sft=Dataset.from_list([row])).save_to_disk(tmp_path / "saved")
    config.phases["two"].data = DataConfig(path=str(tmp_path / "saved"), split="train_sft")
    validate(config, path=write(tmp_path / "file.jsonl", "xyz"))
    assert check(config, None).plan.phases[1].validated == 3


def test_a_phase_that_trains_nothing_is_not_validated(config: ExperimentConfig) -> None:
    validate(config, split=0.25)
    config.phases["two"].unfreeze_rank_ratio = 0.0
    (problem,) = refused(config)
    assert problem.startswith("phases.two.validation: the phase has unfreeze ratio 0 and trains nothing")
    config.osft.train_others = True
    check(config, None)


def test_another_problem_brings_none_of_the_split(config: ExperimentConfig, tmp_path: Path) -> None:
    """Without a tokenizer samples cannot be told apart, and without targets nobody knows what is trained."""
    validate(config, split=0.25)
    config.osft.target_patterns = ["nothing"]
    (problem,) = refused(config)
    assert problem.startswith("osft.target_patterns: 'nothing' matches no weight")
    config.model.path = str(tmp_path)
    assert not [problem for problem in refused(config) if "validation" in problem]
