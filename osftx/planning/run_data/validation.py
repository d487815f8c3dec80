"""Selects and checks what a phase validates on: a share of its own samples, or separate data.

The share is drawn here, once. The ranks get a file with the indices of both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from osftx.config.phase_spec import PhaseSpec, ValidationSpec
from osftx.config.run_layout import SPLIT
from osftx.config.schema import PhaseConfig, ValidationConfig
from osftx.config.steps import total_steps
from osftx.data.samples import DataSummary, Prepared, Reader
from osftx.data.splitting import Split, split_samples
from osftx.errors import ConfigurationError


@dataclass(frozen=True)
class HeldOut:
    """The samples that a phase trains on, and those that it validates on."""

    trained: Prepared
    """Samples that are left to train on. Their folder also holds those that are held out."""
    summary: DataSummary
    """Summary of the validation samples."""
    settings: ValidationConfig
    own_samples: int
    """Number of samples of the phase's own data; replayed samples follow them."""
    samples: Path | None = None
    """Folder of the tokenised validation samples; None if they are held out of the phase's own."""
    split: Split | None = None
    """Indices of both sides if samples are held out of the phase's own; None otherwise."""
    advice: Sequence[str] = ()

    def spec(self, folder: Path) -> ValidationSpec:
        """Returns the validation spec of a phase in `folder`."""
        return ValidationSpec(
            self.settings,
            str(self.samples.resolve()) if self.samples is not None else None,
            self.own_samples,
            str(folder / SPLIT) if self.split is not None else None,
        )

    def save(self, spec: PhaseSpec) -> None:
        """Writes the indices of both sides to the file that the ranks of the phase read."""
        if self.split is not None:
            self.split.save(Path(spec.folder) / SPLIT)


def validates(phase: PhaseConfig) -> bool:
    return phase.validation.split is not None or phase.validation.path is not None


def hold_out(name: str, phase: PhaseConfig, data: Prepared, own: int, read: Reader) -> HeldOut:
    """Returns what the phase `name` trains on, and what it validates on.

    `data` is what the phase would train on without validation; its first `own` samples are not replayed. `read` reads
    separate data. Raises ConfigurationError for data that cannot be read or that the phase trains on, for a share that
    leaves one side empty, and if nothing is ever measured.
    """
    settings, key = phase.validation, f"phases.{name}.validation"
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
    split = split_samples(data.digests, own, share, phase.seed)
    held_out = split.held_out
    if len(held_out) in (0, own):
        different = len(np.unique(data.digests[:own]))
        problem = (
            f"{key}.split={share}: holds out {len(held_out)} of {own} samples ({different} different), and neither "
            f"side may be empty; give another share, more samples, or a file: {key}.path=FILE"
        )
        raise ConfigurationError([problem])
    summary = _part(data, held_out).summary
    return HeldOut(_part(data, split.trained), summary, phase.validation, own, split=split)


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
    return HeldOut(data, measured.summary, phase.validation, own, samples=measured.folder, advice=advice)


def _part(data: Prepared, places: np.ndarray) -> Prepared:
    lengths = data.lengths[places]
    summary = replace(data.summary, samples=len(lengths), tokens=int(lengths.sum()), longest_sample=int(lengths.max()))
    return data._replace(summary=summary, lengths=lengths, digests=data.digests[places])
