"""Settings that do not count when two configurations are compared: one list for all uses of such a comparison.

A key that is listed for a use is left out of that comparison; every other key counts. Settings that count only for some
methods (a ratio under `osft`, the preserve set of activation-based subspaces) are handled where they are used.
"""

from collections.abc import Iterable, Mapping
from enum import Flag, auto
from typing import Any, NamedTuple


class Use(Flag):
    """Purposes for which configurations are compared."""

    PHASE = auto()
    """Computes the fingerprint under which the store keeps a trained phase (`store/fingerprint.py`)."""
    RUN = auto()
    """Decides whether a run may continue in a folder that already holds a run (`runs/run_folder.py`)."""
    SWEEP = auto()
    """Decides whether a sweep may be resumed (`sweep/resume.py`)."""
    COMPARISON = auto()
    """Decides whether two runs belong to one group, in which only the seeds differ (`compare/groups.py`)."""


class Ignored(NamedTuple):
    """Keys that do not count for some uses, and the reason."""

    keys: tuple[str, ...]
    """Full paths of keys of the configuration; `*` stands for every name, a group for everything in it."""
    uses: Use
    reason: str


EVERY_PHASE = "phases.*."

IGNORED = (
    Ignored(("name",), Use.PHASE | Use.COMPARISON, "a label"),
    Ignored(("output_dir", "store_dir"), Use.PHASE | Use.COMPARISON, "a place"),
    Ignored(("reuse",), Use.PHASE | Use.COMPARISON, "where phases come from"),
    Ignored(("objective",), Use.PHASE | Use.COMPARISON, "read off the results"),
    Ignored(("callbacks",), Use.PHASE | Use.COMPARISON, "observes the training"),
    Ignored(("checkpointing",), Use.PHASE | Use.COMPARISON, "a resumed phase is the same"),
    Ignored(("dry_run",), Use.PHASE | Use.RUN | Use.SWEEP | Use.COMPARISON, "only asks"),
    Ignored(("sweep",), Use.PHASE | Use.RUN | Use.SWEEP | Use.COMPARISON, "how jobs are started"),
    Ignored(("plan",), Use.PHASE | Use.RUN, "estimates of time"),
    Ignored(("inspect_data",), Use.PHASE, "only shows"),
    Ignored(("data",), Use.PHASE, "a place and a number of processes"),
    # The start model and the data count by their content, which is compared separately.
    Ignored(("model.path", "model.revision"), Use.PHASE | Use.COMPARISON, "by content"),
    Ignored((EVERY_PHASE + "init_from",), Use.PHASE | Use.COMPARISON, "by content"),
    Ignored((EVERY_PHASE + "data", EVERY_PHASE + "replay", "preserve.data"), Use.PHASE, "by content"),
    Ignored((EVERY_PHASE + "validation.path",), Use.PHASE, "by content"),
    Ignored((EVERY_PHASE + "max_seq_len",), Use.PHASE, "in the content of the data"),
    Ignored(("evaluation.sets",), Use.PHASE, "by content, in a curve alone"),
    Ignored(("evaluation.lm_eval", "evaluation.generation"), Use.PHASE, "measured after the phase"),
    Ignored(("evaluation",), Use.COMPARISON, "by content of the sets"),
    # Defaults of the whole run, which each phase has taken over.
    Ignored(("training", "schedule", "phase_order"), Use.PHASE | Use.COMPARISON, "taken over by each phase"),
    Ignored((EVERY_PHASE + "hand_on_dtype",), Use.PHASE, "has become `save_dtype`"),
    Ignored((EVERY_PHASE + "seed",), Use.COMPARISON, "differs within a group"),
    # Settings of the machines, and settings that change only the rounding.
    Ignored(
        (EVERY_PHASE + "max_tokens_per_gpu", EVERY_PHASE + "activation_checkpointing"),
        Use.PHASE | Use.COMPARISON,
        "rounding",
    ),
    Ignored(
        (
            "distributed.node_rank",
            "distributed.rdzv_endpoint",
            "distributed.secret_file",
            "distributed.join_timeout_s",
        ),
        Use.PHASE | Use.RUN | Use.COMPARISON,
        "a cluster may start a run again elsewhere",
    ),
    Ignored(
        ("distributed.rdzv_id", "distributed.timeout_s", "distributed.exclusive_devices"),
        Use.PHASE | Use.COMPARISON,
        "how ranks meet",
    ),
    Ignored(
        (
            "distributed.nproc_per_node",
            "distributed.nnodes",
            "distributed.accelerator",
            "distributed.omp_num_threads",
            "distributed.offload",
        ),
        Use.PHASE | Use.COMPARISON,
        "rounding",
    ),
    Ignored(("distributed.deepspeed",), Use.COMPARISON, "rounding"),
    Ignored(("model.trust_remote_code",), Use.COMPARISON, "how the model is read"),
    Ignored(("osft.save_bases",), Use.COMPARISON, "files beside the model"),
)


def ignored_keys(use: Use) -> frozenset[str]:
    """Returns the keys and groups that do not count for a use."""
    return frozenset(key for entry in IGNORED if use in entry.uses for key in entry.keys)


def ignored_phase_keys(use: Use) -> frozenset[str]:
    """Returns the keys of a phase that do not count for a use, without their prefix `phases.NAME.`."""
    return frozenset(key.removeprefix(EVERY_PHASE) for key in ignored_keys(use) if key.startswith(EVERY_PHASE))


def counting(settings: Mapping[str, Any], use: Use) -> dict[str, Any]:
    """Returns a configuration (nested plain data) without the keys that do not count for a use."""
    return without(settings, ignored_keys(use))


def without(settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns a configuration without the given keys and groups; `*` in a key stands for every name."""
    return _without(settings, [key.split(".") for key in keys])


def _without(settings: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    kept = {}
    for key, value in settings.items():
        below = [rest for first, *rest in paths if first in ("*", key)]
        if [] not in below:
            kept[key] = _without(value, below) if below and isinstance(value, Mapping) else value
    return kept
