"""The walk over the phases, with ranks that only leave a result behind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured_phases import ARGUMENTS, NAMES, SETS, experiment, result_of
from plans import plan_of

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import ExperimentConfig
from osftx.data.samples import DataSummary, Prepared, SkippedRow
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.phase_specs import RunFiles
from osftx.planning.preflight import Checked
from osftx.runs import orchestrator

pytestmark = pytest.mark.process


class Ranks(Cluster):
    """Keeps the specs and leaves each phase's result; fails at a phase if told to."""

    def __init__(self, fails_at: str | None = None):
        super().__init__()
        self.fails_at = fails_at
        self.specs: list[PhaseSpec] = []

    def launch(self, spec: PhaseSpec) -> None:
        file = Path(spec.folder) / "phase.yaml"
        assert PhaseSpec.load(file) == spec
        self.specs.append(spec)
        if spec.name == self.fails_at:
            raise TrainingError(f"phase {spec.name!r} failed on rank 1")
        (Path(spec.folder) / "result.json").write_text(json.dumps(result_of(spec)))


def walk(
    config: ExperimentConfig,
    run_folder: Path,
    ranks: Ranks,
    arguments: Sequence[str] = ARGUMENTS,
) -> dict[str, Any]:
    data = {name: DataSummary(f"{name}.jsonl", samples=8) for name in NAMES}
    files = RunFiles(run_folder, Path("/models/base"), {name: Path("/sets") / name for name in SETS})
    model, targets = ModelFiles({}, {"a.weight": (4, 4)}), [Target("a", ((4, 4),))]
    plan = plan_of(config, model, targets, data, files=files)
    summary = DataSummary("one.jsonl", skipped=2, skipped_rows=[SkippedRow("a:3", "is wrong")])
    checked = Checked(
        plan,
        run_folder,
        Path("/models/base"),
        read={"phases.one.data": Prepared(None, summary, np.empty(0), np.empty(0), "")},
    )
    (run_folder / "plan.json").write_text(json.dumps(plan.to_dict()))
    config.reuse = False
    return orchestrator.run(config, checked, run_folder, arguments, ranks)


def test_each_phase_gets_its_own_settings_and_the_checkpoint_of_the_one_before(tmp_path: Path) -> None:
    ranks = Ranks()
    results = walk(experiment(), tmp_path, ranks)
    assert [Path(spec.folder) for spec in ranks.specs] == [
        tmp_path / "phases" / name for name in ("01_one", "02_two", "03_three")
    ]
    assert [spec.model.path for spec in ranks.specs] == [
        "/models/base",
        str(tmp_path / "phases" / "01_one" / "checkpoint"),
        str(tmp_path / "phases" / "02_two" / "checkpoint"),
    ]
    assert [spec.model.attn_implementation for spec in ranks.specs] == ["eager"] * 3
    assert [spec.unfreeze_rank_ratio for spec in ranks.specs] == [0.3, 0.2, 0.1]
    assert [spec.training.num_epochs for spec in ranks.specs] == [1, 2, 3]
    assert [spec.data for spec in ranks.specs] == [f"/data/{name}" for name in NAMES]
    assert [spec.evaluate_before for spec in ranks.specs] == [True, False, False]
    assert ranks.specs[2].evaluation_sets == {name: f"/sets/{name}" for name in SETS}
    assert results["skipped_rows"] == [
        {"setting": "phases.one.data", "rows": 2, "first": [{"place": "a:3", "reason": "is wrong"}]}
    ]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (tmp_path / "report.html").is_file()


def test_a_failed_phase_keeps_the_results_before_it_and_says_how_to_go_on(tmp_path: Path) -> None:
    config = experiment()
    config.phases["two"].init_from = "a b"
    command = ["+experiment=study", "phases.two.init_from=a b", "+training.seed=1", f"output_dir={tmp_path}"]
    with pytest.raises(TrainingError) as raised:
        walk(config, tmp_path, Ranks(fails_at="three"), command)
    assert [phase["name"] for phase in json.loads((tmp_path / "results.json").read_text())["phases"]] == ["two"]
    first, go_on = str(raised.value).splitlines()
    assert first == "phase 'three' failed on rank 1"
    # One starting point, and not the folder that holds this run.
    checkpoint = tmp_path / "phases" / "02_two" / "checkpoint"
    assert go_on.endswith(f"python -m osftx +experiment=study +training.seed=1 phases.three.init_from={checkpoint}")


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.html").mkdir()
    results = walk(experiment(), tmp_path, Ranks())
    assert [phase["name"] for phase in results["phases"]] == list(NAMES)
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(NAMES)
    assert "the report could not be written (IsADirectoryError: " in warnings[0]
