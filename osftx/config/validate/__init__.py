"""Checks what the types cannot express: ranges, and rules across keys. All problems are found at once.

A new range is a line in a table of its group's module. A new rule is a function in that module, listed in its `RULES`.
Rules of a method's own settings are in its folder (`methods/`). Whether files exist, and what they contain, is checked
where they are read.
"""

from osftx.config.phases import BASE_STATE
from osftx.config.schema import ExperimentConfig
from osftx.config.validate import (
    callbacks,
    data,
    deepspeed,
    evaluation,
    experiment,
    phases,
    running,
    schedule,
    training,
    validation,
)
from osftx.config.validate.ranges import is_missing

__all__ = ["BASE_STATE", "GROUPS", "is_missing", "problems"]

GROUPS = (experiment, phases, data, training, validation, schedule, running, deepspeed, evaluation, callbacks)


def problems(config: ExperimentConfig) -> list[str]:
    """Returns every problem, one line each: `path=value: what is wrong; the remedy`. Empty if there is none."""
    return [problem for group in GROUPS for rule in group.RULES for problem in rule(config)]
