"""Importance of the settings of a sweep, by Optuna's PED-ANOVA, which also works for the jobs of a grid.

Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces"
(arXiv 2304.10255).
"""

import warnings
from collections.abc import Sequence

from osftx.config.objective import Direction

ENOUGH_JOBS = 10
"""Smallest number of finished jobs for which the importance is computed; with fewer it would be chance."""
LOG_FROM = 100
"""Ratio of the largest to the smallest value of a setting from which it is compared on a logarithmic scale."""


def importance(
    settings: Sequence[dict[str, str]], values: Sequence[float], towards: Direction
) -> dict[str, float] | None:
    """Returns the share of each setting in the difference between good jobs and the others, the largest first.

    The shares add up to 1. Returns None if they cannot be computed: too few jobs, equal objectives, no setting that
    varies, or no Optuna.
    """
    varying = [key for key in _keys_of_all(settings) if len({job[key] for job in settings}) > 1]
    if len(settings) < ENOUGH_JOBS or len(set(values)) == 1 or not varying:
        return None
    try:
        import optuna
    except ModuleNotFoundError:  # optional: a sweep over a grid does not need it
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution([job[key] for job in settings]) for key in varying}
    study = optuna.create_study(direction=towards.value)
    for job, value in zip(settings, values, strict=True):
        chosen = {
            key: job[key] if isinstance(kind, optuna.distributions.CategoricalDistribution) else float(job[key])
            for key, kind in distributions.items()
        }
        study.add_trial(optuna.trial.create_trial(params=chosen, distributions=distributions, value=value))
    with warnings.catch_warnings():  # the evaluator is experimental, and Optuna warns about that
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _keys_of_all(settings: Sequence[dict[str, str]]) -> list[str]:
    """Returns the keys that all jobs have, in the order of the first job; other keys cannot be compared."""
    return [key for key in (settings[0] if settings else {}) if all(key in job for job in settings)]


def _distribution(texts: list[str]):  # type: ignore[no-untyped-def]  # Optuna's classes come with the late import
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return CategoricalDistribution(sorted(set(texts)))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_FROM)
