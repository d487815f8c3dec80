"""Mixes replayed samples into the data of a phase, and checks whether training data contains evaluation samples."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from osftx.config.schema import DataConfig, ExperimentConfig
from osftx.data.mixing import mix, replayed_samples
from osftx.data.samples import Prepared, Reader
from osftx.errors import ConfigurationError


def with_replay(
    config: ExperimentConfig, name: str, own: Prepared, read: Reader, folder: Path | None
) -> tuple[Prepared, dict[str, int], list[str]]:
    """Returns the samples of a phase with replayed ones, the number of samples from each source, and advice.

    `own` is the phase's own data; `read` reads other data. The result is written into `folder` if given. The data of an
    earlier phase is read with that phase's data settings and seed. Raises ConfigurationError for a source that cannot
    be read, is too small, repeats another source, or is the phase's own data.
    """
    phase = config.phases[name]
    replay, key = phase.replay, f"phases.{name}.replay"
    chosen: dict[str, tuple[Prepared, int]] = {}
    known: dict[str, str] = {}
    problems: list[str] = []
    advice: list[str] = []
    for source, data, seed in _sources(config, name):
        try:
            samples = read(f"{key}.sources: {source}", data, phase.max_seq_len, seed)
        except ConfigurationError as error:
            problems += [f"{key}.sources: {problem}" for problem in error.problems]
            continue
        if samples.content == own.content:
            problems.append(f"{key}.sources: {source} is what the phase itself trains on; name earlier data")
            continue
        if samples.content in known:
            same = known[samples.content]
            problems.append(f"{key}.sources: {source} has the content of {same}; leave one of them out")
            continue
        known[samples.content] = source
        available, dropped = samples.summary.samples, samples.summary.dropped
        if dropped:
            advice.append(
                f"{key}.sources: {dropped} of the {available + dropped} samples of {source} are longer than "
                f"phases.{name}.max_seq_len={phase.max_seq_len} and are not replayed"
            )
        if replay.samples is not None and replay.samples > available:
            problems.append(
                f"{key}.samples={replay.samples}: {source} has {available} samples of up to "
                f"phases.{name}.max_seq_len={phase.max_seq_len} tokens; ask for fewer, or for a share: ratio=1"
            )
            continue
        chosen[source] = samples, replayed_samples(available, replay.ratio, replay.samples)
    if problems:
        raise ConfigurationError(problems)
    counts = {source: count for source, (_, count) in chosen.items()}
    mixed = mix(own, list(chosen.values()), phase.seed, folder) if any(counts.values()) else own
    return mixed, counts, advice


def _sources(config: ExperimentConfig, name: str) -> Iterator[tuple[str, DataConfig, int]]:
    """Yields (name, data settings, seed that draws by its weights) of each source that a phase replays."""
    phase = config.phases[name]
    for source in phase.replay.sources:
        if isinstance(source, DataConfig):
            yield str(source.path), source, phase.seed
        elif source in config.phases:
            earlier = config.phases[source]
            yield source, earlier.data, earlier.seed
        else:
            yield source, DataConfig(path=source), phase.seed


def overlap_advice(evaluation: Mapping[str, Prepared], training: Mapping[str, Prepared]) -> list[str]:
    """Returns one line for each evaluation set and phase that trains on samples of it.

    Samples are the same if all their tokens are, prompt and answer.
    """
    lines = []
    for name, asked in evaluation.items():
        for phase, trained in training.items():
            shared = int(np.isin(asked.digests, trained.digests).sum())
            if shared:
                every = "all" if shared == len(asked.digests) else "some"
                lines.append(
                    f"evaluation set {name}: phase {phase} trains on {shared} of its {len(asked.digests)} samples, so "
                    f"it shows what was memorised, not only what was learned; take {every} of them out of one"
                )
    return lines
