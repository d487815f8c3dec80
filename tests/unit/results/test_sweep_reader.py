"""The records of a sweep as they are read."""

from pathlib import Path

from report_folders import job, make_sweep_folder

from osftx.results.job_record import Job, State
from osftx.results.sweep_reader import read_job, read_jobs, read_sweep


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Job(3, ["training.seed=1"], objective=[0.5, None], summary={"forgetting": 0.1}, trained=2)
    record.save(tmp_path / "3")
    assert read_job(tmp_path / "3") == record
    assert read_job(tmp_path) is None


def test_jobs_are_read_by_number(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Job(number, []).save(tmp_path / str(number))
    (tmp_path / "1" / "job.json").write_text("[]")
    assert [record.number for record in read_jobs(tmp_path)] == [2, 10]


def test_a_job_has_a_place_for_each_objective(tmp_path: Path) -> None:
    jobs = [job(0, "1e-5", 0.5, best=True), job(1, "1e-4", None, state="failed", failure="no memory")]
    jobs.append(job(2, "1e-3", [0.1, None]))
    sweep = read_sweep(make_sweep_folder(tmp_path, jobs, objectives=["summary.average_accuracy", "phases.0.steps"]))
    assert [record.values for record in sweep.jobs] == [[0.5, None], [None, None], [0.1, None]]
    assert sweep.objectives == ["average accuracy", "phases.0.steps"]
    assert sweep.finished == []
    assert [record.state for record in sweep.jobs] == [State.done, State.failed, State.done]
    assert sweep.jobs[0].parameters["training.learning_rate"] == "1e-5"
    assert sweep.jobs[0].best and not sweep.jobs[1].best


def test_a_job_with_a_value_for_each_objective_is_finished(tmp_path: Path) -> None:
    jobs = [job(0, "1e-5", 0.5), job(1, "1e-4", 0.6, state="pruned")]
    assert [record.number for record in read_sweep(make_sweep_folder(tmp_path, jobs)).finished] == [0]
