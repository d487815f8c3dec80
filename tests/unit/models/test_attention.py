"""Attention sample by sample gives what attention under transformers' own mask of packed samples gives."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from osftx.models import attention
from osftx.models.attention import EAGER, FLASH, VARLEN_SDPA, VARLEN_SINKS, choose_attention
from osftx.probes.packing_check import check_samples_apart

pytestmark = pytest.mark.process

LENGTHS = (9, 3, 1, 5)
"""The first is longer than the window of those that have one."""
WINDOW = 4
OF_EACH_KIND: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "phi3": {"pad_token_id": 0},
    "mistral": {"sliding_window": WINDOW},
    "gemma3_text": {"sliding_window": WINDOW, "pad_token_id": 0},
    "starcoder2": {"sliding_window": WINDOW},
    "qwen2_moe": {},
    "gpt_neox": {},
}


def small(model_type: str, attention: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=128,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        **OF_EACH_KIND[model_type],
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def packed() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(128, (1, sum(LENGTHS)), generator=generator)
    return {"input_ids": tokens, "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None]}


def logits_and_gradients(model: PreTrainedModel) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    rows = packed()
    output = model(**rows, labels=rows["input_ids"], use_cache=False)
    output.loss.backward()
    return output.logits.detach(), {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("model_type", OF_EACH_KIND)
def test_the_same_as_under_a_mask(model_type: str) -> None:
    model = small(model_type)
    logits, gradients = logits_and_gradients(model)
    model.set_attn_implementation(VARLEN_SDPA)
    by_sample, their_gradients = logits_and_gradients(model)
    torch.testing.assert_close(by_sample, logits, rtol=1e-4, atol=1e-5)
    assert their_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(their_gradients[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_a_sample_does_not_feel_its_neighbours() -> None:
    model = small("llama", VARLEN_SDPA)
    rows = packed()
    together = model(**rows, use_cache=False).logits
    changed = rows["input_ids"].clone()
    changed[:, : LENGTHS[0]] = 7
    beside_others = model(input_ids=changed, position_ids=rows["position_ids"], use_cache=False).logits
    assert torch.equal(beside_others[:, LENGTHS[0] :], together[:, LENGTHS[0] :])
    assert not torch.equal(beside_others[:, : LENGTHS[0]], together[:, : LENGTHS[0]])


@pytest.mark.parametrize(
    "row",
    [
        {"attention_mask": torch.ones(1, 1, 4, 4, dtype=torch.bool), "position_ids": torch.arange(4)[None]},
        {"attention_mask": None, "position_ids": None},
    ],
)
def test_rows_that_it_cannot_take_are_refused(row: dict[str, Tensor | None]) -> None:
    heads = torch.zeros(1, 2, 4, 8)
    with pytest.raises(
        ValueError, match=r"Linear does not hand its attention one packed row.*attn_implementation=sdpa"
    ):
        attention.varlen_sdpa(torch.nn.Linear(1, 1), heads, heads, heads, **row)


def test_padded_rows_are_refused() -> None:
    model = small("llama", VARLEN_SDPA)
    with pytest.raises(ValueError, match="one packed row"):
        model(input_ids=torch.ones(2, 4, dtype=torch.long), use_cache=False)


def class_of(model_type: str) -> type[PreTrainedModel]:
    return AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model(model_type))]


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = class_of("llama")
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    assert choose_attention(llama, "cuda", torch.bfloat16) == FLASH
    assert choose_attention(llama, "cuda", torch.float32) == VARLEN_SDPA
    assert choose_attention(llama, "cpu", torch.bfloat16) == VARLEN_SDPA
    assert choose_attention(llama, "cuda", torch.bfloat16, capped=True) == FLASH
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: False)
    assert choose_attention(llama, "cuda", torch.bfloat16) == VARLEN_SDPA


def test_attention_with_more_in_it_is_not_left_out() -> None:
    assert choose_attention(class_of("gemma2"), "cpu", torch.float32, capped=True) == EAGER
    assert choose_attention(None, "cpu", torch.float32) is None


def test_sinks() -> None:
    """As transformers' own attention of gpt-oss has them; it mixes packed samples, so they are read one by one."""
    assert choose_attention(class_of("gpt_oss"), "cpu", torch.float32) == VARLEN_SINKS
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": WINDOW}
    config = AutoConfig.for_model("gpt_oss", num_local_experts=4, num_experts_per_tok=2, **sizes, **heads)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(parameter)
    rows = packed()
    samples = zip(*(values.split(LENGTHS, dim=1) for values in rows.values()), strict=True)
    alone = [model(input_ids=ids, position_ids=at, use_cache=False).logits for ids, at in samples]
    model.set_attn_implementation(VARLEN_SINKS)
    torch.testing.assert_close(model(**rows, use_cache=False).logits, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extra", [{"softcap": 30.0}, {"position_bias": torch.zeros(2)}])
def test_what_it_does_not_know_is_refused(extra: dict[str, Any]) -> None:
    heads = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match=r"Linear wants .*attn_implementation=eager"):
        attention.varlen_sdpa(
            torch.nn.Linear(1, 1), heads, heads, heads, None, position_ids=torch.arange(4)[None], **extra
        )


def test_flash_attention_only_where_the_model_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    assert choose_attention(class_of("gpt_oss"), "cuda", torch.bfloat16) == VARLEN_SINKS


def test_a_model_that_mixes_packed_samples_is_refused() -> None:
    """OPT's own attention builds its mask without the positions; sample by sample they are kept apart."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 128}
    config = AutoConfig.for_model("opt", word_embed_proj_dim=32, max_position_embeddings=64, **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    told = r"OPTForCausalLM under sdpa lets .* see each other; try model.attn_implementation=varlen_sdpa or eager;"
    with pytest.raises(ValueError, match=told):
        check_samples_apart(model, torch.device("cpu"))
    model.set_attn_implementation(VARLEN_SDPA)
    check_samples_apart(model, torch.device("cpu"))
    check_samples_apart(small("llama"), torch.device("cpu"))


def test_an_attention_of_the_models_own_is_not_told_to_take_ours() -> None:
    """Falcon chooses among classes of its own, by name."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 128}
    config = AutoConfig.for_model("falcon", **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with pytest.raises(ValueError, match=r"FalconForCausalLM under sdpa .*; try model.attn_implementation=eager;"):
        check_samples_apart(model, torch.device("cpu"))


@pytest.mark.parametrize("model_type", ["phimoe", "qwen2_moe"])
def test_a_model_that_keeps_its_window_to_itself_is_refused(model_type: str) -> None:
    """Its window would be lost: only its mask has it, and sample by sample there is none."""
    window = {"sliding_window": WINDOW, "use_sliding_window": True}
    window |= {"layer_types": ["sliding_attention"]}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = AutoConfig.for_model(
        model_type, num_key_value_heads=2, vocab_size=128, max_position_embeddings=64, **sizes, **window
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=VARLEN_SDPA)
    told = rf"does not tell varlen_sdpa of its window of {WINDOW} tokens; set model.attn_implementation=sdpa"
    with pytest.raises(ValueError, match=told):
        check_samples_apart(model, torch.device("cpu"))
    model.set_attn_implementation("sdpa")
    check_samples_apart(model, torch.device("cpu"))


@pytest.mark.parametrize("model_type", ["mistral", "gemma3_text"])
def test_a_window_that_reaches_the_attention_is_fine(model_type: str) -> None:
    check_samples_apart(small(model_type, VARLEN_SDPA), torch.device("cpu"))
