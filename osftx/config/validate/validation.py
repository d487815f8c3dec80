"""Rules for the validation of a phase: on which data, and when."""

from collections.abc import Iterator

from osftx.config.schema import BestState, ExperimentConfig, ValidationConfig
from osftx.config.validate.ranges import Range, at_least, is_missing, out_of_range

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
    if settings.split is None and settings.path is None:
        for key, default in vars(ValidationConfig()).items():
            value = getattr(settings, key)
            if value != default:
                yield (
                    f"{path}.{key}={value.value if isinstance(value, BestState) else value}: nothing is validated; set "
                    f"{path}.split=0.05 or {path}.path=FILE, or remove it"
                )
    elif settings.every_steps is None and not settings.every_epoch and not settings.at_end:
        yield f"{path}.at_end=False: nothing is ever measured; set it to true, or {path}.every_steps=STEPS"


RULES = (_validation,)
