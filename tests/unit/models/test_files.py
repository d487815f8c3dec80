"""What a model consists of, from its files; and one readable error for each way in which it is not there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import save_file

from osftx.errors import ConfigurationError
from osftx.models import hub
from osftx.models.files import ModelFiles, check_trainable, embedding_rows, read_folder, tensor_files
from osftx.models.hub import fetch, httpx, inspect, looks_local

CONFIG = {"model_type": "llama", "hidden_size": 4}


def zeros(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A model in one file."""
    folder = tmp_path / "whole"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(zeros(("a.weight", (3, 4)), ("b.bias", (5,))), folder / "model.safetensors")
    return folder


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The same tensors and one more in two files with an index, and a file that the index does not name."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    save_file(zeros(("b.bias", (5,))), folder / second)
    save_file(zeros(("a.weight", (3, 4)), ("c.weight", (2, 2))), folder / first)
    save_file(zeros(("other.weight", (9, 9))), folder / "consolidated.safetensors")  # Mistral's own format
    index = {"metadata": {}, "weight_map": {"b.bias": second, "a.weight": first, "c.weight": first}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def problem(call: Callable[[], Any]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        call()
    (line,) = raised.value.problems
    return line


def test_reads_config_and_shapes(whole: Path) -> None:
    files = read_folder(whole)
    assert files.config == CONFIG
    assert files.shapes == {"a.weight": (3, 4), "b.bias": (5,)}
    assert files.parameters == 3 * 4 + 5


def test_reads_every_file_of_the_index_and_no_other(sharded: Path) -> None:
    files = read_folder(sharded)
    assert files.shapes == {"a.weight": (3, 4), "b.bias": (5,), "c.weight": (2, 2)}
    assert files.parameters == 12 + 5 + 4


def test_tensor_files_name_the_file_of_each_tensor_file_by_file(whole: Path, sharded: Path) -> None:
    assert tensor_files(whole) == dict.fromkeys(["a.weight", "b.bias"], whole / "model.safetensors")
    by_tensor = tensor_files(sharded)
    assert {name: path.name for name, path in by_tensor.items()} == {
        "a.weight": "model-00001-of-00002.safetensors",
        "c.weight": "model-00001-of-00002.safetensors",
        "b.bias": "model-00002-of-00002.safetensors",
    }
    assert list(by_tensor)[-1] == "b.bias"


def test_a_scalar_counts_as_one_number() -> None:
    assert ModelFiles({}, {"scale": (), "w": (2, 3)}).parameters == 7


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", None),
        ("config.json", b"{"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[]x"),
        ("config.json", b"3"),
        ("model.safetensors", None),
        ("model.safetensors", b""),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
        ("model.safetensors", b"\xff" * 64),
    ],
)
def test_a_folder_that_is_no_model_is_one_problem(whole: Path, file: str, content: bytes | None) -> None:
    """None removes the file."""
    if content is None:
        (whole / file).unlink()
    else:
        (whole / file).write_bytes(content)
    line = problem(lambda: read_folder(whole))
    assert line.startswith(f"model.path={whole}: not a Hugging Face model folder with config.json and safetensors")
    assert "give another folder" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"architectures": [1]}, "architectures=[1], which must be a list of texts"),
        ({"architectures": "LlamaForCausalLM"}, "architectures='LlamaForCausalLM', which must be a list of texts"),
        (
            {"quantization_config": "none"},
            "quantization_config='none', which must be absent, or an object with entries",
        ),
        ({"quantization_config": {}}, "quantization_config={}, which must be absent, or an object with entries"),
        ({"auto_map": "x"}, "auto_map='x', which must be an object"),
        ({"text_config": [3]}, "text_config=[3], which must be an object"),
        ({"text_config": {"vocab_size": "300"}}, "vocab_size='300', which must be a whole number"),
        ({"model_type": 5}, "model_type=5, which must be text"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers='2', which must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True, which must be a whole number"),
        ({"tie_word_embeddings": ["yes"]}, "tie_word_embeddings=['yes'], which must be true or false"),
    ],
)
def test_a_value_of_another_kind_is_one_of_config_json(whole: Path, wrong: dict[str, Any], says: str) -> None:
    (whole / "config.json").write_text(json.dumps(CONFIG | wrong))
    expected = f"model.path={whole}: config.json has {says}; correct it, or download or save the model again"
    assert problem(lambda: read_folder(whole)) == expected
    absent: dict[str, Any] = dict.fromkeys(wrong)
    (whole / "config.json").write_text(json.dumps(CONFIG | absent))
    assert read_folder(whole).config == CONFIG | absent


@pytest.mark.parametrize("content", [b"{}", b"no json", b'{"weight_map": 3}', b'{"weight_map": {"a": 3, "b": "c"}}'])
def test_an_index_that_is_none_is_one_problem(sharded: Path, content: bytes) -> None:
    (sharded / "model.safetensors.index.json").write_bytes(content)
    for piece in sharded.glob("model-*.safetensors"):
        piece.unlink()
    assert problem(lambda: read_folder(sharded)).startswith(f"model.path={sharded}: ")


def test_missing_files_of_weights_are_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    line = problem(lambda: read_folder(sharded))
    assert line.startswith(f"model.path={sharded}: 1 of 2 files of weights")
    assert "such as model-00002-of-00002.safetensors; download or save the model again" in line


@pytest.mark.parametrize(
    ("file", "says", "remedy"),
    [
        ("adapter_config.json", "an adapter without its model", "merge it first"),
        ("model-Q4_K_M.gguf", "GGUF", "give the model that they were made from"),
        ("pytorch_model.bin", "pytorch_model.bin alone", "convert them"),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin alone", "convert them"),
    ],
)
def test_weights_in_another_form_are_refused_with_the_remedy(whole: Path, file: str, says: str, remedy: str) -> None:
    (whole / "model.safetensors").unlink()
    (whole / file).write_bytes(b"{}")
    line = problem(lambda: read_folder(whole))
    assert line.startswith(f"model.path={whole}: ")
    assert says in line
    assert remedy in line


def test_such_files_beside_the_weights_do_not_matter(whole: Path) -> None:
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf", "model.fp16.safetensors"):
        (whole / name).write_bytes(b"{}")
    assert read_folder(whole).shapes == {"a.weight": (3, 4), "b.bias": (5,)}


def test_packed_weights_are_refused(whole: Path) -> None:
    save_file({"a.qweight": np.zeros((4, 4), dtype=np.int32)}, whole / "model.safetensors")
    line = problem(lambda: read_folder(whole))
    assert "matrices of I32" in line
    assert "dequantize it" in line


@pytest.mark.parametrize(
    ("config", "says", "remedy"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised (gptq)", "dequantize it"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "quantised (awq)", "dequantize it"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "BertModel is no causal", "give one"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM is no causal", "give one"),
        (
            {
                "model_type": "t5",
                "architectures": ["T5ForConditionalGeneration"],
                "is_encoder_decoder": True,
            },
            "T5ForConditionalGeneration is no causal",
            "give one",
        ),
        ({"model_type": "not-yet-known"}, "does not know model_type='not-yet-known'", "install a version that does"),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}},
            "brings code of its own",
            "model.trust_remote_code=true",
        ),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(config: dict[str, Any], says: str, remedy: str) -> None:
    files = ModelFiles({**CONFIG, **config}, {})
    line = problem(lambda: check_trainable(files, "some/where", trust_remote_code=False))
    assert line.startswith("model.path=some/where: ")
    assert says in line
    assert remedy in line


@pytest.mark.parametrize(
    ("config", "trusted"),
    [
        (CONFIG, False),
        ({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}, False),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, False),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, False),
        ({"model_type": "phi3", "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}}, False),
        ({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}, True),
    ],
)
def test_a_model_that_can_be_trained_is_not(config: dict[str, Any], trusted: bool) -> None:
    check_trainable(ModelFiles(config, {}), "some/where", trusted)


def test_rows_of_the_embeddings() -> None:
    assert embedding_rows(ModelFiles({}, {"model.embed_tokens.weight": (61, 4)})) == 61
    assert embedding_rows(ModelFiles({}, {"transformer.wte.weight": (50, 4)})) == 50
    assert embedding_rows(ModelFiles({}, {"lm_head.weight": (50, 4)})) is None


def test_a_half_written_safetensors_file_is_one_problem(whole: Path) -> None:
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert problem(lambda: read_folder(whole)).startswith(f"model.path={whole}: ")


def test_the_problem_names_the_setting_that_asked(whole: Path, tmp_path: Path) -> None:
    (whole / "config.json").unlink()
    key = "phases.skills.init_from"
    assert problem(lambda: inspect(str(whole), None, key)).startswith(f"{key}={whole}: ")
    for call in (inspect, fetch):
        line = problem(lambda call=call: call(str(tmp_path / "nowhere"), None, key))
        assert line.startswith(f"{key}={tmp_path / 'nowhere'}: no such folder")


def test_a_folder_that_nobody_may_look_into_is_one_problem(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.stat

    def stat(path: Any, *args: Any, **settings: Any) -> os.stat_result:
        if str(path).startswith(str(whole)):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *args, **settings)

    monkeypatch.setattr(os, "stat", stat)
    for call in (inspect, fetch):
        assert problem(lambda call=call: call(str(whole), None)).startswith(f"model.path={whole}: no such folder")


def test_inspect_and_fetch_of_a_folder(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect(str(whole), None) == read_folder(whole)
    assert fetch(str(whole), None) == whole
    monkeypatch.setenv("HOME", str(whole.parent))
    assert fetch("~/whole", None) == whole


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("meta-llama/Llama-3.1-8B", False),
        ("/models/llama", True),
        ("./llama", True),
        ("../llama", True),
        ("~/llama", True),
        ("llama", True),
        ("runs/one/checkpoint", True),
        (".", True),
    ],
)
def test_looks_local(path: str, local: bool) -> None:
    assert looks_local(path) is local


def test_a_folder_of_the_form_of_a_hub_name_is_local_where_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not looks_local("owner/name")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert looks_local("owner/name")


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of any Hub model is here."""

    def nothing(*_: object, **arguments: object) -> str:
        assert arguments["local_files_only"] is True, "the network is asked only after model_info has answered"
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(hub, "snapshot_download", nothing)


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("call", [inspect, fetch])
@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[Errno -2] Name or service not known\nand more"),
        httpx.ConnectTimeout("timed out"),
        OSError(""),
    ],
)
def test_a_hub_that_cannot_be_reached_is_one_problem(
    monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any], error: Exception
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    line = problem(lambda: call("owner/name", None))
    assert line.startswith("model.path=owner/name: no such folder here, and the Hub could not be reached")
    assert type(error).__name__ in line
    assert "give a local folder" in line
    assert "\n" not in line


@pytest.mark.parametrize("call", [inspect, fetch])
@pytest.mark.parametrize("path", ["runs/a--b", "runs/check point", "runs/"])
def test_what_can_be_neither_folder_nor_hub_name_is_one_problem(call: Callable[..., Any], path: str) -> None:
    """Refused by the name alone: the network is not asked."""
    line = problem(lambda: call(path, None))
    assert line.startswith(f"model.path={path}: no such folder")
    assert "correct the path" in line


def test_a_model_in_the_cache_needs_no_network(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cached(*_: object, **arguments: object) -> str:
        assert arguments["local_files_only"] is True
        return str(whole)

    monkeypatch.setattr(hub, "snapshot_download", cached)
    monkeypatch.delattr(HfApi, "model_info")
    assert inspect("owner/name", None) == read_folder(whole)
    assert fetch("owner/name", None) == whole
