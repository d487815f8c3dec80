"""How the nodes of a sweep meet, with a cluster that only keeps what it is asked."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, TrainingError
from osftx.launch.cluster import Cluster
from osftx.launch.follower import Ended
from osftx.sweep.nodes import meet_for_sweep
from osftx.sweep.parallel import BASIC_LAUNCHER

TASK = ["+experiment=tiny", "phases.skills.seed=range(0,11)"]


class Meeting(Cluster):
    """Ends as it is told to; None is a meeting on the first node."""

    def __init__(self, outcome: Ended | Exception | None = None):
        super().__init__()
        self.outcome = outcome
        self.compared: list[Any] = []

    def meet(self, distributed: DistributedConfig, settings: Any, trusts_code: bool = False) -> Ended | None:
        assert trusts_code is False
        self.compared.append(settings)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def composed(*words: str, launcher: str = BASIC_LAUNCHER, **distributed: Any) -> DictConfig:
    hydra = {"overrides": {"task": [*TASK, *words]}, "launcher": {"_target_": launcher}}
    return OmegaConf.create({"distributed": distributed, "hydra": hydra})


def test_the_nodes_compare_their_commands_without_what_differs() -> None:
    meeting = Meeting()
    for word in ("distributed.node_rank=1", "++distributed.node_rank=0", "distributed.secret_file=mine"):
        meet_for_sweep(composed(word), meeting)
    assert meeting.compared == [{"command": TASK}] * 3


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (Ended(0, ""), 0, ""),
        (Ended(1, "rank 1 failed"), 1, "osftx: rank 1 failed\n"),
        (ConfigurationError(["wrong"]), 2, "osftx: 1 problem in the configuration or the data:\n  - wrong\n"),
        (TrainingError("nobody came"), 1, "osftx: nobody came\n"),
    ],
)
def test_the_program_ends_with_the_first_node_or_where_the_nodes_cannot_meet(
    outcome: Ended | Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        meet_for_sweep(composed(), Meeting(outcome))
    assert left.value.code == code
    assert capsys.readouterr().err == said


def test_several_nodes_run_one_job_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    meet_for_sweep(composed(nnodes=2), Meeting())
    with pytest.raises(SystemExit, match="2"):
        meet_for_sweep(composed(launcher="hydra_plugins.joblib", nnodes=2), Meeting())
    assert "distributed.nnodes=2: the jobs of such a sweep run one after the other; leave" in capsys.readouterr().err
