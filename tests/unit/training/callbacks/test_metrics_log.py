"""metrics.jsonl: one line a step, begun anew with the phase."""

import json
from pathlib import Path

from callback_status import status

from osftx.training.callbacks.metrics_log import MetricsLog


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_line_a_step_of_this_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 9}\n')
    log = MetricsLog(path)
    log.on_phase_start(status())
    assert steps_in(path) == []
    for step in (1, 2):
        log.on_step(status(steps=step), {"step": step})
        assert steps_in(path)[-1] == step
    resumed = MetricsLog(path)
    resumed.on_phase_start(status(steps=2))
    resumed.on_step(status(steps=3), {"step": 3})
    assert steps_in(path) == [1, 2, 3]
