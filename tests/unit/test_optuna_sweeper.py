"""The Optuna sweeper on a toy application: no training, the real Hydra."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hydra_plugins.osftx_optuna._space import Parameter, grid, parameters
from osftx.errors import ConfigurationError

ROOT = Path(__file__).parents[2]

# Runs a search for each line of arguments that it is given, in one process, and prints what jobs came of it as JSON.
APP = """
import contextlib, json, sys
from pathlib import Path
import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from osftx.errors import ConfigurationError


CONFIG = {"x": 0.0, "n": 1, "kind": "a", "fails": [], "several": False, "sweep": {"resume": None}, "dry_run": False}
CONFIG["defaults"] = ["_self_", {"override hydra/sweeper": "optuna"}]
CONFIG["hydra"] = {"output_subdir": None, "sweep": {"dir": "sweep", "subdir": "${hydra.job.num}"}}
ConfigStore.instance().store(name="toy", node=CONFIG)
jobs = []

@hydra.main(version_base="1.3", config_path=None, config_name="toy")
def job(config):
    number = HydraConfig.get().job.num
    jobs.append([number, HydraConfig.get().overrides.task])
    if number in config.fails:
        raise RuntimeError("out of memory")
    if config.kind == "nothing":
        return None
    value = -(config.x - 0.3) ** 2 - 0.01 * abs(config.n - 3) + (0.1 if config.kind == "b" else 0)
    return [value, config.x] if config.several else value

results = []
for line in json.loads(sys.argv[1]):
    jobs.clear()
    problems = []
    sys.argv[1:] = ["-m", *line]
    try:
        job()
    except ConfigurationError as error:
        problems = error.problems
    results.append({"jobs": list(jobs), "problems": problems})
print(json.dumps(results, default=list))
"""

SPACE = ("x=interval(0,1)", "n=range(1,6)", "kind=a,b")
FEW = "hydra.sweeper.n_trials=4"
FAILING = (*SPACE, FEW, "fails=[1,2]", "hydra.sweep.dir=failing")
MORE = (*SPACE, "hydra.sweeper.n_trials=6", "hydra.sweep.dir=more")
GRID = ("x=0.1,0.2", "n=range(1,4)", "hydra.sweeper.sampler=grid", "fails=[4]", "hydra.sweep.dir=grid")
SEVERAL = (*SPACE, FEW, "several=true")
REFUSED = "hydra.sweep.dir=refused"
# One after the other, in one process.
SEARCHES: dict[str, tuple[str, ...]] = {
    "first": (*SPACE, FEW, "hydra.sweep.dir=first"),
    "again": (*SPACE, FEW, "hydra.sweep.dir=first"),
    "other seed": (*SPACE, FEW, "hydra.sweep.dir=other", "hydra.sweeper.seed=1"),
    "params": ("+hydra.sweeper.params.x='interval(0,1)'", "+hydra.sweeper.params.n='range(1,6)'", "n=2", FEW),
    "failing": FAILING,
    "failing, resumed": (*FAILING, "sweep.resume=failing"),
    "nothing": ("kind=nothing", "x=interval(0,1)", FEW, "hydra.sweep.dir=nothing"),
    "more": (*SPACE, FEW, "hydra.sweep.dir=more"),
    "more, resumed": (*MORE, "sweep.resume=more"),
    "more, resumed again": (*MORE, "sweep.resume=more"),
    "another space": ("x=interval(0,2)", FEW, "hydra.sweep.dir=more", "sweep.resume=more"),
    "no sweep": (*SPACE, FEW, "sweep.resume=empty", "hydra.sweep.dir=empty"),
    "grid": GRID,
    "grid, resumed": (*GRID, "sweep.resume=grid"),
    "too few directions": (*SEVERAL, "hydra.sweep.dir=several"),
    "several": (*SEVERAL, "hydra.sweep.dir=several", "hydra.sweeper.directions=[maximize,minimize]"),
    "batches": (*SPACE, "hydra.sweeper.n_trials=5", "hydra.sweeper.batch_size=2", "hydra.sweeper.sampler=nsga2"),
    "dry": (*SPACE, FEW, "dry_run=true", "hydra.sweeper.storage=kept"),
    "no space": ("x=1", REFUSED),
    "no trials": (*SPACE, "hydra.sweeper.n_trials=0", "hydra.sweeper.batch_size=0", REFUSED),
    "no direction": (*SPACE, "hydra.sweeper.directions=up", REFUSED),
    "grid of an interval": (*SPACE, "hydra.sweeper.sampler=grid", REFUSED),
    "grid too large": ("n=range(0,30)", "hydra.sweeper.sampler=grid", REFUSED),
    "wrong directions": (*SPACE, "+objective=[a,b]", "hydra.sweeper.directions=[maximize]", REFUSED),
    "pruner": (*SPACE, "+objective=[a,b]", "hydra.sweeper.pruner=median", REFUSED),
    "nodes": (*SPACE, "+distributed.nnodes=2", REFUSED),
}


class Searches:
    """What came of each: its `jobs`, number and overrides, and its `problems`."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "app.py").write_text(APP)
        done = subprocess.run(
            [sys.executable, "app.py", json.dumps(list(SEARCHES.values()))],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        self.results = dict(zip(SEARCHES, json.loads(done.stdout.splitlines()[-1]), strict=True))

    def jobs(self, name: str) -> list[Any]:
        return self.results[name]["jobs"]

    def problem(self, name: str) -> str:
        """The first, of a search without jobs."""
        assert self.jobs(name) == []
        return self.results[name]["problems"][0]

    def trials(self, folder: str) -> list[optuna.trial.FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.folder / folder / "study.journal")))
        return optuna.load_study(study_name="sweep", storage=storage).trials

    def states(self, folder: str) -> list[str]:
        return [trial.state.name for trial in self.trials(folder)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Searches:
    return Searches(tmp_path_factory.mktemp("searches"))


def space(*words: str) -> list[Parameter]:
    return parameters({word.get_key_element(): word for word in OverridesParser.create().parse_overrides(list(words))})


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x=interval(0.1,0.4)", "FloatDistribution(high=0.4, log=False, low=0.1, step=None)"),
        ("x=tag(log,interval(1e-5,1e-2))", "FloatDistribution(high=0.01, log=True, low=1e-05, step=None)"),
        ("x=int(interval(1,8))", "IntDistribution(high=8, log=False, low=1, step=1)"),
        ("x=tag(log,int(interval(1,100)))", "IntDistribution(high=100, log=True, low=1, step=1)"),
        ("x=range(1,8,3)", "IntDistribution(high=7, log=False, low=1, step=3)"),
        ("x=range(8,1,-3)", "IntDistribution(high=8, log=False, low=2, step=3)"),
        ("x=range(0.25,1.1,0.25)", "FloatDistribution(high=1.0, log=False, low=0.25, step=0.25)"),
        ("x=a,b,c", "CategoricalDistribution(choices=('a', 'b', 'c'))"),
        ("x=choice(1,2.5)", "CategoricalDistribution(choices=('1', '2.5'))"),
        ("phase_order=[a,b],[b,a]", "CategoricalDistribution(choices=('[a,b]', '[b,a]'))"),
    ],
)
def test_the_search_space_is_written_as_hydras_sweeps(word: str, expected: str) -> None:
    (parameter,) = space(word, "training.seed=1")
    assert repr(parameter.distribution) == expected


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("x=interval(2,1)", "the interval is empty"),
        ("x=tag(log,interval(0,1))", "must begin above 0"),
        ("x=tag(lg,interval(1,2))", "unknown tag lg; the one tag is log"),
        ("x=tag(log,choice(1,2))", "log is for an interval"),
        ("x=tag(log,range(1,9,2))", "log goes with a step of 1"),
        ("x=range(3,1)", "the range is empty"),
        ("x=1", "nothing to search over"),
    ],
)
def test_a_space_that_is_none_is_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        space(word)
    assert len(error.value.problems) == 1
    assert says in error.value.problems[0]


def test_overrides_have_no_binary_rounding_of_a_step() -> None:
    (parameter,) = space("x=range(0.1,0.75,0.1)")
    assert [parameter.override(point) for point in parameter.points() or []] == [f"x=0.{n}" for n in range(1, 8)]
    (parameter,) = space("x='a b','c=d'")
    assert parameter.override(parameter.points()[1]) == "x='c=d'"  # type: ignore[index]


def test_every_point_of_a_grid() -> None:
    points = list(grid(space("a=1,2", "b=range(0,3)")))
    assert points == [{"a": a, "b": b} for a in ("1", "2") for b in (0, 1, 2)]


def test_a_search_repeats_with_its_seed_and_differs_with_another(ran: Searches) -> None:
    assert ran.jobs("first") == ran.jobs("again") != ran.jobs("other seed")
    assert [number for number, _ in ran.jobs("first")] == [0, 1, 2, 3]
    assert ran.states("first") == ["COMPLETE"] * 4  # the second sweep in the folder began anew
    assert (ran.folder / "first" / "multirun.yaml").is_file()
    best = max(ran.trials("first"), key=lambda trial: trial.value)
    assert f"x={best.params['x']!r}" in ran.jobs("first")[best.number][1]


def test_the_command_line_wins_over_the_space_of_the_configuration(ran: Searches) -> None:
    assert len(ran.jobs("params")) == 4
    assert all("n=2" in overrides for _, overrides in ran.jobs("params"))


def test_failed_jobs_are_failed_trials_and_a_resume_makes_up_for_them(ran: Searches) -> None:
    assert len(ran.jobs("failing")) == 4
    assert [number for number, _ in ran.jobs("failing, resumed")] == [4, 5]
    assert ran.states("failing") == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    trials = ran.trials("failing")
    assert [trials[4].params, trials[5].params] == [trials[1].params, trials[2].params]


def test_a_job_without_an_objective_is_a_failed_trial(ran: Searches) -> None:
    assert (len(ran.jobs("nothing")), ran.states("nothing")) == (4, ["FAIL"] * 4)


def test_a_resumed_search_goes_on_to_the_new_number_of_trials(ran: Searches) -> None:
    assert [number for number, _ in ran.jobs("more, resumed")] == [4, 5]
    assert len({json.dumps(trial.params) for trial in ran.trials("more")}) == 6  # none drawn a second time
    assert ran.jobs("more, resumed again") == []


def test_only_the_same_search_is_resumed(ran: Searches) -> None:
    assert "is a search with other settings" in ran.problem("another space")
    assert "holds no search with Optuna" in ran.problem("no sweep")


def test_a_grid_runs_every_point_and_is_resumed_where_one_failed(ran: Searches) -> None:
    whole = ran.jobs("grid")
    assert len({tuple(overrides) for _, overrides in whole}) == 6
    assert ran.jobs("grid, resumed") == [[6, [*whole[4][1], "sweep.resume=grid"]]]


def test_several_objectives(ran: Searches) -> None:
    assert "1 for the 2 objectives" in ran.results["too few directions"]["problems"][0]
    assert len(ran.jobs("several")) == 4
    assert all(len(trial.values) == 2 for trial in ran.trials("several"))


def test_jobs_are_launched_in_batches(ran: Searches) -> None:
    assert [number for number, _ in ran.jobs("batches")] == [0, 1, 2, 3, 4]


def test_a_dry_run_keeps_no_study(ran: Searches) -> None:
    assert len(ran.jobs("dry")) == 4
    assert not (ran.folder / "kept").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    {
        "no space": "nothing to search over",
        "no trials": "hydra.sweeper.n_trials=0: must be 1 or more; the default is 20",
        "no direction": "up is none; use maximize or minimize",
        "grid of an interval": "x=interval(0,1): a grid needs values that can be counted",
        "grid too large": "the grid has 30 points; set it to 30 or more",
        "wrong directions": "1 for 2 objectives",
        "pruner": "prunes for one objective, not for 2",
        "nodes": "a search starts its jobs on one machine",
    }.items(),
)
def test_settings_that_make_no_search_are_told_before_any_job(ran: Searches, name: str, says: str) -> None:
    assert says in ran.problem(name)
    assert not (ran.folder / "refused").exists()
