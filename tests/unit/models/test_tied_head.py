"""A head in the files of a model that ties it to the embeddings."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from osftx.errors import ConfigurationError
from osftx.models import tied_head
from osftx.models.hub import inspect

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tied_head, "_CHUNK", 50)


def make(folder: Path, head: Tensor | None, tied: bool = True) -> Path:
    """The embeddings (61, 8) are random; the head lies in a file of its own."""
    torch.manual_seed(0)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": tied}))
    parts = {"one.safetensors": {"model.norm.weight": torch.ones(3), TABLE: torch.randn(61, 8).bfloat16()}}
    if head is not None:
        parts["two.safetensors"] = {"other": torch.ones(5), HEAD: head}
    for name, tensors in parts.items():
        save_file(tensors, folder / name)
    named = {tensor: name for name, tensors in parts.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
    return folder


def same() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(61, 8).bfloat16()


def test_a_head_that_is_the_same_is_no_problem(tmp_path: Path) -> None:
    inspect(str(make(tmp_path, same())), None)
    inspect(str(make(tmp_path, None)), None)


@pytest.mark.parametrize("place", [0, 487])
def test_a_head_that_differs_in_one_number_is_refused(tmp_path: Path, place: int) -> None:
    head = same()
    head.view(-1)[place] += 1
    with pytest.raises(ConfigurationError) as raised:
        inspect(str(make(tmp_path, head)), None)
    (line,) = raised.value.problems
    assert line.startswith(
        f"model.path={tmp_path}: config.json has tie_word_embeddings=true, but {HEAD} is not the same"
    )
    assert "set it to false if" in line
    inspect(str(make(tmp_path, head, tied=False)), None)


@pytest.mark.parametrize("head", [torch.zeros(61, 8), torch.zeros(64, 8).bfloat16(), same()[:60].contiguous()])
def test_a_head_of_another_kind_is_refused(tmp_path: Path, head: Tensor) -> None:
    with pytest.raises(ConfigurationError, match="is not the same as"):
        inspect(str(make(tmp_path, head)), None)
