"""What is refused of `preserve.data`, and what is warned of, on samples that are told by their digests."""

import numpy as np
import pytest

from osftx.config.schema import DataConfig, ExperimentConfig, ModelConfig, PreserveConfig
from osftx.data.samples import DataSummary, Prepared
from osftx.errors import ConfigurationError
from osftx.methods.osft.preserve import advice, check_amount, check_new
from osftx.models.targets import Target

TARGETS = [Target("up", ((64, 16),)), Target("down", ((16, 64),))]


def prepared(digests: list[int], tokens: int = 1000, content: str | None = None) -> Prepared:
    summary = DataSummary("kept.jsonl", samples=len(digests), tokens=tokens)
    lengths = np.full(len(digests), 4, dtype=np.uint64)
    return Prepared(None, summary, lengths, np.array(digests, dtype=np.uint64), content or f"of {digests}")


def experiment(max_tokens: int = 10**6) -> ExperimentConfig:
    config = ExperimentConfig(name="study", model=ModelConfig(path="base"))
    config.preserve = PreserveConfig(data=DataConfig(path="kept.jsonl"), max_tokens=max_tokens)
    return config


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"facts": prepared([1, 2, 3, 4])}, "phase facts"),
        ({"facts": prepared([1, 5]), "skill": prepared([2, 3])}, "phase facts and phase skill"),
        ({"facts": prepared([7, 8], content="same"), "skill": prepared([9])}, "phase facts"),
    ],
    ids=["a part of a phase's", "of two phases", "the same file, cut otherwise"],
)
def test_what_is_to_be_learned_alone_is_refused(training: dict[str, Prepared], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"kept.jsonl: is what {named} trains on, .* can do already"):
        check_new(prepared([1, 2, 3], content="same"), training)


def test_one_sample_of_its_own_is_enough_to_start() -> None:
    check_new(prepared([1, 2, 3]), {"facts": prepared([1]), "skill": prepared([2])})
    check_new(prepared([1]), {})


def test_fewer_tokens_than_directions_are_refused() -> None:
    check_amount(experiment(), prepared([1], tokens=64).summary, TARGETS)
    with pytest.raises(ConfigurationError, match=r"63 tokens cannot .* 64 input directions .* give more conversations"):
        check_amount(experiment(), prepared([1], tokens=63).summary, TARGETS)
    with pytest.raises(ConfigurationError, match=r"raise preserve\.max_tokens=63"):
        check_amount(experiment(63), prepared([1], tokens=1000).summary, TARGETS)


def warnings(preserved: Prepared, asked: Prepared, trained: Prepared, max_tokens: int = 10**6) -> list[str]:
    return list(advice(experiment(max_tokens), preserved, TARGETS, {"base": asked}, {"facts": trained}))


def test_samples_that_are_there_for_others_are_warned_of() -> None:
    kept = prepared([1, 2, 3])
    assert warnings(kept, prepared([8]), prepared([9])) == []
    (asked,) = warnings(kept, prepared([1, 2, 8]), prepared([9]))
    assert asked.startswith("evaluation set base: 2 of its 3 samples are in preserve.data")
    (taught,) = warnings(kept, prepared([8]), prepared([3, 9]))
    assert taught.startswith("preserve.data: phase facts trains on 1 of its 3 samples")


@pytest.mark.parametrize(
    ("tokens", "max_tokens", "remedy"),
    [(6 * 64 - 1, 10**6, "give more conversations"), (1000, 6 * 64 - 1, "raise preserve.max_tokens=383")],
)
def test_few_tokens_are_warned_of(tokens: int, max_tokens: int, remedy: str) -> None:
    (line,) = warnings(prepared([1], tokens=tokens), prepared([8]), prepared([9]), max_tokens)
    assert line.startswith("preserve.data: 383 tokens show only roughly which of 64 input directions")
    assert remedy in line
    assert warnings(prepared([1], tokens=384), prepared([8]), prepared([9]), 384) == []
