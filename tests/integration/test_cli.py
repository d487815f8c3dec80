"""`python -m osftx` as a person meets it: what goes wrong is told once, with the remedy, and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkout import ROOT
from forked_commands import CommandServer

TINY = ROOT / "experiments" / "tiny"
EXPERIMENT = "+experiment=tiny_two_phase"
PROBLEMS = "in the configuration or the data:"


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "500"}


def osftx(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "osftx", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True)
class Bad:
    """A command that must be refused. `TMP` stands for the folder of `files`."""

    overrides: str
    says: tuple[str, ...]
    """All of this is in the message: the place, and the remedy."""
    experiment: str = EXPERIMENT
    dry_run: bool = True
    """False: as for a real run, which must get no further. Slower, since it looks at the devices."""


BAD = {
    "unknown key": Bad(
        "training.learning_rat=1", ("training.learning_rat: no such key", "did you mean learning_rate?")
    ),
    "unknown key of a phase": Bad(
        "phases.skills.num_epoch=1", ("phases.skills.num_epoch: no such key", "did you mean num_epochs?")
    ),
    "two sweep files as values": Bad(
        "hydra.mode=MULTIRUN +sweep=reduction,phase_order",
        ("reduction sets hydra.sweeper, which no job can follow", "+sweep=[reduction,phase_order]"),
    ),
    "experiments with sweeps of their own as values": Bad(
        "hydra.mode=MULTIRUN hydra.searchpath=[file://TMP/conf] +experiment=mine,other",
        ("mine sets hydra.sweeper, which no job can follow", "other sets hydra.launcher, which no job can follow"),
        experiment="",
    ),
    "the same value twice": Bad(
        "hydra.mode=MULTIRUN training.seed=1,1", ("training.seed=1,1: 1 and 1 would be jobs that are the same",)
    ),
    "a varied key twice": Bad(
        "hydra.mode=MULTIRUN training.seed=1,2 training.seed=3", ("training.seed: is varied and given more than once",)
    ),
    "a key of a dictionary twice": Bad(
        "++distributed.deepspeed={a:{b:1,b:2}}", ("distributed.deepspeed={a:{b:1,b:2}}: b is there more than once",)
    ),
    "another working folder": Bad("hydra.job.chdir=true", ("hydra.job.chdir=true: relative paths",)),
    "another working folder for each job": Bad(
        "hydra.mode=MULTIRUN hydra.job.chdir=true training.seed=1,2", ("hydra.job.chdir=true: relative paths",)
    ),
    "a phase called no": Bad(
        "hydra.searchpath=[file://TMP/conf] +experiment=called_no",
        ("phases.False: Key False (bool) is incompatible with (str)", "write it in quotes"),
        experiment="",
    ),
    "a phase called null": Bad(
        "hydra.searchpath=[file://TMP/conf] +experiment=called_null", ("phases: ", "write it in quotes"), experiment=""
    ),
    "a key of a file twice": Bad(
        "hydra.searchpath=[file://TMP/conf] +experiment=twice",
        ("is not YAML", "found duplicate key seed"),
        experiment="",
    ),
    "unknown key like no other": Bad("schedule.x=1", ("schedule.x: no such key", "known here: kind, initial")),
    "unknown key added": Bad(
        "+phases.skills.learning_rat=1 +sede=2",
        ("2 problems", "phases.skills.learning_rat=1: no such key", "sede=2: no such key", "learning_rate"),
    ),
    "key of an open group, without plus": Bad(
        "distributed.deepspeed.zero_optimization.overlap_comm=true",
        ("no such key", "add it with ++distributed.deepspeed.zero_optimization.overlap_comm=true"),
    ),
    "one scheduler argument of one phase, without plus": Bad(
        "phases.skills.lr_scheduler_kwargs.num_cycles=0.4",
        ("no such key", "add it with '++phases.skills.lr_scheduler_kwargs={num_cycles:0.4}'"),
    ),
    "one scheduler argument of one phase": Bad(
        "++phases.skills.lr_scheduler_kwargs.num_cycles=0.4",
        ("would reach every phase", "set '++phases.skills.lr_scheduler_kwargs={num_cycles:0.4}'"),
    ),
    "unknown phase": Bad("phases.skill.seed=1", ("phases.skill: no such key", "did you mean skills?")),
    "wrong type": Bad("training.num_epochs=many", ("training.num_epochs", "'many'", "Integer")),
    "wrong type in a phase": Bad(
        "phases.skills.learning_rate=fast", ("phases.skills.learning_rate", "'fast'", "Float")
    ),
    "wrong choice": Bad("phases.skills.method=lora", ("phases.skills.method", "osft", "sft")),
    "no value": Bad("training.num_epochs", ("training.num_epochs", "missing EQUAL")),
    "unknown experiment": Bad("", ("experiment/tiny_two_fase", "tiny_two_phase"), "+experiment=tiny_two_fase"),
    "unknown model": Bad("model=tinny", ("model/tinny", "tiny")),
    "no model": Bad("model=null", ("model=null: not an option of the group; use one of llama", "or write ~model")),
    "no option of a group": Bad("+phase@phases.x=3", ("+phase@phases.x=3: not an option", "sft, or leave it out")),
    "ratio above 1": Bad(
        "phases.skills.unfreeze_rank_ratio=1.5",
        ("phases.skills.unfreeze_rank_ratio=1.5: must be from 0 to 1", "null to follow schedule"),
    ),
    "ratio below 0": Bad(
        "phases.skills.unfreeze_rank_ratio=-0.1", ("phases.skills.unfreeze_rank_ratio=-0.1: must be from 0 to 1",)
    ),
    "no phases": Bad("~phases.knowledge ~phases.skills", ("phases={}: nothing to train", "choose +experiment=NAME")),
    "nothing at all": Bad("", ("2 problems", "set model.path=", "choose +experiment=NAME"), experiment=""),
    "a phase without data": Bad(
        "+phase@phases.code=osft", ("phases.code.data.path=???: no training data", "set phases.code.data.path=FILE")
    ),
    "missing data file": Bad(
        "phases.skills.data.path=TMP/none.jsonl", ("TMP/none.jsonl: cannot be read", "give a JSONL"), dry_run=False
    ),
    "data that is a folder": Bad(
        "phases.skills.data.path=TMP", ("TMP: cannot be read (Is a directory)", "give a JSONL")
    ),
    "empty data": Bad("phases.skills.data.path=TMP/empty.jsonl", ("TMP/empty.jsonl: is empty", "`messages`")),
    "bad lines": Bad(
        "phases.skills.data.path=TMP/bad.jsonl",
        (
            "6 problems",
            "TMP/bad.jsonl:2: is not JSON",
            "TMP/bad.jsonl:4: is a JSON list; each line must be an object",
            "TMP/bad.jsonl:5: has the keys ['text']; it must have `messages`",
            "TMP/bad.jsonl:6: message 1 has the role 'robot'; it must be one of system, user, assistant",
            "TMP/bad.jsonl:7: has no assistant turn",
            "TMP/bad.jsonl:8: message 2 (assistant) has a content that is number; it must be text",
        ),
    ),
    "more bad lines than anyone reads": Bad(
        "phases.skills.data.path=TMP/all_bad.jsonl",
        (
            "1 problem",
            "TMP/all_bad.jsonl:1: ",
            "25 rows have this reason, also TMP/all_bad.jsonl:2 and ",
            "on_bad_row=skip",
        ),
    ),
    "everything dropped": Bad(
        "phases.skills.max_seq_len=5",
        ("skills_train.jsonl: all 2400 samples are longer than max_seq_len = 5", "raise max_seq_len"),
        dry_run=False,
    ),
    "targets that match nothing": Bad(
        "osft.target_patterns=[q_proj]",
        ("osft.target_patterns: 'q_proj' matches no weight", "a whole module name such as 'model.layers.0."),
    ),
    "nothing to keep": Bad(
        "osft.subspace=activations ~preserve",
        ("preserve.data.path: not set, but osft.subspace=activations", "use osft.subspace=weights"),
        dry_run=False,
    ),
    "training data to keep": Bad(
        "osft.subspace=activations preserve.data.path=experiments/tiny/data/skills_train.jsonl",
        ("preserve.data.path: ", "is what phase skills trains on", "what the model can do already"),
    ),
    "some of the training data to keep": Bad(
        "osft.subspace=activations preserve.data.path=TMP/taught.jsonl",
        ("taught.jsonl: is what phase knowledge and phase skills trains on", "what the model can do already"),
    ),
    "nothing left to keep": Bad(
        "osft.subspace=activations preserve.data.path=TMP/unusable.jsonl preserve.data.on_bad_row=skip",
        ("preserve.data.path: TMP/unusable.jsonl:1: has the keys ['text']",),
    ),
    "kept inputs of another model": Bad(
        "osft.subspace=activations model.path=TMP/moved/checkpoint osft.target_patterns=[.*0.mlp.up_proj]",
        ("kept_inputs: a record of another model than TMP/moved/checkpoint", "move it away"),
    ),
    "too little to keep": Bad(
        "osft.subspace=activations preserve.data.path=TMP/one.jsonl",
        ("one.jsonl: ", "tokens cannot show which of 384 input directions are used", "give more conversations"),
    ),
    "too few tokens to keep": Bad(
        "osft.subspace=activations preserve.max_tokens=100",
        ("100 tokens cannot show", "raise preserve.max_tokens=100"),
    ),
    "kept inputs of other targets": Bad(
        "osft.subspace=activations model.path=TMP/phase/checkpoint osft.target_patterns=[.*q_proj]",
        ("kept_inputs: a record of other targets", "they differ at model.layers.0", "osft.target_patterns"),
    ),
    "kept inputs that cannot be read": Bad(
        "osft.subspace=activations model.path=TMP/damaged/checkpoint",
        ("kept_inputs: not a record of input covariance", "move it away"),
    ),
    "no such model": Bad("model.path=TMP/nowhere", ("model.path=TMP/nowhere: no such folder", "correct the path")),
    "neither folder nor Hub name": Bad(
        "model.path=runs/a--b", ("model.path=runs/a--b: no such folder", "not a Hub name", "correct the path")
    ),
    "no Hub": Bad("model.path=owner/name", ("model.path=owner/name: no such folder here", "give a local folder")),
    "a model without tokenizer": Bad(
        "model.path=TMP/no_tokenizer", ("TMP/no_tokenizer: holds no tokenizer.json", "save one there"), dry_run=False
    ),
    "a model without chat template": Bad(
        "model.path=TMP/no_template", ("TMP/no_template: no chat template", "use an instruction-tuned model")
    ),
    "a model without weights": Bad(
        "model.path=TMP/no_weights", ("model.path=TMP/no_weights: not a Hugging Face model folder", "model.safetensors")
    ),
    "a model without config": Bad(
        "model.path=TMP/no_config", ("model.path=TMP/no_config: not a Hugging Face model folder", "config.json")
    ),
    "missing init_from": Bad(
        "phases.skills.init_from=TMP/nowhere",
        ("1 problem", "phases.skills.init_from=TMP/nowhere: no such folder", "correct the path"),
    ),
    "an output folder that cannot be": Bad(
        "output_dir=TMP/empty.jsonl/below/run",
        ("output_dir=TMP/empty.jsonl/below/run: cannot be written (Not a directory)", "choose a folder"),
    ),
    "an output folder that holds a run": Bad(
        "output_dir=TMP/used",
        ("output_dir=TMP/used: holds a run with another configuration", "choose another folder"),
        dry_run=False,
    ),
    "less than no samples": Bad("inspect_data=-1", ("inspect_data=-1: must be 0 or more", "null")),
    "several problems of the configuration": Bad(
        "training.num_epochs=0 phases.skills.unfreeze_rank_ratio=2 schedule.factor=2 objective=luck",
        (
            "4 problems",
            "training.num_epochs=0",
            "phases.skills.unfreeze_rank_ratio=2",
            "schedule.factor=2",
            "objective=luck",
        ),
    ),
    "several problems of what it names": Bad(
        "model.path=TMP/no_template osft.target_patterns=[none] phases.knowledge.data.path=TMP/none.jsonl "
        "evaluation.sets.base.path=TMP/bad.jsonl",
        ("9 problems", "no chat template", "'none' matches no weight", "TMP/none.jsonl: cannot", "TMP/bad.jsonl:8: "),
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders, data files and run folders with something wrong."""
    folder = tmp_path_factory.mktemp("files")
    for name, missing in (
        ("no_tokenizer", "tokenizer.json"),
        ("no_template", "chat_template.jinja"),
        ("no_weights", "model.safetensors"),
        ("no_config", "config.json"),
    ):
        shutil.copytree(TINY / "base", folder / name)
        (folder / name / missing).unlink()
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    lines = [
        json.dumps(good),
        '{"messages": [',
        "",
        "[1]",
        '{"text": "a"}',
        json.dumps({"messages": [{"role": "robot", "content": "a"}]}),
        json.dumps({"messages": good["messages"][:1]}),
        json.dumps({"messages": [good["messages"][0], {"role": "assistant", "content": 1}]}),
    ]
    (folder / "bad.jsonl").write_text("\n".join(lines))
    (folder / "all_bad.jsonl").write_text("no\n" * 25)
    (folder / "empty.jsonl").write_text("")
    (folder / "unusable.jsonl").write_text('{"text": "a"}\n')
    data = TINY / "data"
    taught = [(data / name).read_text().splitlines()[:60] for name in ("knowledge_train.jsonl", "skills_train.jsonl")]
    (folder / "taught.jsonl").write_text("\n".join(taught[0] + taught[1]))
    (folder / "one.jsonl").write_text(json.dumps(good) + "\n")
    for name, index in (
        ("phase", {"readers": [["model.layers.0.mlp.up_proj"]], "widths": [128], "sources": []}),
        ("moved", {"readers": [["model.layers.0.mlp.up_proj"]], "widths": [128], "sources": [], "weights": ["a"]}),
        ("damaged", {"readers": []}),
    ):
        shutil.copytree(TINY / "base", folder / name / "checkpoint")
        (folder / name / "kept_inputs").mkdir()
        (folder / name / "kept_inputs" / "index.json").write_text(json.dumps(index))
        (folder / name / "kept_inputs" / "model.layers.0.mlp.up_proj.safetensors").write_text("")
    conf = folder / "conf" / "experiment"
    conf.mkdir(parents=True)
    based = "# @package _global_\ndefaults:\n  - /experiment/tiny_two_phase\n"
    varied = "hydra:\n  sweeper:\n    params:\n      training.seed: 1,2\n"
    (conf / "mine.yaml").write_text(based + varied)
    (conf / "other.yaml").write_text(based + "  - override /hydra/launcher: joblib\n" + varied)
    (conf / "called_no.yaml").write_text(based + "phases:\n  no: {data: {path: x}}\n")
    (conf / "called_null.yaml").write_text(based + "phases:\n  null: {data: {path: x}}\n")
    (conf / "twice.yaml").write_text(based + "training:\n  seed: 1\n  seed: 2\n")
    (folder / "used").mkdir()
    (folder / "used" / "plan.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bad commands would put their run folders."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def refused(
    files: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Every bad command."""
    commands = CommandServer(tmp_path_factory.mktemp("screens"), ENVIRONMENT)

    def run(case: Bad) -> subprocess.CompletedProcess[str]:
        overrides = [word for word in (case.experiment, *case.overrides.replace("TMP", str(files)).split()) if word]
        if "output_dir" not in case.overrides:
            overrides.append(f"output_dir={runs / 'some' / 'run'}")
        if case.dry_run:
            overrides.append("dry_run=true")
        else:
            overrides.append(f"data.processing_dir={tmp_path_factory.mktemp('prepared')}")
        return commands.run(*overrides)

    done = {name: run(case) for name, case in BAD.items()}
    commands.close()
    return done


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_once_with_the_remedy(
    refused: dict[str, subprocess.CompletedProcess[str]], files: Path, name: str
) -> None:
    done = refused[name]
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("osftx: "), done.stderr
    for words in BAD[name].says:
        assert words.replace("TMP", str(files)) in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    first, *problems = done.stderr.splitlines()
    if first.endswith(PROBLEMS):  # each problem is a line, and nothing comes after the last
        assert int(first.split()[1]) == len(problems)
        assert all(line.startswith("  - ") for line in problems), done.stderr


def test_nothing_is_left_behind(refused: dict[str, subprocess.CompletedProcess[str]], files: Path, runs: Path) -> None:
    assert len(refused) == len(BAD)
    assert list(runs.iterdir()) == []
    assert [path.name for path in (files / "used").iterdir()] == ["plan.json"]
    assert (files / "empty.jsonl").is_file()


def absolute_paths() -> list[str]:
    data = TINY / "data"
    return [
        f"model.path={TINY / 'base'}",
        *(f"phases.{name}.data.path={data / name}_train.jsonl" for name in ("knowledge", "skills")),
        *(f"evaluation.sets.{name}.path={data / name}_eval.jsonl" for name in ("base", "knowledge", "skills")),
    ]


def plans(screen: str) -> list[dict[str, list[str]]]:
    """Of every plan on a screen its lines: what they tell, and of each phase in its order."""
    found: list[dict[str, list[str]]] = []
    for line in screen.splitlines():
        if line.startswith("┃"):
            found.append({"phase": [cell.strip() for cell in line.split("┃")[2:-1]]})
        elif line.startswith("│"):
            heading, *cells = (cell.strip() for cell in line.split("│")[1:-1])
            found[-1][heading] = cells
    return found


def test_a_dry_run_prints_every_phase_and_leaves_no_file(tmp_path: Path) -> None:
    settings = ["phases.knowledge.num_epochs=5", "phases.knowledge.effective_batch_size=100"]
    settings += [
        "phases.skills.num_epochs=1",
        "phases.skills.effective_batch_size=50",
        "phases.skills.learning_rate=7e-3",
    ]
    done = osftx(EXPERIMENT, "dry_run=true", *settings, *absolute_paths(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert "Plan of tiny_two_phase" in done.stdout
    found = plans(done.stdout)
    for heading in ("a rank's memory between steps", "at the peak of a step", "disk, to stay", "disk, while it trains"):
        assert all(cell.startswith("about ") for cell in found[0].pop(heading))
    assert found == [
        {
            "phase": ["knowledge", "skills"],
            "method": ["osft", "osft"],
            "unfreeze ratio": ["0.3", "0.2"],
            "learning rate": ["0.01", "0.007"],
            "samples": ["120", "2,400"],
            "dropped, too long": ["0", "0"],
            "tokens of an epoch": ["2,160", "48,230"],
            "steps": ["6", "48"],  # 120 samples, 5 epochs, 100 a step; 2,400 samples, 1 epoch, 50 a step
            "trainable numbers": ["259,584", "173,056"],
            "frozen numbers": ["930,944", "930,944"],
            "starts from": [str(TINY / "base"), "knowledge"],
        }
    ]


def test_what_is_trained_on_can_be_looked_at_before(tmp_path: Path) -> None:
    done = osftx(EXPERIMENT, "inspect_data=1", f"store_dir={tmp_path / 'store'}", *absolute_paths(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "the tokenised data is kept for the run"
    for words in ("12,115 (25%)", "assistant 2,400", "⟦eil<|im_end|>⟧"):
        assert words in done.stdout


def test_the_data_of_a_sweep_is_not_looked_at(tmp_path: Path) -> None:
    done = osftx("-m", EXPERIMENT, "inspect_data=1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 2
    assert "inspect_data=1: shows the data of one run; leave out -m" in done.stderr


def test_a_dry_run_makes_no_output_folder_that_it_is_given(tmp_path: Path) -> None:
    done = osftx(EXPERIMENT, "dry_run=true", f"output_dir={tmp_path / 'run'}", "phases.skills.method=sft")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    (plan,) = plans(done.stdout)
    assert (plan["method"], plan["unfreeze ratio"]) == (["osft", "sft"], ["0.3", "-"])


def test_advice_is_shown_and_is_no_error() -> None:
    done = osftx(EXPERIMENT, "dry_run=true", "schedule.initial=0.9")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning: phase knowledge: unfreeze ratio 0.9" in done.stdout


def test_the_composed_configuration_can_be_shown(tmp_path: Path) -> None:
    done = osftx(EXPERIMENT, "--cfg", "job", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: tiny_two_phase" in done.stdout
    assert "learning_rate: ${training.learning_rate}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_can_be_tried_dry(tmp_path: Path) -> None:
    """Neither the jobs nor Hydra leave anything."""
    done = osftx(
        "-m", EXPERIMENT, "dry_run=true", *absolute_paths(), "phases.skills.learning_rate=1e-3,2e-3", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Plan of tiny_two_phase") == 2
    assert [plan["learning rate"][1] for plan in plans(done.stdout)] == ["0.001", "0.002"]
    assert list(tmp_path.iterdir()) == []
