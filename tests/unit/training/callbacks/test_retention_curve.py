"""The points of the curve: when they are measured, and which are kept when a phase resumes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
from callback_status import status

from osftx.training.callbacks.retention_curve import Evaluation, RetentionCurve


@pytest.fixture(autouse=True)
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def curve_in(folder: Path, told: list[int]) -> RetentionCurve:
    """A point every two steps; its loss is the number of steps."""

    def measure(steps: int) -> Evaluation:
        return {"set": {"loss": float(steps)}}

    return RetentionCurve(folder, 2, measure, lambda steps, _: told.append(steps))


def point(step: int) -> dict[str, object]:
    return {"step": step, "evaluation": {"set": {"loss": float(step)}}}


def test_every_so_many_steps_but_not_after_the_last(tmp_path: Path) -> None:
    told: list[int] = []
    curve = curve_in(tmp_path, told)
    curve.on_phase_start(status(total_steps=6))
    for step in range(1, 7):
        curve.on_step(status(total_steps=6, steps=step), {})
    assert curve.points() == [point(2), point(4)]
    assert told == [2, 4]


@pytest.mark.parametrize(
    ("known", "resumed_at", "measured"),
    [([2, 4], 3, []), ([2], 4, [4]), ([2, 4], 4, []), ([2, 4], 0, []), ([2], 6, [])],
)
def test_a_phase_that_resumes_has_the_points_up_to_there(
    tmp_path: Path, known: list[int], resumed_at: int, measured: list[int]
) -> None:
    """A point that is due where it resumes is measured, if it was saved before it was measured."""
    told: list[int] = []
    curve = curve_in(tmp_path, told)
    curve.path.write_text("".join(json.dumps(point(step)) + "\n" for step in known))
    curve.on_phase_start(status(total_steps=6, steps=resumed_at))
    assert curve.points() == [point(step) for step in [*(step for step in known if step <= resumed_at), *measured]]
    assert told == measured


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    curve = curve_in(tmp_path, [])
    curve.path.write_text(json.dumps(point(2)) + "\n" + json.dumps(point(4))[:9])
    assert curve.points() == [point(2)]
