"""Benchmarks of the lm-evaluation-harness in a whole run: own tasks from local files, base and phase, offline."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
LETTERS = ["mbh", "igo", "man", "fob"]

CHOICE = """
task: letters
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [mbh, igo, man, fob]
doc_to_target: label
target_delimiter: " "
metric_list:
  - {{metric: acc}}
  - {{metric: acc_norm}}
"""
GENERATE = """
task: answers
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8, do_sample: false}}
metric_list:
  - {{metric: exact_match}}
"""


class Runs:
    """Runs of one short phase on one rank, with a store and own tasks."""

    def __init__(self, folder: Path):
        self.folder, self.tasks = folder, folder / "tasks"
        self.tasks.mkdir()
        (self.tasks / "letters.yaml").write_text(CHOICE.format(data=self.write_data("letters", 12)))
        (self.tasks / "answers.yaml").write_text(GENERATE.format(data=self.write_data("answers", 6)))

    def write_data(self, name: str, count: int) -> Path:
        """Questions of what the base knows, as its chat template puts them."""
        path = self.tasks / f"{name}.jsonl"
        lines = (ROOT / "experiments" / "tiny" / "data" / "base_eval.jsonl").read_text().splitlines()[:count]
        rows = []
        for place, line in enumerate(lines):
            question, answer = (turn["content"] for turn in json.loads(line)["messages"])
            rows.append({"question": question, "answer": answer, "label": place % len(LETTERS)})
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
        return path

    def command(self, name: str, *overrides: str) -> list[str]:
        fixed = (
            "~phases.skills",
            "phases.knowledge.num_epochs=1",
            "phases.knowledge.effective_batch_size=40",
            "distributed.nproc_per_node=1",
            "~evaluation.sets.skills",
            f"evaluation.lm_eval.include_path={self.tasks}",
            "evaluation.lm_eval.apply_chat_template=true",
            f"store_dir={self.folder / 'store'}",
            f"output_dir={self.folder / name}",
        )
        return [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *fixed, *overrides]

    def run(self, name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *overrides),
            cwd=ROOT,
            env=os.environ | OFFLINE,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def __call__(self, name: str, *overrides: str) -> tuple[dict[str, Any], str]:
        done = self.run(name, *overrides)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads((self.folder / name / "results.json").read_text()), done.stdout


BOTH = "evaluation.lm_eval.tasks=[letters,answers]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def first(runs: Runs) -> tuple[dict[str, Any], str]:
    return runs("first", BOTH, "objective=retention.benchmarks.values.1.0")


def test_base_and_phase_stand_in_the_retention_table(runs: Runs, first: tuple[dict[str, Any], str]) -> None:
    results, shown = first
    benchmarks = results["retention"]["benchmarks"]
    assert benchmarks["tasks"] == ["letters", "answers"]
    assert benchmarks["metrics"] == {"letters": "acc_norm", "answers": "exact_match"}
    assert len(benchmarks["values"]) == len(results["retention"]["states"]) == 2
    assert all(0 <= value <= 1 for row in benchmarks["values"] for value in row)
    assert benchmarks["values"][0][1] > 0.8  # the base generates what it knows, though its config has use_cache=false
    assert results["objective"] == benchmarks["values"][1][0]
    assert "letters" in shown
    assert "acc_norm" in shown
    assert "benchmarks of base: measuring letters, answers" in shown
    assert "benchmark letters: " in shown  # progress
    phase = runs.folder / "first" / "phases" / "01_knowledge"
    for name, state in (("benchmarks_before", "base"), ("benchmarks", "knowledge")):
        kept = json.loads((phase / f"{name}.json").read_text())
        assert kept["state"] == state
        assert kept["tasks"]["letters"]["results"]["letters"]["acc,none"] is not None
        assert kept["tasks"]["letters"]["results"]["letters"]["acc_stderr,none"] > 0
        assert kept["tasks"]["answers"]["n-samples"]["answers"]["effective"] == 6
        assert {"versions", "n-shot"} <= kept["tasks"]["answers"].keys()
        assert (phase / name / "log.txt").stat().st_size > 0


def test_the_second_run_measures_nothing(runs: Runs, first: tuple[dict[str, Any], str]) -> None:
    results, shown = runs("second", BOTH)
    assert "measuring" not in shown
    assert "benchmarks of base: known letters, answers" in shown
    assert results["retention"]["benchmarks"] == first[0]["retention"]["benchmarks"]
    assert not (runs.folder / "second" / "phases" / "01_knowledge" / "benchmarks").exists()
    assert (runs.folder / "second" / "phases" / "01_knowledge" / "benchmarks.json").is_file()


def test_a_changed_task_is_measured_alone_without_training(runs: Runs, first: tuple[dict[str, Any], str]) -> None:
    before = first[0]["retention"]["benchmarks"]["values"]
    runs.write_data("letters", 9)
    results, shown = runs("changed", BOTH)
    assert "benchmarks of base: known answers" in shown
    assert "benchmarks of base: measuring letters (" in shown
    assert "training knowledge" not in shown
    after = results["retention"]["benchmarks"]["values"]
    assert [row[1] for row in after] == [row[1] for row in before]
    kept = json.loads((runs.folder / "changed" / "phases" / "01_knowledge" / "benchmarks.json").read_text())
    assert kept["tasks"]["letters"]["n-samples"]["letters"]["effective"] == 9


def test_an_unknown_task_is_refused_before_the_start(runs: Runs) -> None:
    done = runs.run("unknown", "evaluation.lm_eval.tasks=[leters]", "dry_run=true")
    assert done.returncode == 2
    assert "evaluation.lm_eval.tasks: leters: neither a task nor a group" in done.stderr
    assert "did you mean letters" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_benchmark_names_the_checkpoint_and_goes_on(runs: Runs, first: tuple[dict[str, Any], str]) -> None:
    """What was measured before the failure is kept, and the same command goes on once the cause is mended."""
    broken = GENERATE.format(data=runs.tasks / "answers.jsonl").replace("task: answers", "task: broken")
    path = runs.tasks / "broken.yaml"
    path.write_text(broken.replace("test_split: test", "test_split: missing"))
    tasks = "evaluation.lm_eval.tasks=[letters,broken]"
    done = runs.run("broken", tasks, "evaluation.lm_eval.limit=3")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "benchmarks of base failed on " in done.stderr
    assert "experiments/tiny/base" in done.stderr
    assert "missing" in done.stderr
    assert "give the same command again" in done.stderr
    path.write_text(broken)
    results, shown = runs("broken", tasks, "evaluation.lm_eval.limit=3")
    assert "benchmarks of base: known letters" in shown
    assert len(results["retention"]["benchmarks"]["values"]) == 2


def test_a_time_limit_and_a_signal_end_the_process(runs: Runs) -> None:
    limited = runs.run("late", BOTH, "evaluation.lm_eval.limit=2", "evaluation.lm_eval.timeout_s=1")
    assert limited.returncode == 1
    assert "took longer than evaluation.lm_eval.timeout_s=1" in limited.stderr
    for number in (signal.SIGTERM, signal.SIGKILL):
        name = f"stopped_{number.name}"
        command = runs.command(name, BOTH, "evaluation.lm_eval.limit=2")
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | OFFLINE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            spec = runs.folder / name / "phases" / "01_knowledge" / "benchmarks_before" / "log.txt"
            wait_until(spec.exists)
            time.sleep(1.0)
            assert children(spec.with_name("spec.json"))
            process.send_signal(number)
            _, told = process.communicate(timeout=60)
        assert process.returncode == (1 if number is signal.SIGTERM else -9)
        if number is signal.SIGTERM:
            assert "stopped by SIGTERM; give the same command again" in told
        wait_until(lambda spec=spec: not children(spec.with_name("spec.json")))


def children(spec: Path) -> list[str]:
    """The processes that measure this spec."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"osftx.evaluation.lm_eval" in words and str(spec).encode() in words:
            found.append(path.parent.name)
    return found


def wait_until(condition: Any, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
