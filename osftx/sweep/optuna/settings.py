"""The settings of a search, `hydra.sweeper` under `hydra/sweeper=optuna`.

Hydra reads them whenever the program starts, so this module does not import Optuna.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Sampler(Enum):
    """Method that chooses the values of the next job."""

    tpe = "tpe"
    """Tree-structured Parzen estimator, whose first ten jobs are drawn at random."""
    random = "random"
    """Independent random draws."""
    nsga2 = "nsga2"
    """Genetic algorithm with populations of fifty jobs, for long searches with several objectives."""
    grid = "grid"
    """Every combination once, for choices and ranges."""


class Pruner(Enum):
    """Rule by which jobs are ended between two phases."""

    none = "none"
    """No job is ended early."""
    median = "median"
    """A job is ended after a phase when its objective is worse than the median of earlier jobs at that phase."""


@dataclass
class OptunaSweeperConf:
    """Keys of `hydra.sweeper`."""

    _target_: str = "hydra_plugins.osftx_optuna.sweeper.OptunaSweeper"
    _convert_: str = "all"
    params: dict[str, Any] = field(default_factory=dict)
    """Search space, KEY: VALUE with Hydra's sweeps: choice(a,b), range(1,5), interval(0.1,0.4),
    tag(log, interval(1e-5,1e-2)), int(interval(1,8)). An override on the command line takes precedence."""
    n_trials: int = 20
    """Number of jobs that must end with an objective or be pruned. A failed job is replaced only when the sweep is
    resumed."""
    directions: Any = None
    """`maximize` or `minimize`, or a list with one for each objective. null chooses what is better for each objective
    (more accuracy; less forgetting, loss, leak and time)."""
    sampler: Sampler = Sampler.tpe
    """Method that chooses the next values: tpe, random, nsga2 or grid."""
    seed: int | None = 42
    """Seed of the sampler: the same seed repeats the same search. With null each search is different."""
    batch_size: int = 1
    """Number of jobs that are passed to the launcher at a time; a parallel launcher runs them concurrently."""
    pruner: Pruner = Pruner.none
    """Rule by which jobs are ended between two phases: none or median. median needs a single objective."""
    storage: str | None = None
    """Where Optuna keeps the study: a journal file or the URL of a database. null uses a file in the sweep folder."""
    study_name: str = "sweep"
    """Name of the study in the storage. Only one sweep at a time may work on a study."""
    trial: int | None = None
    """Number of the job's trial. The sweeper sets it for each job; it must be left at null."""
