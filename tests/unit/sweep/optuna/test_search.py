"""The Optuna sweeper: the search with a launcher that only computes, and once through the real Hydra. No training."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from checkout import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from osftx.errors import ConfigurationError
from osftx.sweep.optuna.search import search
from osftx.sweep.optuna.settings import OptunaSweeperConf, Pruner, Sampler

SPACE = ("x=interval(0,1)", "n=range(1,6)", "kind=a,b")
BOTH = ["maximize", "minimize"]


class Launcher:
    """Computes each job's objective from its overrides; keeps what it was given."""

    def __init__(self, fails: Sequence[int] = (), several: bool = False):
        self.fails, self.several = fails, several
        self.jobs: list[tuple[str, ...]] = []
        self.numbers: list[int] = []
        self.batches: list[int] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.batches.append(len(job_overrides))
        returned = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            self.jobs.append(tuple(overrides))
            self.numbers.append(number)
            done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            done.return_value = self.objective(dict(word.split("=", 1) for word in overrides))
            if number in self.fails:
                done.status, done.return_value = JobStatus.FAILED, RuntimeError("out of memory")
            returned.append(done)
        return returned

    def objective(self, given: dict[str, str]) -> Any:
        if given.get("kind") == "nothing":
            return None
        x = float(given.get("x", 0))
        value = -((x - 0.3) ** 2) - 0.01 * abs(int(given.get("n", 3)) - 3) + (0.1 if given.get("kind") == "b" else 0)
        return [value, x] if self.several else value


class Searches:
    """Searches in a folder; each returns the launcher that ran its jobs."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(
        self,
        *words: str,
        launcher: Launcher | None = None,
        resume: bool = False,
        config: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Launcher:
        launcher = launcher or Launcher()
        composed = {"sweep": {"resume": str(self.folder) if resume else None}, "dry_run": False, **(config or {})}
        composed["hydra"] = {"sweep": {"dir": str(self.folder)}}
        overrides = {word.get_key_element(): word for word in OverridesParser.create().parse_overrides(list(words))}
        search(
            OptunaSweeperConf(**{"n_trials": 4} | settings),
            OmegaConf.create(composed),
            overrides,
            launcher,  # type: ignore[arg-type]
            lambda batch: None,
        )
        return launcher

    def refused(self, *words: str, **settings: Any) -> str:
        """The first problem of a search that runs no job."""
        launcher = Launcher()
        with pytest.raises(ConfigurationError) as error:
            self(*words, launcher=launcher, **settings)
        assert launcher.jobs == []
        return error.value.problems[0]

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.folder / "study.journal")))
        return optuna.load_study(study_name="sweep", storage=storage).trials

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.trials()]


@pytest.fixture
def searches(tmp_path: Path) -> Searches:
    return Searches(tmp_path)


def test_a_search_repeats_with_its_seed_and_differs_with_another(searches: Searches) -> None:
    first = searches(*SPACE, "seed=1")
    assert first.numbers == [0, 1, 2, 3]
    best = max(searches.trials(), key=lambda trial: trial.value)
    assert first.jobs[best.number] == (f"x={best.params['x']!r}", f"n={best.params['n']}", "kind=b", "seed=1")
    assert (searches.folder / "multirun.yaml").is_file()
    assert searches(*SPACE, "seed=1").jobs == first.jobs
    assert searches.states() == ["COMPLETE"] * 4  # the second sweep in the folder began anew
    assert searches(*SPACE, "seed=1", seed=1).jobs != first.jobs


def test_failed_jobs_are_failed_trials_and_a_resume_makes_up_for_them(searches: Searches) -> None:
    assert len(searches(*SPACE, launcher=Launcher(fails=[1, 2])).jobs) == 4
    assert searches(*SPACE, launcher=Launcher(fails=[4]), resume=True).numbers == [4, 5]
    assert searches(*SPACE, resume=True).numbers == [6]
    assert searches.states() == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    trials = searches.trials()
    assert trials[1].params == trials[4].params == trials[6].params
    assert trials[2].params == trials[5].params


def test_a_job_that_was_running_when_the_sweep_was_broken_off_runs_again(searches: Searches) -> None:
    class Broken(Launcher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            if initial_job_idx == 2:
                raise KeyboardInterrupt
            return super().launch(job_overrides, initial_job_idx)

    with pytest.raises(KeyboardInterrupt):
        searches(*SPACE, launcher=Broken())
    assert searches(*SPACE, resume=True).numbers == [3, 4]
    assert searches.states() == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert searches.trials()[2].params == searches.trials()[3].params


def test_a_job_without_an_objective_is_a_failed_trial(searches: Searches) -> None:
    assert len(searches("kind=nothing", "x=interval(0,1)").jobs) == 4
    assert searches.states() == ["FAIL"] * 4


def test_a_resumed_search_goes_on_to_the_new_number_of_trials(searches: Searches) -> None:
    searches(*SPACE)
    assert searches(*SPACE, "sweep.resume=x", n_trials=6, resume=True).numbers == [4, 5]
    assert len({json.dumps(trial.params) for trial in searches.trials()}) == 6  # none drawn a second time
    assert searches(*SPACE, n_trials=6, resume=True).jobs == []


def test_only_the_same_search_is_resumed(searches: Searches) -> None:
    assert "holds no search with Optuna" in searches.refused(*SPACE, resume=True)
    searches(*SPACE)
    assert "is a search with other settings" in searches.refused("x=interval(0,2)", resume=True)
    assert "is a search with other settings" in searches.refused(*SPACE, directions="minimize", resume=True)


def test_a_grid_runs_every_point_and_is_resumed_where_one_failed(searches: Searches) -> None:
    words = ("x=0.1,0.2", "n=range(1,4)")
    whole = searches(*words, sampler=Sampler.grid, n_trials=20, launcher=Launcher(fails=[4]))
    assert whole.jobs == [(f"x={x}", f"n={n}") for x in ("0.1", "0.2") for n in (1, 2, 3)]
    again = searches(*words, sampler=Sampler.grid, n_trials=20, resume=True)
    assert (again.numbers, again.jobs) == ([6], [whole.jobs[4]])


def test_several_objectives(searches: Searches) -> None:
    with pytest.raises(ConfigurationError, match="1 for the 2 objectives"):
        searches(*SPACE, launcher=Launcher(several=True))
    assert len(searches(*SPACE, launcher=Launcher(several=True), directions=BOTH).jobs) == 4
    assert all(len(trial.values) == 2 for trial in searches.trials())


def test_what_is_better_follows_from_the_objectives(searches: Searches) -> None:
    config = {"objective": ["summary.learning_accuracy", "summary.forgetting"], "evaluation": {"sets": {"base": {}}}}
    searches(*SPACE, launcher=Launcher(several=True), config=config)
    study = optuna.load_study(
        study_name="sweep", storage=JournalStorage(JournalFileBackend(str(searches.folder / "study.journal")))
    )
    assert [towards.name.lower() for towards in study.directions] == BOTH


@pytest.mark.parametrize("sampler", [Sampler.random, Sampler.nsga2, Sampler.tpe])
def test_jobs_are_launched_in_batches(searches: Searches, sampler: Sampler) -> None:
    ran = searches(*SPACE, n_trials=5, batch_size=2, sampler=sampler)
    assert (ran.batches, ran.numbers) == ([2, 2, 1], [0, 1, 2, 3, 4])


def test_the_study_can_be_kept_elsewhere_under_a_name(searches: Searches) -> None:
    storage = f"sqlite:///{searches.folder}/studies.db"
    searches(*SPACE, storage=storage, study_name="mine", n_trials=2)
    assert searches(*SPACE, storage=storage, study_name="mine", n_trials=3, resume=True).numbers == [2]
    assert "choose another name" in searches.refused(*SPACE, storage=storage, study_name="mine")


def test_a_dry_run_keeps_no_study(searches: Searches) -> None:
    ran = searches(*SPACE, config={"dry_run": True}, storage=str(searches.folder / "kept"))
    assert len(ran.jobs) == 4
    assert not (searches.folder / "kept").exists()


@pytest.mark.parametrize(
    ("words", "settings", "says"),
    [
        (["x=1"], {}, "nothing to search over"),
        (SPACE, {"n_trials": 0}, "hydra.sweeper.n_trials=0: must be 1 or more; the default is 20"),
        (SPACE, {"seed": -5}, "hydra.sweeper.seed=-5: must be from 0 to 2147483647, or null"),
        (SPACE, {"storage": "foo://x"}, "hydra.sweeper.storage=foo://x: cannot be opened ("),
        (SPACE, {"storage": "/proc/none/journal"}, "hydra.sweeper.storage=/proc/none/journal: cannot be opened ("),
        (SPACE, {"config": {"objective": "summary.forgetting"}}, "objective=summary.forgetting: has no value without"),
        (SPACE, {"batch_size": 0}, "hydra.sweeper.batch_size=0: must be 1 or more; the default is 1"),
        (SPACE, {"directions": "up"}, "up is none; use maximize or minimize"),
        (SPACE, {"sampler": Sampler.grid}, "x=interval(0,1): a grid needs values that can be counted"),
        (["n=range(0,30)"], {"sampler": Sampler.grid}, "the grid has 30 points; set it to 30 or more"),
        (SPACE, {"config": {"objective": ["a", "b"]}, "directions": ["maximize"]}, "1 for 2 objectives"),
        (SPACE, {"config": {"objective": ["a", "b"]}, "pruner": Pruner.median}, "prunes for one objective, not for 2"),
    ],
)
def test_settings_that_make_no_search_are_told_before_any_job(
    searches: Searches, words: list[str], settings: dict[str, Any], says: str
) -> None:
    assert says in searches.refused(*words, **settings)
    assert list(searches.folder.iterdir()) == []


APP = """
import sys
import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from osftx.sweep.pruning import between_phases
from osftx.errors import PrunedError
from pathlib import Path

config = {"x": 0.0, "n": 5, "defaults": ["_self_", {"override hydra/sweeper": "optuna"}], "hydra": {
    "output_subdir": None, "sweep": {"dir": "sweep", "subdir": "${hydra.job.num}"},
    "sweeper": {"n_trials": 8, "params": {"x": "interval(0,1)", "n": "range(1,5)"}}}}
ConfigStore.instance().store(name="toy", node=config)

@hydra.main(version_base="1.3", config_path=None, config_name="toy")
def job(config):
    this = HydraConfig.get()
    check = between_phases(this.sweeper, Path(this.sweep.dir))
    try:
        for phase in range(2):
            if check is not None:
                check({"phases": [{}] * (phase + 1), "objective": config.x})
    except PrunedError as error:
        print("pruned", this.job.num, error)
    print("job", this.job.num, "x", config.x, "n", config.n)
    return config.x

job()
assert "optuna" in sys.modules
"""


@pytest.mark.process
def test_through_hydra_and_with_pruning(tmp_path: Path) -> None:
    """`hydra/sweeper=optuna` is found as a plugin; the command line wins over `params`; the median prunes."""
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "app.py", "-m", "n=2", "hydra.sweeper.pruner=median"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("job")] == ["2"] * 8
    pruned = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("pruned")]
    assert pruned
    assert min(pruned) >= 5  # the median of five jobs is the first
    states = Searches(tmp_path / "sweep").states()
    assert [number for number, state in enumerate(states) if state == "PRUNED"] == pruned
