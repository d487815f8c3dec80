"""The job's side of pruning: reports its objective to Optuna between two phases and asks whether to go on."""

from pathlib import Path

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial

from osftx.sweep.optuna.settings import OptunaSweeperConf
from osftx.sweep.optuna.study import resume_study

PRUNED = "pruned"
"""User attribute of a trial whose job ended early. The sweeper, possibly in another process, reads it."""


def should_end(sweeper: DictConfig, sweep_folder: Path, step: int, value: float) -> bool:
    """Reports the objective `value` after phase `step` (from 1) and returns whether the job should end there.

    `sweeper` is the `hydra.sweeper` of the job. Raises ConfigurationError if the study cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = OptunaSweeperConf(**OmegaConf.to_container(sweeper, resolve=True))  # type: ignore[arg-type]
    study = resume_study(settings, sweep_folder)
    assert settings.trial is not None
    trial = Trial(study, study.get_trials(deepcopy=False)[settings.trial]._trial_id)
    trial.report(value, step)
    if not trial.should_prune():
        return False
    trial.set_user_attr(PRUNED, True)
    return True
