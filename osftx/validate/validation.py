"""What a phase validates on while it trains, and when."""

from collections.abc import Iterator

from osftx.config import BestState, ExperimentConfig, ValidationConfig
from osftx.validate.ranges import Range, at_least, is_missing, out_of_range

VALIDATION_RANGES = {
    "split": Range("above 0 and below 1", lambda value: 0 < value < 1),
    "every_steps": at_least(1),
}


def _validation(config: ExperimentConfig) -> Iterator[str]:
    for name, phase in config.phases.items():
        yield from _problems(f"phases.{name}.validation", phase.validation)


def _problems(path: str, settings: ValidationConfig) -> Iterator[str]:
    yield from out_of_range(path, settings, VALIDATION_RANGES, ValidationConfig())
    if settings.path is not None and is_missing(settings.path):
        yield f"{path}.path=: names no file; give one, or null"
    if settings.split is not None and settings.path is not None:
        yield (
            f"{path}.split={settings.split}: {path}.path={settings.path} says what is validated, too; set one of them "
            "to null"
        )
    never = settings.every_steps is None and not settings.every_epoch and not settings.at_end
    if settings.split is None and settings.path is None:
        yield from _unread(path, settings)
    elif never:
        yield f"{path}.at_end=false: nothing is ever measured; set it to true, or {path}.every_steps=STEPS"


def _unread(path: str, settings: ValidationConfig) -> Iterator[str]:
    """Settings of a validation that is not there."""
    remedy = f"nothing is validated; set {path}.split=0.05 or {path}.path=FILE, or leave it out"
    if settings.best is not BestState.ignore:
        yield f"{path}.best={settings.best.value}: {remedy}"
    if settings.every_steps is not None:
        yield f"{path}.every_steps={settings.every_steps}: {remedy}"
    if settings.every_epoch:
        yield f"{path}.every_epoch=true: {remedy}"


RULES = (_validation,)
