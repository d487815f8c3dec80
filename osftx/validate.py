"""What the types cannot say: ranges, and rules across keys. Every problem is found at once.

A new range is a line in `TRAINING_RANGES`, `SCHEDULE_RANGES` or `DISTRIBUTED_RANGES`; a new rule is one
function, named in `RULES`.
Whether files exist, and what is in them, is checked where they are read.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import MISSING

from osftx.config import (
    Accelerator,
    CheckpointingConfig,
    DistributedConfig,
    EvaluationConfig,
    ExperimentConfig,
    LmEvalConfig,
    Method,
    OsftConfig,
    PhaseConfig,
    PreserveConfig,
    RankAllocation,
    ReplayConfig,
    ScheduleConfig,
    ScheduleKind,
    TrainingConfig,
)
from osftx.objectives import OBJECTIVE, as_list, terms


class Range(NamedTuple):
    words: str
    """What is allowed, to follow `must be`."""
    allows: Callable[[float], bool]
    """Written so that NaN is never allowed."""


def at_least(low: float) -> Range:
    return Range(f"{low:g} or more", lambda value: low <= value < math.inf)


def above(low: float) -> Range:
    return Range(f"above {low:g}", lambda value: low < value < math.inf)


def between(low: float, high: float) -> Range:
    return Range(f"from {low:.10g} to {high:.10g}", lambda value: low <= value <= high)


DECAY = Range("from 0 to below 1", lambda value: 0 <= value < 1)
RATIO = between(0, 1)

TRAINING_RANGES = {
    "num_epochs": at_least(1),
    "effective_batch_size": at_least(1),
    "max_seq_len": at_least(2),  # the first token has no loss
    "learning_rate": above(0),
    "warmup_steps": at_least(0),
    "beta1": DECAY,
    "beta2": DECAY,
    "eps": above(0),
    "weight_decay": at_least(0),
    "max_grad_norm": at_least(0),
    "seed": between(0, 2**32 - 1),  # what numpy takes
}
SCHEDULE_RANGES = {
    "initial": RATIO,
    "reduction": RATIO,
    "factor": RATIO,
    "minimum": RATIO,
}
# The keys that decide the ratios of each kind (schedule.py).
SCHEDULE_READS: dict[ScheduleKind, set[str]] = {
    ScheduleKind.progressive: {"initial", "reduction", "minimum"},
    ScheduleKind.geometric: {"initial", "factor", "minimum"},
    ScheduleKind.constant: {"initial"},
    ScheduleKind.explicit: {"ratios"},
}
PRESERVE_RANGES = {"max_tokens": at_least(1)}
REPLAY_RANGES = {"ratio": RATIO, "samples": at_least(1)}
EVALUATION_RANGES = {"every_steps": at_least(1)}
LM_EVAL_RANGES = {
    "num_fewshot": at_least(0),
    "limit": at_least(1),
    "batch_size": at_least(1),
    "timeout_s": at_least(1),
}
OSFT_RANGES = {"minimum_retention": RATIO}
CHECKPOINTING_RANGES = {
    "every_minutes": above(0),
    "every_steps": at_least(1),
    "keep": at_least(1),
    "grace_s": at_least(1),
}
DISTRIBUTED_RANGES = {
    "nproc_per_node": at_least(1),
    "nnodes": at_least(1),
    "rdzv_id": at_least(0),
    "omp_num_threads": at_least(1),
    "timeout_s": at_least(1),
}

# transformers' schedules that need only the step counts, and the `lr_scheduler_kwargs` that each one reads
# (transformers/optimization.py); others would be dropped silently, or fail after the ranks are up.
LR_SCHEDULERS: dict[str, set[str]] = {
    "linear": set(),
    "cosine": {"num_cycles"},
    "cosine_with_restarts": {"num_cycles"},
    "polynomial": {"lr_end", "power"},
    "constant": set(),
    "constant_with_warmup": set(),
    "inverse_sqrt": {"timescale"},
    "cosine_with_min_lr": {"num_cycles", "min_lr", "min_lr_rate"},
    "warmup_stable_decay": {
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        "num_cycles",
    },
}
ATTENTION = ("sdpa", "flash_attention_2", "flex_attention", "eager")
CPU_ATTENTION = ("sdpa", "eager")

HIGHEST_PORT = 65535
PHASE_NAME = re.compile(r"[A-Za-z0-9_-]+")
EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
BASE_STATE = "base"
"""The name of the model before the first phase, in results and in `learned_in`."""


def problems(config: ExperimentConfig) -> list[str]:
    """Every problem, one line each: `path=value: what is wrong; the remedy`. Empty when there is none."""
    return [problem for rule in RULES for problem in rule(config)]


def _experiment_name(config: ExperimentConfig) -> Iterator[str]:
    if not EXPERIMENT_NAME.fullmatch(config.name):
        yield f"name={config.name}: must be letters, digits, - _ . (it names the run folder); set name=NAME"


def _model(config: ExperimentConfig) -> Iterator[str]:
    if is_missing(config.model.path):
        yield "model.path=???: no model; set model.path=FOLDER_OR_HUB_NAME, or choose one such as model=tiny"
    attention = config.model.attn_implementation
    path = f"model.attn_implementation={attention}"
    if attention not in ATTENTION:
        yield f"{path}: unknown; use one of {', '.join(ATTENTION)}"
    elif config.distributed.accelerator is Accelerator.cpu and attention not in CPU_ATTENTION:
        yield f"{path}: does not train on a CPU; use one of {', '.join(CPU_ATTENTION)}"


def _training(config: ExperimentConfig) -> Iterator[str]:
    on_cpu = config.distributed.accelerator is Accelerator.cpu
    defaults = list(_training_problems("training", config.training, on_cpu))
    yield from defaults
    for name, phase in config.phases.items():
        for problem in _training_problems(f"phases.{name}", phase, on_cpu):
            # What a phase inherits has been said at the defaults.
            if problem.replace(f"phases.{name}.", "training.") not in defaults:
                yield problem


def _training_problems(path: str, settings: TrainingConfig | PhaseConfig, on_cpu: bool) -> Iterator[str]:
    """`settings` is the `training` group or a phase, which has the same keys; `path` is its place."""
    yield from _out_of_range(path, settings, TRAINING_RANGES, TrainingConfig())
    longest, room = settings.max_seq_len, settings.max_tokens_per_gpu
    if longest > room:
        yield (
            f"{path}.max_tokens_per_gpu={room}: too few for a sample of max_seq_len={longest}; "
            f"set {path}.max_tokens_per_gpu={longest} or more, or {path}.max_seq_len={room} or less"
        )
    if on_cpu and settings.use_liger:
        yield (
            f"{path}.use_liger=true: Liger's kernels need a GPU, but distributed.accelerator=cpu; "
            f"set {path}.use_liger=false"
        )
    yield from _lr_scheduler_problems(path, settings)


def _lr_scheduler_problems(path: str, settings: TrainingConfig | PhaseConfig) -> Iterator[str]:
    scheduler, kwargs = settings.lr_scheduler, settings.lr_scheduler_kwargs
    if scheduler not in LR_SCHEDULERS:
        yield f"{path}.lr_scheduler={scheduler}: unknown; use one of {', '.join(LR_SCHEDULERS)}"
        return
    # Set whole: `++phases.x.lr_scheduler_kwargs.y=1` would follow the interpolation and reach every phase.
    set_kwargs = f"set ++{path}.lr_scheduler_kwargs"
    if unread := sorted(kwargs.keys() - LR_SCHEDULERS[scheduler]):
        allowed = ", ".join(sorted(LR_SCHEDULERS[scheduler])) or "no arguments"
        yield f"{path}.lr_scheduler_kwargs={kwargs}: {scheduler} takes {allowed}; remove {', '.join(unread)}"
    if scheduler == "constant" and settings.warmup_steps > 0:
        yield (
            f"{path}.warmup_steps={settings.warmup_steps}: lr_scheduler=constant has no warm-up; "
            f"set {path}.lr_scheduler=constant_with_warmup, or {path}.warmup_steps=0"
        )
    if scheduler == "cosine_with_min_lr" and len(kwargs.keys() & {"min_lr", "min_lr_rate"}) != 1:
        yield (
            f"{path}.lr_scheduler_kwargs={kwargs}: cosine_with_min_lr needs one of min_lr, min_lr_rate; "
            f"{set_kwargs}={{min_lr_rate:0.1}}"
        )
    if scheduler == "warmup_stable_decay" and "num_decay_steps" not in kwargs:
        yield (
            f"{path}.lr_scheduler_kwargs={kwargs}: warmup_stable_decay needs num_decay_steps; "
            f"{set_kwargs}={{num_decay_steps:STEPS}}"
        )


def _schedule(config: ExperimentConfig) -> Iterator[str]:
    schedule, defaults = config.schedule, ScheduleConfig()
    read = SCHEDULE_READS[schedule.kind]
    ranges = {key: allowed for key, allowed in SCHEDULE_RANGES.items() if key in read}
    yield from _out_of_range("schedule", schedule, ranges, defaults)
    for key, default in vars(defaults).items():
        value = getattr(schedule, key)
        if key not in ("kind", *read) and value != default:
            readers = " or ".join(kind.name for kind, keys in SCHEDULE_READS.items() if key in keys)
            yield (
                f"schedule.{key}={value}: not read by schedule.kind={schedule.kind.name}; "
                f"remove it, or set schedule.kind={readers}"
            )
    if "minimum" in read and schedule.minimum > schedule.initial:
        yield (
            f"schedule.minimum={schedule.minimum}: above schedule.initial={schedule.initial}, "
            f"which would have no effect; set schedule.minimum={schedule.initial} or less"
        )


def _explicit_ratios(config: ExperimentConfig) -> Iterator[str]:
    kind, ratios = config.schedule.kind, config.schedule.ratios
    path = f"schedule.ratios={ratios}"
    if kind is not ScheduleKind.explicit:
        return
    count = sum(phase.method is Method.osft for phase in config.phases.values())
    if len(ratios) != count:
        yield f"{path}: {len(ratios)} for {count} OSFT phases; give {count}, in the order of the phases"
    if not all(RATIO.allows(ratio) for ratio in ratios):
        yield f"{path}: each must be {RATIO.words}; correct those outside"


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
        ratio = phase.unfreeze_rank_ratio
        if ratio is not None and phase.method is Method.sft:
            yield f"{path}.unfreeze_rank_ratio={ratio}: sft trains every weight; set it to null"
        elif ratio is not None and not RATIO.allows(ratio):
            yield f"{path}.unfreeze_rank_ratio={ratio}: must be {RATIO.words}, or null to follow schedule"


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
        yield from _out_of_range(path, replay, REPLAY_RANGES, ReplayConfig())
        before = order[: order.index(name)] if name in order else []
        for source in dict.fromkeys(replay.sources):
            if is_missing(source):
                yield f"{path}.sources: names an empty source; remove it"
            elif source in config.phases and source not in before:
                allowed = ", ".join(before) or "there is none"
                yield f"{path}.sources: {source} is not an earlier phase ({allowed}); name one, or a file"
            elif replay.sources.count(source) > 1:
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


def _target_patterns(config: ExperimentConfig) -> Iterator[str]:
    patterns = config.osft.target_patterns
    if patterns is None:
        return
    if not patterns:
        yield "osft.target_patterns=[]: no targets; give patterns, or null for those of the model's family"
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"osft.target_patterns={pattern}: not a regular expression ({error}); correct it"


def _rank_allocation(config: ExperimentConfig) -> Iterator[str]:
    osft = config.osft
    yield from _out_of_range("osft", osft, OSFT_RANGES, OsftConfig())
    uniform = osft.rank_allocation is RankAllocation.uniform
    if uniform and osft.minimum_retention != OsftConfig().minimum_retention:
        yield (
            f"osft.minimum_retention={osft.minimum_retention}: not read by osft.rank_allocation=uniform; remove it, or "
            "set osft.rank_allocation=layer_importance"
        )


def _preserve(config: ExperimentConfig) -> Iterator[str]:
    yield from _out_of_range("preserve", config.preserve, PRESERVE_RANGES, PreserveConfig())


def _checkpointing(config: ExperimentConfig) -> Iterator[str]:
    yield from _out_of_range("checkpointing", config.checkpointing, CHECKPOINTING_RANGES, CheckpointingConfig())


def _store(config: ExperimentConfig) -> Iterator[str]:
    if config.reuse and not config.store_dir.strip():
        yield "store_dir=: names no folder; give one, or set reuse=false"


def _distributed(config: ExperimentConfig) -> Iterator[str]:
    distributed = config.distributed
    nodes = distributed.nnodes
    yield from _out_of_range("distributed", distributed, DISTRIBUTED_RANGES, DistributedConfig())
    if not 0 <= distributed.node_rank < max(nodes, 1):
        yield (
            f"distributed.node_rank={distributed.node_rank}: must be 0 to {max(nodes, 1) - 1} "
            f"(distributed.nnodes={nodes}); give each node its own"
        )
    if nodes > 1 and config.output_dir is None:
        yield (
            f"output_dir=null: with distributed.nnodes={nodes} all nodes must write to one folder; "
            "set output_dir to a folder that all of them see"
        )


def _rendezvous(config: ExperimentConfig) -> Iterator[str]:
    endpoint, nodes = config.distributed.rdzv_endpoint, config.distributed.nnodes
    path = f"distributed.rdzv_endpoint={endpoint or MISSING}"
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > HIGHEST_PORT:
        yield (
            f"{path}: must be HOST:PORT with a port of 0 to {HIGHEST_PORT}; "
            "set distributed.rdzv_endpoint=FIRST_NODE:29500 (127.0.0.1:29500 on one machine)"
        )
    elif int(port) == 0 and nodes > 1:
        yield f"{path}: port 0 is a free one, which other nodes cannot know; name one, as {host}:29500"


def _evaluation(config: ExperimentConfig) -> Iterator[str]:
    yield from _out_of_range("evaluation", config.evaluation, EVALUATION_RANGES, EvaluationConfig())
    if config.evaluation.every_steps is not None and not config.evaluation.sets:
        yield (
            f"evaluation.every_steps={config.evaluation.every_steps}: there is no evaluation set to measure; choose "
            "evaluation=NAME, or set it to null"
        )
    states = (BASE_STATE, *config.phases)
    for name, evaluation_set in config.evaluation.sets.items():
        path = f"evaluation.sets.{name}"
        learned_in = evaluation_set.learned_in
        if is_missing(evaluation_set.path):
            yield f"{path}.path=???: no evaluation data; set {path}.path=FILE"
        if learned_in is not None and learned_in not in states:
            yield f"{path}.learned_in={learned_in}: no such phase; use one of {', '.join(states)}, or null"


def _lm_eval(config: ExperimentConfig) -> Iterator[str]:
    settings, path = config.evaluation.lm_eval, "evaluation.lm_eval"
    yield from _out_of_range(path, settings, LM_EVAL_RANGES, LmEvalConfig())
    for name in dict.fromkeys(settings.tasks):
        if is_missing(name.strip()):
            yield f"{path}.tasks={settings.tasks}: names an empty task; remove it"
        elif settings.tasks.count(name) > 1:
            yield f"{path}.tasks={settings.tasks}: {name} is named more than once; name each task once"
    if settings.tasks and config.distributed.nnodes > 1:
        yield (
            f"{path}.tasks={settings.tasks}: one process measures them between two phases, and with "
            f"distributed.nnodes={config.distributed.nnodes} the other nodes would wait for it until "
            f"distributed.timeout_s; set {path}.tasks=[], and give the checkpoints to `lm_eval --model hf` afterwards"
        )


def _objective(config: ExperimentConfig) -> Iterator[str]:
    objectives = as_list(config.objective)
    if not objectives:
        yield "objective=[]: names nothing; use summary.average_accuracy, or several as [PATH,PATH]"
    for objective in objectives:
        try:
            paths = [path for _, path in terms(objective)] if isinstance(objective, str) else [objective]
        except ValueError as error:
            yield (
                f"objective={objective}: {error}; give a path of results.json, or a sum of them with weights, such as "
                "summary.learning_accuracy - 0.5*summary.forgetting"
            )
            continue
        for path in paths:
            yield from _objective_problems(config, path)
    for objective in sorted({str(objective) for objective in objectives if objectives.count(objective) > 1}):
        yield f"objective={objective}: named twice; name each objective once"


def _objective_problems(config: ExperimentConfig, objective: Any) -> Iterator[str]:
    path = f"objective={objective}"
    match = OBJECTIVE.fullmatch(objective) if isinstance(objective, str) else None
    if match is None:
        yield (
            f"{path}: no number of results.json; use summary.average_accuracy, summary.learning_accuracy, "
            "summary.forgetting, summary.backward_transfer, phases.I.duration_s, or "
            "retention.metrics.exact_match.STATE.SET, retention.benchmarks.values.STATE.TASK with numbers for I, "
            "STATE, SET, TASK; several as [PATH,PATH]"
        )
        return
    order = config.phase_order or list(config.phases)
    starts = [place for place, name in enumerate(order) if name in config.phases and config.phases[name].init_from]
    running = len(order) - min(starts, default=0)  # phases before an init_from have no results
    states = "states (the base, then after each phase)"
    for group, word, what, count in (
        ("phase", "phase", "phases of the run", running),
        ("state", "state", states, running + 1),
        ("set", "set", "evaluation sets", len(config.evaluation.sets)),
        ("row", "state", states, running + 1),
        ("task", "task", "tasks of evaluation.lm_eval", len(config.evaluation.lm_eval.tasks)),
    ):
        if match[group] is not None and int(match[group]) >= count:
            remedy = f"use 0 to {count - 1}" if count else "choose another objective"
            yield f"{path}: no {word} {match[group]} among the {count} {what}; {remedy}"


RULES: tuple[Callable[[ExperimentConfig], Iterator[str]], ...] = (
    _experiment_name,
    _model,
    _phases,
    _replay,
    _phase_order,
    _starting_point,
    _schedule,
    _explicit_ratios,
    _training,
    _rank_allocation,
    _target_patterns,
    _preserve,
    _checkpointing,
    _store,
    _distributed,
    _rendezvous,
    _evaluation,
    _lm_eval,
    _objective,
)


def _out_of_range(path: str, settings: Any, ranges: Mapping[str, Range], defaults: Any) -> Iterator[str]:
    for key, allowed in ranges.items():
        value = getattr(settings, key)
        if value is not None and not allowed.allows(value):
            default = getattr(defaults, key)
            usual = "null" if default is None else default
            yield f"{path}.{key}={value}: must be {allowed.words}; the default is {usual}"


def is_missing(text: str) -> bool:
    """Empty after `conversion.typed`, MISSING in a config that was built in Python."""
    return text in ("", MISSING)
