"""What a phase is expected to forget: said of what was taught before it, where training will move the answers."""

import pytest

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig, ModelConfig, OsftConfig, TrainingConfig
from osftx.methods.osft.foresight import NEAR, warnings


def phase(**changes: object) -> PhaseSpec:
    spec = PhaseSpec(
        index=1,
        name="skills",
        method="osft",
        unfreeze_rank_ratio=0.2,
        model=ModelConfig(path="model"),
        training=TrainingConfig(),
        osft=OsftConfig(),
        distributed=DistributedConfig(),
        data="data",
        folder="folder",
        evaluation_max_tokens=64,
        evaluation_sets={name: f"/data/content_of_{name}" for name in ("base", "facts", "skills")},
        sets_to_keep=["base", "facts"],
    )
    for key, value in changes.items():
        setattr(spec, key, value)
    return spec


def shares(**sets: float) -> dict[str, object]:
    return {"taught": 0.1, "sets": {f"content_of_{name}": share for name, share in sets.items()}}


@pytest.mark.parametrize(("base", "warned"), [(0.001, False), (0.1 * NEAR, False), (0.1 * NEAR + 0.001, True)])
def test_a_set_near_what_is_taught_is_named(base: float, warned: bool) -> None:
    found = list(warnings(phase(), shares(base=base, facts=0.0, skills=0.1)))
    assert len(found) == warned
    if warned:
        assert (
            "phase skills will probably forget what evaluation set base asks: its subspace overlap is 0.026" in found[0]
        )
        assert "that of the taught data 0.1; add conversations of its kind to preserve.data" in found[0]
        assert "phases.skills.replay)" in found[0]


def test_what_is_taught_now_or_later_may_move() -> None:
    assert not list(warnings(phase(sets_to_keep=[]), shares(base=0.1, facts=0.1, skills=0.1)))
    found = list(warnings(phase(), shares(base=0.1, facts=0.1, skills=0.1)))
    assert [name for name in ("base", "facts", "skills") if any(f"set {name} " in text for text in found)] == [
        "base",
        "facts",
    ]
