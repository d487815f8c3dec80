"""The settings of a search, and the class that Hydra starts. Hydra imports this at every start: no Optuna here."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from osftx.errors import ConfigurationError


class Sampler(Enum):
    tpe = "tpe"
    """Tree-structured Parzen estimator; its first ten jobs are drawn at random."""
    random = "random"
    nsga2 = "nsga2"
    """Genetic, in populations of fifty jobs: for long searches with several objectives."""
    grid = "grid"
    """Every combination once; for choices and ranges."""


class Pruner(Enum):
    none = "none"
    median = "median"
    """Ends a job after a phase when its objective is worse than the median of earlier jobs at that phase."""


@dataclass
class OptunaSweeperConf:
    _target_: str = "hydra_plugins.osftx_optuna.sweeper.OptunaSweeper"
    _convert_: str = "all"
    params: dict[str, Any] = field(default_factory=dict)
    """The search space, KEY: VALUE with Hydra's sweeps: choice(a,b), range(1,5), interval(0.1,0.4),
    tag(log, interval(1e-5,1e-2)), int(interval(1,8)). The command line wins over it."""
    n_trials: int = 20
    """Jobs that are to end with an objective, or pruned. Failed ones are not made up for before a resume."""
    directions: Any = None
    """`maximize` or `minimize`, or a list with one for each objective; null: what is better for each (more accuracy,
    less forgetting, loss, leak and time)."""
    sampler: Sampler = Sampler.tpe
    """How the next values are chosen: tpe, random, nsga2 or grid."""
    seed: int | None = 42
    """Of the sampler: the same search again. null: another one each time."""
    batch_size: int = 1
    """Jobs that are handed to the launcher at a time; a parallel launcher runs them at once."""
    pruner: Pruner = Pruner.none
    """Whether jobs that do badly are ended between two phases: none or median. Needs one objective."""
    storage: str | None = None
    """Where Optuna keeps the study: a journal file, or a database's URL. null: a file in the sweep folder."""
    study_name: str = "sweep"
    """Name of the study in the storage. One sweep at a time works on it."""
    trial: int | None = None
    """The number of a job's trial. Set by the sweeper for each job; leave it."""


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="osftx")


class OptunaSweeper(Sweeper):
    """Asks Optuna for values, has the launcher run the jobs, tells Optuna their objectives."""

    def __init__(self, **settings: Any) -> None:
        self.settings = OptunaSweeperConf(**settings)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search. Raises ConfigurationError for settings that make none, before any job."""
        try:
            from hydra_plugins.osftx_optuna._search import search
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != "optuna":
                raise
            raise ConfigurationError(
                ["hydra/sweeper=optuna: Optuna is not installed; install it with pip install 'osftx[search]'"]
            ) from error
        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        params = [f"{key}={value}" for key, value in self.settings.params.items()]
        overrides = {override.get_key_element(): override for override in parser.parse_overrides([*params, *arguments])}
        search(self.settings, self.config, overrides, self.launcher, self.validate_batch_is_legal)
