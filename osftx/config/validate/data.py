"""Rules for the data of phases, evaluation sets and `preserve.data`, and for the settings of tokenisation."""

import math
from collections.abc import Iterator

from osftx.config.schema import (
    MESSAGE_ROLES,
    DataConfig,
    DataFormat,
    DataProcessingConfig,
    ExperimentConfig,
    SpecialTokens,
    TooLong,
    TrainOn,
)
from osftx.config.validate.ranges import at_least, is_missing, out_of_range

PROCESSING_RANGES = {"num_proc": at_least(1)}
NEEDED_FIELDS = ("messages", "conversations", "role", "from", "content", "value", "input_ids", "labels", "instruction",
                 "output")  # fmt: skip
"""Fields without which a row or a message is none."""
DATA_RANGES = {"block_size": at_least(2), "limit": at_least(1)}


def _processing(config: ExperimentConfig) -> Iterator[str]:
    yield from out_of_range("data", config.data, PROCESSING_RANGES, DataProcessingConfig())
    if config.data.processing_dir is not None and not config.data.processing_dir.strip():
        yield "data.processing_dir=: names no folder; give one, or null"


def _data(config: ExperimentConfig) -> Iterator[str]:
    for name, phase in config.phases.items():
        length = (f"phases.{name}.max_seq_len", phase.max_seq_len)
        yield from _problems(f"phases.{name}.data", phase.data, *length)
        if phase.validation.path is not None:
            yield from _path_problems(f"phases.{name}.validation", DataConfig(path=phase.validation.path))
        for place, source in enumerate(phase.replay.sources):
            if not isinstance(source, DataConfig | str):
                yield f"phases.{name}.replay.sources: {source} must be a phase, a path or a name; correct it"
            if isinstance(source, DataConfig):
                yield from _problems(f"phases.{name}.replay.sources[{place}]", source, *length)
                if is_missing(source.path):
                    yield f"phases.{name}.replay.sources[{place}].path=: no data; give it a path"
    longest = ("training.max_seq_len", config.training.max_seq_len)
    yield from _problems("preserve.data", config.preserve.data, *longest)
    for name, evaluation_set in config.evaluation.sets.items():
        yield from _problems(f"evaluation.sets.{name}", evaluation_set, *longest)


def _problems(path: str, data: DataConfig, length_key: str, max_seq_len: int) -> Iterator[str]:
    yield from _path_problems(path, data)
    yield from out_of_range(path, data, DATA_RANGES, DataConfig())
    if is_missing(data.document_column):
        yield f"{path}.document_column=: names no column; the default is document"
    for_documents = data.format in (DataFormat.auto, DataFormat.documents)
    if data.block_size is not None and not for_documents:
        yield (
            f"{path}.block_size={data.block_size}: not read with format={data.format.value}, since blocks are cut from "
            f"documents; set {path}.block_size=null"
        )
    if data.block_size is not None and data.block_size > max_seq_len:
        yield (
            f"{path}.block_size={data.block_size}: longer than {length_key}={max_seq_len}, so every block would be "
            f"dropped; set {path}.block_size={max_seq_len} or less"
        )
    for_conversations = data.format in (DataFormat.auto, DataFormat.messages)
    if data.train_on is not TrainOn.assistant and not for_conversations:
        yield (
            f"{path}.train_on={data.train_on.value}: not read with format={data.format.value}, of which everything, or "
            "what the labels say, is trained on; remove it"
        )
    if data.special_tokens is not SpecialTokens.as_text and data.format is DataFormat.tokenized:
        yield (
            f"{path}.special_tokens={data.special_tokens.value}: not read with format=tokenized, whose rows are token "
            "ids already; remove it"
        )
    if data.too_long is not TooLong.drop and (data.format is DataFormat.tokenized or data.block_size is not None):
        reason = "format=tokenized" if data.block_size is None else f"block_size={data.block_size}"
        yield f"{path}.too_long={data.too_long.value}: not read with {reason}, where no turns are known; remove it"
    yield from _name_problems(path, data)


def _name_problems(path: str, data: DataConfig) -> Iterator[str]:
    """Yields problems of the names of roles and of fields."""
    for name, role in data.roles.items():
        if not str(name).strip():
            yield f"{path}.roles={data.roles}: a name is blank; remove it"
        if role not in MESSAGE_ROLES:
            yield f"{path}.roles={{{name}: {role}}}: must be one of {', '.join(MESSAGE_ROLES)}; correct it"
    if wrong := [name for name in data.ignore_fields if not name.strip()]:
        yield f"{path}.ignore_fields={data.ignore_fields}: has the blank name {wrong[0]!r}; remove it"
    needed = {*NEEDED_FIELDS, data.document_column}
    for name in data.ignore_fields:
        if name in needed:
            yield f"{path}.ignore_fields={data.ignore_fields}: {name} is what samples are made of; remove it"


def _path_problems(path: str, data: DataConfig) -> Iterator[str]:
    """Yields problems of a path and its weights. A missing path is reported where it is required."""
    if is_missing(data.path):
        return
    paths = data.path if isinstance(data.path, list) else [data.path]
    if not paths or not all(isinstance(one, str) and one.strip() for one in paths):
        yield f"{path}.path={data.path}: must be a path or a name, or a list of them; correct it"
    if data.weights is None:
        return
    weights = f"{path}.weights={data.weights}"
    if not isinstance(data.path, list):
        yield f"{weights}: is for a list of paths, but {path}.path is one; remove weights"
    elif len(data.weights) != len(paths):
        yield f"{weights}: {len(data.weights)} for {len(paths)} paths; give one for each"
    if not all(0 <= weight < math.inf for weight in data.weights):
        yield f"{weights}: each must be 0 or more; correct those that are not"
    elif not any(data.weights):
        yield f"{weights}: leaves nothing; give at least one of them a weight above 0"


RULES = (_processing, _data)
