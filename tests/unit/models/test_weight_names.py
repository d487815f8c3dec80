"""Names in a model's files against those of its parameters, where transformers converts what it reads."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from osftx.models.targets import Target
from osftx.models.weight_names import as_stored, lost, named_as_in_model, named_otherwise, places

EXPERTS = {f"model.layers.0.mlp.experts.{expert}.{part}_proj.weight" for expert in (0, 1) for part in ("gate", "up")}
ROUTER = "model.layers.0.mlp.gate.weight"


@pytest.fixture
def experts() -> PreTrainedModel:
    """A mixture of experts, of which the router and one layer's experts are trained."""
    sizes = {"hidden_size": 8, "moe_intermediate_size": 4, "num_hidden_layers": 1, "vocab_size": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    config = AutoConfig.for_model("qwen3_moe", num_experts=2, num_experts_per_tok=1, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(("mlp.gate.weight", "experts.gate_up_proj")))
    return model


def test_experts_lie_in_the_files_one_by_one(experts: PreTrainedModel) -> None:
    found = places(experts, [*EXPERTS, ROUTER])
    assert found[ROUTER] == (ROUTER, True)
    assert {found[name] for name in EXPERTS} == {("model.layers.0.mlp.experts.gate_up_proj", False)}
    value = torch.arange(2 * 8 * 8.0).reshape(2, 8, 8)
    stored = as_stored(experts, "model.layers.0.mlp.experts.gate_up_proj", value)
    assert stored.keys() == EXPERTS
    assert torch.equal(stored["model.layers.0.mlp.experts.1.up_proj.weight"], value[1, 4:])


def test_what_the_files_cannot_take_back_is_lost(experts: PreTrainedModel) -> None:
    assert lost(experts, [*EXPERTS, ROUTER]) == []
    assert lost(experts, EXPERTS) == [ROUTER]
    assert lost(experts, [*sorted(EXPERTS)[1:], ROUTER]) == ["model.layers.0.mlp.experts.gate_up_proj"]


def test_files_may_leave_out_the_name_of_the_base_model() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=2))
    (target,) = named_as_in_model(model, [Target("h.0.mlp.c_fc", ((32, 8),), transposed=True)])
    assert target == Target("transformer.h.0.mlp.c_fc", ((32, 8),), transposed=True)
    short = ["h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight"]
    assert named_otherwise(model, short, [target.name]) == {target.name: "h.0.mlp.c_fc"}
    assert named_otherwise(model, [f"{target.name}.weight"], [target.name]) == {}
    # The head is tied to the table of embeddings, which the files hold under its own name.
    assert lost(model, [name.removeprefix("transformer.") for name, _ in model.named_parameters()]) == []


def test_a_parameter_that_a_method_adds_need_not_be_taken_back(experts: PreTrainedModel) -> None:
    router = experts.get_parameter(ROUTER)
    assert lost(experts, EXPERTS, [router]) == []
