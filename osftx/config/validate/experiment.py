"""Rules for the experiment's name, its start model and attention, and for `inspect_data`."""

import re
from collections.abc import Iterator

from osftx.config.schema import Accelerator, ExperimentConfig
from osftx.config.validate.ranges import is_missing

EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
CPU_ATTENTION = ("auto", "varlen_sdpa", "sdpa", "eager")
ATTENTION = (*CPU_ATTENTION, "flash_attention_2", "flex_attention")


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


def _inspection(config: ExperimentConfig) -> Iterator[str]:
    if config.inspect_data is not None and config.inspect_data < 0:
        yield f"inspect_data={config.inspect_data}: must be 0 or more samples of each source, or null to train"


RULES = (_experiment_name, _model, _inspection)
