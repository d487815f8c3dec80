"""Rules for the phases: names, order, data, replay, and the phase at which a run starts."""

import re
from collections.abc import Iterator

from osftx.config.phases import BASE_STATE
from osftx.config.schema import DataConfig, ExperimentConfig, ReplayConfig
from osftx.config.validate.ranges import RATIO, at_least, is_missing, out_of_range

REPLAY_RANGES = {"ratio": RATIO, "samples": at_least(1)}
PHASE_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _phases(config: ExperimentConfig) -> Iterator[str]:
    if not config.phases:
        yield (
            "phases={}: nothing to train; choose +experiment=NAME, "
            "or add +phase@phases.NAME=osft phases.NAME.data.path=FILE"
        )
    for name, phase in config.phases.items():
        path = f"phases.{name}"
        if not PHASE_NAME.fullmatch(name):
            yield f"{path}: must be letters, digits, - or _ (it names the phase's folder); rename the phase"
        if name == BASE_STATE:
            yield f"{path}: is the name of the model before the first phase; rename the phase"
        if is_missing(phase.data.path):
            yield f"{path}.data.path=???: no training data; set {path}.data.path=FILE"


def _replay(config: ExperimentConfig) -> Iterator[str]:
    order = config.phase_order or list(config.phases)
    for name, phase in config.phases.items():
        replay, path = phase.replay, f"phases.{name}.replay"
        if replay.sources and (replay.ratio is None) == (replay.samples is None):
            given = "ratio=null" if replay.ratio is None else f"ratio={replay.ratio}"
            yield (
                f"{path}.{given}: replay needs one of ratio (0 to 1, of each source) and samples (of each source); "
                f"set {path}.ratio=0.01, say, and the other to null"
            )
        if not replay.sources and (replay.ratio is not None or replay.samples is not None):
            yield f"{path}.sources=[]: nothing to replay; name phases or files, or set ratio and samples to null"
        yield from out_of_range(path, replay, REPLAY_RANGES, ReplayConfig())
        before = order[: order.index(name)] if name in order else []
        named = [source for source in replay.sources if not isinstance(source, DataConfig)]
        for source in dict.fromkeys(map(str, named)):
            if is_missing(source):
                yield f"{path}.sources: names an empty source; remove it"
            elif source in config.phases and source not in before:
                allowed = ", ".join(before) or "there is none"
                yield f"{path}.sources: {source} is not an earlier phase ({allowed}); name one, or a file"
            elif named.count(source) > 1:
                yield f"{path}.sources: {source} is named more than once; name each source once"


def _phase_order(config: ExperimentConfig) -> Iterator[str]:
    order = config.phase_order
    if order is not None and sorted(order) != sorted(config.phases):
        names = ", ".join(config.phases)
        yield f"phase_order={order}: must name every phase once ({names}); correct it, or set it to null"


def _starting_point(config: ExperimentConfig) -> Iterator[str]:
    starts = {name: phase.init_from for name, phase in config.phases.items() if phase.init_from is not None}
    for name, checkpoint in starts.items():
        path = f"phases.{name}.init_from={checkpoint}"
        if len(starts) > 1:
            yield f"{path}: a run starts at one phase, not at each of {', '.join(starts)}; keep it on one"
        if is_missing(checkpoint):
            yield f"{path}: names no checkpoint; give a folder, or null"


RULES = (_phases, _replay, _phase_order, _starting_point)
