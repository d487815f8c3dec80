"""Between two phases of a job: ask the search whether the job is worth going on with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from osftx.errors import PrunedError


def between_phases(sweeper: DictConfig, sweep_folder: Path) -> Callable[[dict[str, Any]], None] | None:
    """What the orchestrator calls after each phase but the last; None where the sweeper (`hydra.sweeper`) never prunes.

    It raises PrunedError when the search ends the job.
    """
    if sweeper.get("trial") is None:  # a sweeper that prunes numbers its jobs' trials
        return None

    def check(results: dict[str, Any]) -> None:
        from hydra_plugins.osftx_optuna._pruning import should_end  # with Optuna, which only a search needs

        done, value = len(results["phases"]), results["objective"]
        if isinstance(value, list):  # one, since a search with several does not prune
            (value,) = value
        if value is not None and should_end(sweeper, sweep_folder, done, value):
            raise PrunedError(
                f"objective {value:.3f} after phase {done} is worse than the median of earlier jobs", results
            )

    return check
