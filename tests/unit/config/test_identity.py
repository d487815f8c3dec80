"""Which settings do not count: the list itself, and what each use leaves out of a configuration."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from osftx.config.identity import IGNORED, Use, counting, ignored_keys, ignored_phase_keys, without
from osftx.config.schema import ExperimentConfig, TrainingConfig

FIELDS = {field.name for field in fields(TrainingConfig)}


def keys_of(kind: Any, path: str = "") -> set[str]:
    """All keys and groups of the schema; `*` stands for every name."""
    if get_origin(kind) is dict:
        return keys_of(get_args(kind)[1], f"{path}*.")
    if not is_dataclass(kind):
        return set()
    hints = get_type_hints(kind)
    return {f"{path}{name}" for name in hints} | {
        key for name, hint in hints.items() for key in keys_of(hint, f"{path}{name}.")
    }


def test_every_key_of_the_list_is_one_of_the_configuration() -> None:
    listed = {key for entry in IGNORED for key in entry.keys}
    assert listed - keys_of(ExperimentConfig) <= {"callbacks"}


def test_every_entry_has_a_use_and_a_reason() -> None:
    assert all(entry.keys and entry.uses and entry.reason for entry in IGNORED)
    listed = [key for entry in IGNORED for key in entry.keys]
    assert len(listed) == len(set(listed))


def test_training_settings_that_do_not_count_for_a_phase() -> None:
    rounding = {"max_tokens_per_gpu", "activation_checkpointing"}
    assert ignored_phase_keys(Use.PHASE) & FIELDS == rounding | {"max_seq_len", "hand_on_dtype"}
    assert ignored_phase_keys(Use.COMPARISON) & FIELDS == rounding | {"seed"}


def test_what_may_differ_where_a_run_or_a_sweep_goes_on() -> None:
    names = ("node_rank", "rdzv_endpoint", "secret_file", "join_timeout_s")
    place = {f"distributed.{name}" for name in names}
    assert ignored_keys(Use.RUN) == {"plan", "dry_run", "sweep", *place}
    assert ignored_keys(Use.SWEEP) == {"sweep", "dry_run"}


@pytest.mark.parametrize(("use", "counts"), [(Use.PHASE, False), (Use.RUN, True), (Use.SWEEP, True)])
def test_callbacks_count_only_where_a_run_goes_on(use: Use, counts: bool) -> None:
    assert bool(counting({"callbacks": ["mine.Callback"]}, use)) is counts
    assert counting({"callbacks": ["mine.Callback"]}, Use.COMPARISON) == {}


def test_groups_and_single_keys_are_left_out_at_every_depth() -> None:
    settings = {
        "name": "study",
        "phases": {"one": {"seed": 1, "method": "sft"}, "two": {"seed": 2, "data": {"path": "x", "limit": 3}}},
        "distributed": {"node_rank": 1, "nnodes": 2},
        "model": None,
    }
    assert without(settings, ["name", "phases.*.seed", "phases.two.data.path", "model.path"]) == {
        "phases": {"one": {"method": "sft"}, "two": {"data": {"limit": 3}}},
        "distributed": {"node_rank": 1, "nnodes": 2},
        "model": None,
    }
    assert without(settings, ["phases", "distributed"]) == {"name": "study", "model": None}
    assert settings["distributed"] == {"node_rank": 1, "nnodes": 2}
