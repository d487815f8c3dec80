"""The recipes of experiments/clusters, as far as they can be checked without a cluster."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from osftx.config.load import typed
from osftx.config.schema import ExperimentConfig
from osftx.config.validate import problems
from osftx.launch.outer_launcher import outer_launcher, placed
from osftx.launch.secret import VARIABLE

RECIPES = ROOT / "experiments" / "clusters"
SCRIPTS = sorted(RECIPES.glob("*.sh"))
# Stand-ins for Slurm's programs: they note how they are called.
PROGRAMS = {
    "scontrol": 'echo "scontrol $*" >> calls; [ "$1" = show ] && echo first && echo second; true',
    "scancel": 'echo "scancel $*" >> calls; kill -USR1 "$(cat srun_id)"',
    "srun": """echo $$ > srun_id; trap 'exit 1' USR1; echo "srun $*" >> calls
for _ in $(seq 100); do [ -e done ] && exit 0; sleep 0.05; done""",
}


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def settings(words: list[str]) -> ExperimentConfig:
    """What the words after `python -m osftx` come to; every key is one of osftx, and no rule speaks against it."""
    files = [f"phases.{name}.data.path=data.jsonl" for name in ("knowledge", "skills")]
    config = typed(compose("config", overrides=[*words, *files]))
    assert problems(config) == []
    return config


def start(script: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    programs = folder / "programs"
    programs.mkdir()
    for name, lines in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{lines}\n")
        (programs / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "gpu[1-2]"}
    process = subprocess.Popen(
        ["bash", str(script), *arguments],
        cwd=folder,
        env=os.environ | slurm | {"PATH": f"{programs}:{os.environ['PATH']}"},
        text=True,
    )
    deadline = time.monotonic() + 20
    while "srun" not in calls(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def calls(folder: Path) -> str:
    return (folder / "calls").read_text() if (folder / "calls").exists() else ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_slurm_job_gives_its_tasks_one_command(script: Path, tmp_path: Path) -> None:
    process = start(script, tmp_path, "+experiment=llama_two_phase", "training.seed=7")
    (tmp_path / "done").touch()
    assert process.wait(20) == 0
    assert "requeue" not in calls(tmp_path)
    (command,) = [line for line in calls(tmp_path).splitlines() if line.startswith("srun")]
    config = settings(command.split(" -m osftx ")[1].split())
    assert (config.distributed.rdzv_endpoint, config.training.seed) == ("first:24567", 7)
    assert config.output_dir == "outputs/slurm_1234567"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_slurm_job_hands_the_signal_on_and_goes_back_into_the_queue(script: Path, tmp_path: Path) -> None:
    process = start(script, tmp_path, "+experiment=llama_two_phase")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 1
    assert calls(tmp_path).splitlines()[-2:] == ["scancel --signal=USR1 1234567.0", "scontrol requeue 1234567"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_ranks_have_less_time_to_save_than_slurm_gives(script: Path) -> None:
    text = script.read_text()
    given = int(text.partition("--signal=B:USR1@")[2].split()[0])
    assert int(text.partition("checkpointing.grace_s=")[2].split()[0]) + 10 < given


def assert_pod_is_whole(pod: dict[str, Any]) -> dict[str, Any]:
    """Its one container, whose mounts are of volumes that are there."""
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert [variable["name"] for variable in container["env"]] == [VARIABLE], "the Pods share no home folder"
    return dict(container)


def test_the_pods_of_the_job_find_each_other() -> None:
    service, job = yaml.safe_load_all((RECIPES / "kubernetes_job.yaml").read_text())
    assert [(part["apiVersion"], part["kind"]) for part in (service, job)] == [("v1", "Service"), ("batch/v1", "Job")]
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")  # a podFailurePolicy asks for Never
    container = assert_pod_is_whole(pod)
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    (line,) = container["args"]
    config = settings(line.split(" -m osftx ")[1].replace("$JOB_COMPLETION_INDEX", "1").split())
    assert config.distributed.nnodes == spec["completions"] == spec["parallelism"]
    assert config.distributed.rdzv_endpoint == f"{name}-0.{pod['subdomain']}:29500"
    assert config.checkpointing.grace_s + 10 < pod["terminationGracePeriodSeconds"]


def test_the_pods_of_the_pytorchjob_are_nodes() -> None:
    job = yaml.safe_load((RECIPES / "kubeflow_pytorchjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert list(replicas) == ["Master", "Worker"]
    for rank, replica in enumerate(replicas.values()):
        pod = replica["template"]["spec"]
        container = assert_pod_is_whole(pod)
        assert container["name"] == "pytorch"
        words = container["command"][3:]
        of_the_operator = {
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "osftx-master-0",
            "MASTER_PORT": "23456",
        }
        config = settings(words)
        group = placed(config.distributed, outer_launcher(of_the_operator), words)
        assert (group.nnodes, group.node_rank, group.nproc_per_node) == (2, rank, 8)
        assert config.checkpointing.grace_s + 10 < pod["terminationGracePeriodSeconds"]
