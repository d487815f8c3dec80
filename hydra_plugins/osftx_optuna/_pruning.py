"""A job's side of pruning: tell Optuna how it stands between two phases, and hear whether to go on."""

from pathlib import Path

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial

from hydra_plugins.osftx_optuna import _study
from hydra_plugins.osftx_optuna.sweeper import OptunaSweeperConf

PRUNED = "pruned"
"""Attribute of a trial whose job ended early, for the sweeper, which may be in another process."""


def should_end(sweeper: DictConfig, sweep_folder: Path, step: int, value: float) -> bool:
    """Report the objective after phase `step` (from 1); whether the job should end there.

    `sweeper` is the `hydra.sweeper` of the job.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = OptunaSweeperConf(**OmegaConf.to_container(sweeper, resolve=True))  # type: ignore[arg-type]
    study = _study.go_on(settings, sweep_folder)
    assert settings.trial is not None
    trial = Trial(study, study.get_trials(deepcopy=False)[settings.trial]._trial_id)
    trial.report(value, step)
    if not trial.should_prune():
        return False
    trial.set_user_attr(PRUNED, True)
    return True
