"""What a phase may replay, and evaluation questions that it trains on: through the checks before a run."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from checkout import TINY_BASE

from osftx.config.schema import (
    DataConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    ReplayConfig,
    TrainingConfig,
)
from osftx.errors import ConfigurationError
from osftx.planning.preflight import check
from osftx.planning.validate import problems


def write(path: Path, answers: Sequence[str]) -> str:
    turns = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    """Two phases: `one` trains on a to j, `two` on k to n."""
    config = ExperimentConfig(name="study", model=ModelConfig(path=str(TINY_BASE)), reuse=False)
    for name, answers in (("one", "abcdefghij"), ("two", "klmn")):
        data = DataConfig(path=write(tmp_path / f"{name}.jsonl", answers))
        config.phases[name] = PhaseConfig(data=data, **vars(TrainingConfig()))
    return config


def replay(config: ExperimentConfig, *sources: str, ratio: float | None = None, samples: int | None = None) -> None:
    config.phases["two"].replay = ReplayConfig(list(sources), ratio, samples)


def refused(config: ExperimentConfig, run_folder: Path | None = None) -> str:
    (problem,) = problems(config) or found(config, run_folder)
    return problem


def found(config: ExperimentConfig, run_folder: Path | None) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        check(config, run_folder)
    return raised.value.problems


@pytest.mark.parametrize("dry", [True, False])
def test_the_plan_counts_what_is_replayed(config: ExperimentConfig, tmp_path: Path, dry: bool) -> None:
    other = write(tmp_path / "other.jsonl", "xyz")
    replay(config, "one", other, ratio=0.5)
    assert not problems(config)
    checked = check(config, None if dry else tmp_path / "run")
    one, two = checked.plan.phases
    assert (one.samples, one.replayed) == (10, {})
    assert (two.samples, two.replayed) == (4 + 5 + 2, {"one": 5, other: 2})
    assert two.tokens > 4 * one.tokens / 10
    assert two.steps == 1


def test_one_file_under_two_names_is_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    replay(config, "one", str(tmp_path / "one.jsonl"), ratio=0.5)
    assert "has the content of one; leave one of them out" in refused(config)


def test_samples_that_are_too_long_to_be_replayed_are_told(config: ExperimentConfig, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", ["x", "y " * 40])
    replay(config, other, ratio=1.0)
    config.phases["two"].max_seq_len = 32
    (line,) = [line for line in check(config, None).plan.warnings if "not replayed" in line]
    assert line.startswith(f"phases.two.replay.sources: 1 of the 2 samples of {other} are longer than")


def test_a_source_may_have_settings_of_its_own(config: ExperimentConfig, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", "vwxyz")
    config.phases["one"].data.limit = 6
    config.phases["two"].replay = ReplayConfig(["one", DataConfig(path=other, limit=3)], ratio=1.0)
    assert not problems(config)
    _, two = check(config, None).plan.phases
    assert two.replayed == {"one": 6, other: 3}, "an earlier phase is read as it was trained on"
    config.phases["two"].replay.sources[1].limit = 0
    assert refused(config) == "phases.two.replay.sources[1].limit=0: must be 1 or more; the default is null"
    config.phases["two"].replay.sources[1] = DataConfig(path="")
    assert refused(config) == "phases.two.replay.sources[1].path=: no data; give it a path"


def test_an_earlier_phase_that_is_skipped_can_be_replayed(config: ExperimentConfig) -> None:
    replay(config, "one", samples=10)
    config.phases["two"].init_from = str(TINY_BASE)
    (two,) = check(config, None).plan.phases
    assert two.replayed == {"one": 10}


def test_what_cannot_be_replayed_is_told(config: ExperimentConfig, tmp_path: Path) -> None:
    path = "phases.two.replay"
    for ratio in (-0.1, 1.5, float("nan")):
        replay(config, "one", ratio=ratio)
        assert refused(config) == f"{path}.ratio={ratio}: must be from 0 to 1; the default is null"
    replay(config, "one")
    assert refused(config).startswith(f"{path}.ratio=null: replay needs one of ratio")
    replay(config, "one", ratio=0.5, samples=2)
    assert refused(config).startswith(f"{path}.ratio=0.5: replay needs one of ratio")
    replay(config, ratio=0.5)
    assert refused(config).startswith(f"{path}.sources=[]: nothing to replay")
    replay(config, "two", ratio=0.5)
    assert refused(config) == f"{path}.sources: two is not an earlier phase (one); name one, or a file"
    replay(config, "one", "one", ratio=0.5)
    assert refused(config) == f"{path}.sources: one is named more than once; name each source once"
    replay(config, "one", samples=11)
    assert refused(config).startswith(f"{path}.samples=11: one has 10 samples of up to phases.two.max_seq_len=8192")
    same = write(tmp_path / "same.jsonl", "klmn")
    replay(config, same, ratio=1)
    assert refused(config) == f"{path}.sources: {same} is what the phase itself trains on; name earlier data"
    replay(config, "none.jsonl", ratio=1)
    assert refused(config).startswith(f"{path}.sources: none.jsonl: cannot be read")
    config.phase_order = ["two", "one"]
    replay(config, "one", ratio=0.5)
    assert refused(config).startswith(f"{path}.sources: one is not an earlier phase (there is none)")


def test_what_is_refused_leaves_no_data(config: ExperimentConfig, tmp_path: Path) -> None:
    replay(config, "one", samples=11)
    run = tmp_path / "run"
    run.mkdir()
    assert refused(config, run)
    assert list(run.iterdir()) == []


def test_evaluation_questions_that_are_trained_on_earn_a_warning(config: ExperimentConfig, tmp_path: Path) -> None:
    sets = {"fresh": "vw", "seen": "kl", "half": "mz"}
    config.evaluation.sets = {
        name: EvaluationSetConfig(path=write(tmp_path / f"{name}.jsonl", answers), learned_in="two")
        for name, answers in sets.items()
    }
    replay(config, ratio=None)
    warnings = [line for line in check(config, None).plan.warnings if line.startswith("evaluation set")]
    assert [line.partition(", so")[0] for line in warnings] == [
        "evaluation set seen: phase two trains on 2 of its 2 samples",
        "evaluation set half: phase two trains on 1 of its 2 samples",
    ]
