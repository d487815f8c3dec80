"""Model folders in which config and files do not belong together, on real ZeRO-3 ranks: nothing of them is trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import make_model, make_samples
from torch import Tensor
from transformers import AutoModelForCausalLM

from osftx.config.phase_spec import PhaseSpec

RunPhase = Callable[..., PhaseSpec]
TABLE, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.layers.1.post_attention_layernorm.weight"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "train", 16)


def changed(folder: Path, change: Callable[[dict[str, Tensor]], object], **config: object) -> Path:
    make_model(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    place = folder / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | config))
    return folder


def refused(run_phase: RunPhase, model: Path, samples: Path, method: str) -> str:
    with pytest.raises(RuntimeError) as raised:
        run_phase(model, samples, method=method, num_epochs=1)
    assert "after step" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("method", ["osft", "sft"])
def test_a_missing_norm_ends_the_phase(run_phase: RunPhase, tmp_path: Path, samples: Path, method: str) -> None:
    model = changed(tmp_path / "model", lambda tensors: tensors.pop(NORM))
    assert f"1 tensor is missing from the files: {NORM}" in refused(run_phase, model, samples, method)


@pytest.mark.parametrize("method", ["osft", "sft"])
def test_a_head_that_is_tied_and_differs_ends_the_phase(
    run_phase: RunPhase, tmp_path: Path, samples: Path, method: str
) -> None:
    model = changed(tmp_path / "model", lambda tensors: None, tie_word_embeddings=True)
    assert f"{HEAD} has other values in the files than in the model" in refused(run_phase, model, samples, method)


def test_a_weight_that_is_not_finite_is_named(run_phase: RunPhase, tmp_path: Path, samples: Path) -> None:
    model = changed(tmp_path / "model", lambda tensors: tensors[NORM].__setitem__(-1, float("nan")))
    assert f"{NORM} has NaN or infinite values" in refused(run_phase, model, samples, "sft")


def test_a_head_that_is_tied_and_the_same_is_saved_as_trained(
    run_phase: RunPhase, tmp_path: Path, samples: Path
) -> None:
    def tie(tensors: dict[str, Tensor]) -> None:
        tensors[HEAD] = tensors[TABLE].clone()

    model = changed(tmp_path / "model", tie, tie_word_embeddings=True)
    spec = run_phase(model, samples, method="sft", num_epochs=1)
    before, after = load_file(model / "model.safetensors"), load_file(spec.checkpoint / "model.safetensors")
    assert torch.equal(after[HEAD], after[TABLE])
    assert not torch.equal(after[HEAD], before[HEAD])
    loaded = AutoModelForCausalLM.from_pretrained(spec.checkpoint, dtype=torch.float32)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, after[HEAD])
