"""The check between two phases of a job, in which the search may end a job that does badly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from osftx.errors import PrunedError


def between_phases(sweeper: DictConfig, sweep_folder: Path) -> Callable[[dict[str, Any]], None] | None:
    """Returns the check to be called with the results after each phase but the last.

    Returns None if the sweeper (`hydra.sweeper`) does not prune. The check raises PrunedError if the search ends the
    job.
    """
    if sweeper.get("trial") is None:  # a sweeper that prunes sets the trial number of each job
        return None

    def check(results: dict[str, Any]) -> None:
        from osftx.sweep.optuna.pruning import should_end  # imports Optuna, which only a search needs

        done, value = len(results["phases"]), results["objective"]
        if isinstance(value, list):  # it has one element, since a search with several objectives does not prune
            (value,) = value
        if value is not None and should_end(sweeper, sweep_folder, done, value):
            raise PrunedError(
                f"objective {value:.3f} after phase {done} is worse than the median of earlier jobs", results
            )

    return check
