"""What a phase validates on, checked before the start: a share of its own samples, or a file."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from osftx.config.phase_spec import ValidationSpec
from osftx.config.phases import ordered_phases
from osftx.config.schedule import unfreeze_ratios
from osftx.config.schema import ExperimentConfig, PhaseConfig
from osftx.config.steps import total_steps
from osftx.data.samples import DataSummary, Prepared, Reader
from osftx.data.splitting import split_samples
from osftx.errors import ConfigurationError


@dataclass
class HeldOut:
    """The two sides of a phase's samples."""

    trained: Prepared
    """What is left to train on; its folder holds both sides."""
    summary: DataSummary
    """Of the samples to validate on."""
    spec: ValidationSpec
    advice: list[str]


def validates(phase: PhaseConfig) -> bool:
    return phase.validation.split is not None or phase.validation.path is not None


def hold_out(config: ExperimentConfig, name: str, data: Prepared, own: int, read: Reader) -> HeldOut:
    """What the phase of this name trains on, and what it validates on.

    `data` is what it would train on without, the first `own` samples not replayed; `read` reads other data, as the
    phase reads its own. Raises ConfigurationError for data that cannot be read or that the phase trains on, for a share
    that leaves nothing on one side, and where nothing is trained or measured.
    """
    phase = config.phases[name]
    settings, key = phase.validation, f"phases.{name}.validation"
    if unfreeze_ratios(config.schedule, ordered_phases(config))[name] == 0 and not config.osft.train_others:
        problem = f"{key}: the phase has unfreeze ratio 0 and trains nothing; set split and path to null, or a ratio"
        raise ConfigurationError([problem])
    held_out = _split(phase, key, data, own) if settings.path is None else _file(phase, key, data, own, read)
    steps = total_steps(phase, held_out.trained.summary.samples)
    every = settings.every_steps
    if every is not None and every > steps and not settings.every_epoch and not settings.at_end:
        problem = (
            f"{key}.every_steps={every}: the phase has {steps} steps, so nothing is measured; set "
            f"{key}.every_steps={steps} or less, or {key}.at_end=true"
        )
        raise ConfigurationError([problem])
    return held_out


def _split(phase: PhaseConfig, key: str, data: Prepared, own: int) -> HeldOut:
    share = phase.validation.split
    assert share is not None
    trained, held_out = split_samples(data.digests, own, share, phase.seed)
    if len(held_out) in (0, own):
        different = len(np.unique(data.digests[:own]))
        problem = (
            f"{key}.split={share}: holds out {len(held_out)} of {own} samples ({different} different), and neither "
            f"side may be empty; give another share, more samples, or a file: {key}.path=FILE"
        )
        raise ConfigurationError([problem])
    return HeldOut(_part(data, trained), _part(data, held_out).summary, _spec(phase, None, own), [])


def _file(phase: PhaseConfig, key: str, data: Prepared, own: int, read: Reader) -> HeldOut:
    path = phase.validation.path
    assert path is not None
    try:
        settings = replace(phase.data, path=path, weights=None, limit=None, split=None, revision=None)
        measured = read(f"{key}.path", settings, phase.max_seq_len, phase.seed)
    except ConfigurationError as error:
        raise ConfigurationError([f"{key}.path: {problem}" for problem in error.problems]) from error
    samples, dropped = measured.summary.samples, measured.summary.dropped
    shared = int(np.isin(measured.digests, data.digests).sum())
    if shared == samples:
        problem = (
            f"{key}.path={path}: the phase trains on all of its {samples} samples; give others, or hold out a share of "
            f"the phase's own: {key}.path=null {key}.split=0.05"
        )
        raise ConfigurationError([problem])
    advice = []
    if shared:
        advice.append(
            f"{key}.path: the phase trains on {shared} of its {samples} samples, on which the loss shows what was "
            "memorised; take them out of one"
        )
    if dropped:
        advice.append(
            f"{key}.path: {dropped} of {samples + dropped} samples are longer than "
            f"{key.removesuffix('validation')}max_seq_len={phase.max_seq_len} and are not measured"
        )
    return HeldOut(data, measured.summary, _spec(phase, measured.folder, own), advice)


def _spec(phase: PhaseConfig, folder: Path | None, own: int) -> ValidationSpec:
    return ValidationSpec(phase.validation, str(folder.resolve()) if folder is not None else None, own)


def _part(data: Prepared, places: np.ndarray) -> Prepared:
    lengths = data.lengths[places]
    summary = replace(data.summary, samples=len(lengths), tokens=int(lengths.sum()), longest_sample=int(lengths.max()))
    return data._replace(summary=summary, lengths=lengths, digests=data.digests[places])
