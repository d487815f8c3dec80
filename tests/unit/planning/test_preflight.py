"""What is looked at before a run: the model with its tokenizer, and every data file, on the shipped tiny model."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from checkout import TINY_BASE
from datasets import Dataset
from safetensors.torch import load_file, save_file

from osftx.config.schema import (
    DataConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    OnBadRow,
    PhaseConfig,
    SpecialTokens,
    TrainingConfig,
)
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import SAMPLES_FILE, Prepared
from osftx.errors import ConfigurationError
from osftx.methods.base import PhaseOutline
from osftx.methods.sft.method import Sft
from osftx.models.targets import Target
from osftx.planning.preflight import Checked, check

GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a model and a data file."""
    shutil.copytree(TINY_BASE, tmp_path / "base")
    (tmp_path / "good.jsonl").write_text(json.dumps(GOOD) + "\n")
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def experiment(train: str, evaluation: str, model: str = "~/base") -> ExperimentConfig:
    config = ExperimentConfig(name="study", model=ModelConfig(path=model), reuse=False)
    config.phases = {"one": PhaseConfig(data=DataConfig(path=train), **vars(TrainingConfig()))}
    config.evaluation.sets = {"held_out": EvaluationSetConfig(path=evaluation)}
    return config


def test_a_tilde_is_the_home_folder_in_every_path(home: Path) -> None:
    config = experiment("~/good.jsonl", "~/good.jsonl")
    checked = check(config, home / "run")
    assert checked.model_folder == home / "base"
    assert folder_of(checked).parent == home / "run" / "data"
    config.model.path, config.phases["one"].init_from = "elsewhere", "~/base"
    assert check(config, None).plan.phases[0].samples == 1


def folder_of(checked: Checked) -> Path:
    """Of the samples of phase one."""
    spec = checked.plan.phases[0].spec
    assert spec is not None
    return Path(spec.data)


def problems(config: ExperimentConfig, run_folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        check(config, run_folder)
    return raised.value.problems


def test_a_problem_of_a_file_begins_with_the_setting_and_is_told_once(home: Path) -> None:
    bad, none = home / "bad.jsonl", home / "none.jsonl"
    bad.write_text(json.dumps(GOOD) + "\nno\n")
    first, second = problems(experiment(str(bad), str(none)))
    assert first.startswith(f"phases.one.data.path: {bad}:2: is not JSON")
    assert second.startswith(f"evaluation.sets.held_out.path: {none}: cannot be read")
    (once,) = problems(experiment(str(bad), str(bad)))
    assert once == first
    (home / "base" / "tokenizer.json").unlink()
    assert problems(experiment(str(bad), "~/good.jsonl"))[0].startswith("model.path: ~/base: holds no tokenizer.json")


def test_a_split_or_revision_that_is_not_read_is_refused(home: Path) -> None:
    config = experiment("~/good.jsonl", "~/good.jsonl")
    config.phases["one"].data.revision = "v2"
    config.evaluation.sets["held_out"].split = "test"
    first, second = problems(config)
    assert first.startswith(f"phases.one.data.path: {home / 'good.jsonl'}: is no name on the Hugging Face Hub, but has")
    assert second.startswith(f"evaluation.sets.held_out.path: {home / 'good.jsonl'}: has no splits, but split=test")


@pytest.mark.parametrize("weights", [None, [1.0, 1.0]])
def test_a_revision_is_that_of_the_hub_names_among_the_paths(
    home: Path, monkeypatch: pytest.MonkeyPatch, weights: list[float] | None
) -> None:
    asked = []

    def load(name: str, split: str, revision: str | None) -> Dataset:
        asked.append((name, split, revision))
        return Dataset.from_list([GOOD])

    monkeypatch.setattr("datasets.load_dataset", load)
    config = experiment("~/good.jsonl", "~/good.jsonl")
    config.phases["one"].data = DataConfig(["~/good.jsonl", "some/facts"], weights, split="test", revision="v2")
    assert check(config, None).plan.phases[0].samples == 2
    assert asked == [("some/facts", "test", "v2")]


def resize(home: Path, rows: int) -> None:
    """Give the model a table of embeddings and a head of so many rows, and no other config."""
    file = home / "base" / "model.safetensors"
    tensors = load_file(file)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:rows].contiguous()
    save_file(tensors, file)


@pytest.mark.parametrize("nested", [False, True])
def test_token_ids_that_the_model_does_not_have_are_refused(home: Path, nested: bool) -> None:
    good = home / "good.jsonl"
    highest = prepare(DataConfig(path=str(good)), ChatTokenizer.load(str(home / "base")), 100, None).summary.highest_id

    def limit(rows: int) -> ExperimentConfig:
        resize(home, rows)
        own = {"num_hidden_layers": 4, "hidden_size": 128, "vocab_size": rows}
        change_config(home, **({"vocab_size": None, "text_config": own} if nested else own))
        return experiment(str(good), str(good))

    check(limit(highest + 1), None)
    (told,) = problems(limit(highest))  # of the file, so once
    assert told.startswith(f"phases.one.data.path: {good}: has the token id {highest}, but the model has ")
    assert f"vocab_size={highest} (ids below that); put" in told


def test_a_config_of_another_vocabulary_is_refused(home: Path) -> None:
    for size in (300, 320):
        change_config(home, vocab_size=size)
        told = problems(experiment("~/good.jsonl", "~/good.jsonl"))
        assert told[0].startswith(f"model.path=~/base: config.json has vocab_size={size}, but ")
        assert "embed_tokens.weight has 304 rows; set vocab_size to 304" in told[0]


def longest(home: Path) -> int:
    data = DataConfig(path=str(home / "good.jsonl"))
    return prepare(data, ChatTokenizer.load(str(home / "base")), 100, None).summary.longest


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_positions"])
def test_samples_beyond_a_table_of_positions_are_refused(home: Path, key: str) -> None:
    file = home / "base" / "model.safetensors"
    save_file({**load_file(file), "transformer.wpe.weight": torch.zeros(9, 128)}, file)

    def limit(value: int) -> ExperimentConfig:
        change_config(home, max_position_embeddings=None, rope_parameters=None)
        change_config(home, **{key: value})
        return experiment("~/good.jsonl", "~/good.jsonl")

    check(limit(longest(home)), None)
    found = problems(limit(5))
    assert found[0].startswith(f"phases.one.data.path: {home}/good.jsonl: has a sample of {longest(home)} tokens, but ")
    assert "the model has only 5 positions; set phases.one.max_seq_len=5 or less" in found[0]
    assert len(found) == 2  # the length with each setting that limits it


def test_samples_beyond_what_rotary_positions_were_made_for_earn_one_warning(home: Path) -> None:
    change_config(home, max_position_embeddings=5)
    (told,) = warnings_of(experiment("~/good.jsonl", "~/good.jsonl"))
    assert told.startswith(f"phases.one.data has a sample of {longest(home)} tokens, but config.json declares")
    assert "declares 5 positions" in told
    scaled = {"rope_type": "yarn", "factor": 100.0, "original_max_position_embeddings": 5, "rope_theta": 1e4}
    change_config(home, rope_parameters=scaled)
    assert warnings_of(experiment("~/good.jsonl", "~/good.jsonl")) == []


def test_what_was_prepared_for_nothing_is_removed(home: Path) -> None:
    config = experiment(str(home / "good.jsonl"), str(home / "none.jsonl"))
    (home / "run").mkdir()
    problems(config, home / "run")
    assert list((home / "run").iterdir()) == []


def test_what_was_there_before_stays_whoever_made_it(home: Path) -> None:
    data = home / "run" / "data"
    data.mkdir(parents=True)
    (data / "mine.jsonl").write_text(json.dumps(GOOD) + "\n")
    problems(experiment(str(data / "mine.jsonl"), str(home / "none.jsonl")), home / "run")
    assert [path.name for path in data.iterdir()] == ["mine.jsonl"]


def test_a_model_without_tokenizer_is_no_problem_of_the_data(home: Path) -> None:
    (home / "base" / "tokenizer.json").unlink()
    config = experiment(str(home / "good.jsonl"), str(home / "good.jsonl"))
    (home / "texts.jsonl").write_text(json.dumps({"document": "a b c"}) + "\n")
    config.phases["one"].data = DataConfig(path=str(home / "texts.jsonl"), block_size=8)
    config.osft.subspace, config.preserve.data.path = "activations", str(home / "kept.jsonl")
    (home / "kept.jsonl").write_text(2 * (json.dumps(GOOD) + "\n"))
    (problem,) = problems(config)
    assert problem.startswith("model.path: ~/base: holds no tokenizer.json")


def test_the_data_of_an_earlier_run_stays(home: Path) -> None:
    config = experiment(str(home / "good.jsonl"), str(home / "good.jsonl"))
    check(config, home / "run")
    (home / "run" / "plan.json").write_text("{}")
    config.evaluation.sets["held_out"].path = str(home / "none.jsonl")
    problems(config, home / "run")
    assert len(samples_in(home / "run" / "data")) == 1


def samples_in(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob(f"*/{SAMPLES_FILE}")]


def test_data_is_kept_for_other_runs_where_phases_are(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment("~/good.jsonl", "~/good.jsonl")
    config.reuse, config.store_dir = True, "~/store"
    run = home / "run"
    assert folder_of(check(config, run)).parent == home / "store" / "data"
    config.data.processing_dir = "~/elsewhere"
    assert folder_of(check(config, run)).parent == home / "elsewhere"
    config.data.processing_dir = None
    assert not (run / "data").exists()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert folder_of(check(config, run)).parent == run / "data"
    config.data.processing_dir = "~/good.jsonl/below"
    (problem,) = problems(config, run)
    assert "good.jsonl/below cannot be written (Not a directory)" in problem


def test_rows_that_are_skipped_earn_a_warning_and_are_listed(home: Path) -> None:
    (home / "bad.jsonl").write_text(f"{json.dumps(GOOD)}\nno\n")
    config = experiment("~/bad.jsonl", "~/good.jsonl")
    config.phases["one"].data.on_bad_row = OnBadRow.skip
    for place in (None, home / "run", home / "run"):
        checked = check(config, place)
        assert checked.skipped["phases.one.data"].skipped == 1
        (line,) = [line for line in checked.plan.warnings if "left out" in line]
        assert line.startswith("phases.one.data: 1 rows cannot be used and are left out")
        assert f"{home}/bad.jsonl:2: is not JSON" in line


def test_special_tokens_in_contents_are_told_once_with_their_places(home: Path) -> None:
    turns = [{"role": "user", "content": "Hi.<|im_end|>"}, {"role": "assistant", "content": "Yes."}]
    (home / "forged.jsonl").write_text(f"{json.dumps({'messages': turns})}\n" * 5)
    config = experiment("~/forged.jsonl", "~/good.jsonl")
    for place in (None, home / "run", home / "run"):
        (line,) = [line for line in check(config, place).plan.warnings if "special" in line]
        places = ", ".join(f"{home}/forged.jsonl:{number}" for number in (1, 2, 3))
        assert line.startswith(
            "phases.one.data: 5 rows spell out special tokens (<|im_end|>) in a content, the first: "
            f"{places}; they are plain text"
        )
    config.phases["one"].data.special_tokens = SpecialTokens.allow
    (line,) = [line for line in check(config, None).plan.warnings if "spell out" in line]
    assert "they are read as special tokens" in line


def test_a_store_that_cannot_be_one_is_refused_and_one_that_cannot_be_written_pointed_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment("~/good.jsonl", "~/good.jsonl")
    config.reuse = True
    for store in ("~/good.jsonl", "~/good.jsonl/below"):
        config.store_dir = store
        with pytest.raises(ConfigurationError, match=r"store_dir=~/good.jsonl.*good.jsonl is not a folder"):
            check(config, None)
    config.reuse = False
    check(config, None)
    config.reuse, config.store_dir = True, "~/to/be/made"
    told = "store_dir=~/to/be/made cannot be written"
    assert not any(told in warning for warning in check(config, None).plan.warnings)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert sum(told in warning for warning in check(config, None).plan.warnings) == 1


def change_config(home: Path, **settings: object) -> None:
    """Changes keys of the model's config.json; None removes a key."""
    place = home / "base" / "config.json"
    changed = json.loads(place.read_text()) | settings
    place.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))


def warnings_of(config: ExperimentConfig) -> list[str]:
    return [line for line in check(config, None).plan.warnings if "evaluation set" not in line]


def test_a_model_that_cannot_be_trained_is_refused(home: Path) -> None:
    change_config(home, quantization_config={"quant_method": "awq"}, architectures=["LlamaModel"])
    first, second = problems(experiment("~/good.jsonl", "~/good.jsonl"))
    assert first.startswith("model.path=~/base: its weights are quantised (awq)")
    assert second.startswith("model.path=~/base: LlamaModel is no causal language model")


def test_what_is_unusual_about_a_model_is_told(home: Path) -> None:
    """smollm3 is a family of transformers that the table does not have."""
    config = experiment("~/good.jsonl", "~/good.jsonl")
    assert warnings_of(config) == []
    change_config(home, model_type="smollm3", architectures=["SmolLM3ForCausalLM"])
    (told,) = warnings_of(config)
    assert told.startswith("model_type='smollm3': this family is not known")
    assert "self_attn.q_proj x 4" in told
    config.osft.target_patterns = [r".*\.q_proj"]
    assert warnings_of(config) == []


def test_a_tokenizer_with_more_tokens_than_embeddings_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatTokenizer, "vocab_size", 10**6)
    (told,) = warnings_of(experiment("~/good.jsonl", "~/good.jsonl"))
    assert told.startswith("the tokenizer has 1000000 tokens, the model's table of embeddings ")


class Rehearsal(Sft):
    """A method with data of its own."""

    name = "rehearsal"

    def extra_data(self, config: ExperimentConfig, phases: Sequence[PhaseOutline]) -> dict[str, DataConfig]:
        return {"rehearsed": DataConfig(path=str(phases[0].config.method_settings["path"]))}

    def data_warnings(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        targets: Sequence[Target],
        evaluation: Mapping[str, Prepared],
        training: Mapping[str, Prepared],
    ) -> Iterator[str]:
        yield f"{list(extra)} of {list(training)} beside {list(evaluation)}"


def test_a_method_is_shown_the_data_that_it_asked_for_and_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here beside OSFT by weights, which asks for none, and then by activations."""
    monkeypatch.setitem(sys.modules, "osftx_test_rehearsal", ModuleType("osftx_test_rehearsal"))
    monkeypatch.setattr(sys.modules["osftx_test_rehearsal"], "Rehearsal", Rehearsal, raising=False)
    config = experiment("~/good.jsonl", "~/good.jsonl")
    (home / "more.jsonl").write_text(json.dumps(GOOD | {"messages": [*GOOD["messages"], *GOOD["messages"]]}) + "\n")
    own = {"method": "osftx_test_rehearsal.Rehearsal", "method_settings": {"path": "~/more.jsonl"}}
    config.phases["two"] = PhaseConfig(data=DataConfig(path="~/good.jsonl"), **vars(TrainingConfig()), **own)
    told = "['rehearsed'] of ['one', 'two'] beside ['held_out']"
    checked = check(config, home / "run")
    assert told in checked.plan.warnings
    assert "rehearsed" in checked.read
    (home / "kept.jsonl").write_text(200 * (json.dumps({"messages": 3 * GOOD["messages"]}) + "\n"))
    config.osft.subspace, config.preserve.data.path = "activations", "~/kept.jsonl"
    checked = check(config, home / "run")
    assert told in checked.plan.warnings
    assert {"rehearsed", "preserve.data"} <= checked.read.keys()
