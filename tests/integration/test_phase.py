"""One phase on real ZeRO-3 ranks, against what plain torch in one process gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_model import make_model, make_samples
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, get_scheduler

from osftx.config.phase_spec import PhaseSpec, PreserveSpec
from osftx.config.schema import OsftConfig, Precision, RankAllocation
from osftx.data.packing import plan_steps, sample_order
from osftx.data.samples import load_samples
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster
from osftx.methods.covariance.cholesky import CholeskyFactor
from osftx.methods.covariance.index import Record
from osftx.methods.osft.rank_allocation import layer_ratios
from osftx.methods.osft.subspace_rule import frozen_rank

RunPhase = Callable[..., PhaseSpec]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "train", 28)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "held_out", 9, seed=1)


@pytest.fixture(scope="module")
def osft(run_phase: RunPhase, model: Path, samples: Path, held_out: Path) -> PhaseSpec:
    return run_phase(model, samples, evaluation_sets={"train": samples, "held_out": held_out}, num_epochs=12)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def losses(spec: PhaseSpec) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(spec.folder) / "metrics.jsonl").open()]


def result(spec: PhaseSpec) -> dict[str, Any]:
    return json.loads((Path(spec.folder) / "result.json").read_text())


def is_target(name: str) -> bool:
    return name.endswith(tuple(f"{target}.weight" for target in TARGETS))


def true_leak(before: Tensor, after: Tensor, ratio: float) -> float:
    """From a full fp64 SVD of the weight, independent of osftx's own decomposition."""
    u, _, vh = torch.linalg.svd(before.double(), full_matrices=False)
    frozen = int(len(vh) * (1 - ratio) + 1e-9)
    change = after.double() - before.double()
    assert change.norm() > 0
    left, right = u[:, :frozen].T @ change, change @ vh[:frozen].T
    return float(max(left.norm(), right.norm()) / change.norm())


def test_only_free_directions_of_the_targets_change(osft: PhaseSpec, model: Path) -> None:
    before, after = weights(model), weights(osft.checkpoint)
    assert before.keys() == after.keys()
    for name, old in before.items():
        if is_target(name):
            assert true_leak(old, after[name], ratio=0.3) < 1e-5, name
        else:
            assert torch.equal(old, after[name]), name
    for target in result(osft)["targets"]:
        assert target["leak_fp32"] < 1e-5
        assert target["frozen_rank"] == int(min(target["shape"]) * 0.7 + 1e-9)


def test_saved_bases_split_the_weight_as_its_svd_does(osft: PhaseSpec, model: Path) -> None:
    for name in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj"):
        bases = load_file(Path(osft.folder) / "bases" / f"{name}.safetensors")
        weight = weights(model)[f"{name}.weight"].double()
        tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
        u, _, vh = torch.linalg.svd(tall, full_matrices=False)
        frozen = bases["frozen"].shape[1]
        assert (vh[:frozen] @ bases["free"].double()).norm() < 1e-5
        inside = u[:, :frozen] @ (u[:, :frozen].T @ bases["frozen"].double())
        assert (inside - bases["frozen"].double()).norm() < 1e-5


def test_equals_plain_torch_in_one_process(osft: PhaseSpec, model: Path) -> None:
    """Same losses and same weights as a dense re-implementation without ZeRO, packing or sharded projection."""
    reference, final = train_reference(osft, model)
    assert losses(osft) == pytest.approx(reference, rel=2e-4)
    saved = weights(osft.checkpoint)
    for name, value in final.items():
        assert (saved[name] - value).norm() < 5e-3 * (value - weights(model)[name]).norm(), name


def train_reference(spec: PhaseSpec, model_folder: Path) -> tuple[list[float], dict[str, Tensor]]:
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).requires_grad_(False)
    updates: dict[str, tuple[nn.Parameter, Tensor, Tensor, bool]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(TARGETS):
            bases = load_file(Path(spec.folder) / "bases" / f"{name}.safetensors")
            tall = module.out_features >= module.in_features
            long, rank = max(module.weight.shape), bases["free"].shape[1]
            delta = nn.Parameter(torch.zeros(long, rank))
            updates[name] = (delta, bases["free"], bases["frozen"], tall)

    def merged() -> dict[str, Tensor]:
        return {
            f"{name}.weight": model.get_submodule(name).weight + (delta @ basis.T if tall else basis @ delta.T)
            for name, (delta, basis, _, tall) in updates.items()
        }

    training = spec.training
    rows = load_samples(spec.data)
    steps = plan_steps(sample_order(len(rows), training.num_epochs, training.seed), training.effective_batch_size)
    optimizer = torch.optim.AdamW(
        [delta for delta, *_ in updates.values()],
        lr=training.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=len(steps))
    history = []
    for chosen in steps:
        total, count = torch.zeros(()), 0
        for place in chosen.tolist():
            ids = torch.tensor([rows[place]["input_ids"]])
            counted = torch.tensor(rows[place]["counted"])
            logits = torch.func.functional_call(model, merged(), kwargs={"input_ids": ids}).logits[0]
            total = total + functional.cross_entropy(logits[:-1][counted[1:]], ids[0, 1:][counted[1:]], reduction="sum")
            count += int(counted[1:].sum())
        loss = total / count
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([delta for delta, *_ in updates.values()], training.max_grad_norm)
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for delta, _, frozen, _ in updates.values():
                delta.sub_(frozen @ (frozen.T @ delta))
    return history, {name: value.detach() for name, value in merged().items()}


@pytest.mark.parametrize("nproc", [1, 3])
def test_does_not_depend_on_the_number_of_ranks(
    run_phase: RunPhase, osft: PhaseSpec, model: Path, samples: Path, held_out: Path, nproc: int
) -> None:
    other = run_phase(
        model, samples, nproc=nproc, evaluation_sets={"train": samples, "held_out": held_out}, num_epochs=12
    )
    assert losses(other) == pytest.approx(losses(osft), rel=1e-3)
    for name in ("train", "held_out"):
        mine, theirs = result(other)["evaluation"][name], result(osft)["evaluation"][name]
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert mine["exact_match"] == theirs["exact_match"]


def test_evaluation_equals_greedy_generation(osft: PhaseSpec, model: Path, samples: Path) -> None:
    """Exact match by one teacher-forced pass is what generation from the saved checkpoint gives."""
    for folder, when in ((model, "evaluation_before"), (osft.checkpoint, "evaluation")):
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        right, total_loss, tokens = 0, 0.0, 0
        for row in load_samples(samples):
            ids, answer = torch.tensor([row["input_ids"]]), sum(row["counted"])
            prompt = ids[:, :-answer]
            generated = plain.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=answer,
                do_sample=False,
                eos_token_id=-1,
            )
            right += int(torch.equal(generated, ids))
            logits = plain(ids).logits[0, -answer - 1 : -1]
            total_loss += functional.cross_entropy(logits, ids[0, -answer:], reduction="sum").item()
            tokens += answer
        measured = result(osft)[when]["train"]
        assert measured["exact_match"] == pytest.approx(right / len(load_samples(samples)))
        assert measured["loss"] == pytest.approx(total_loss / tokens, rel=1e-4)
        assert measured["counted_tokens"] == tokens
    assert (
        result(osft)["evaluation"]["train"]["exact_match"] > result(osft)["evaluation_before"]["train"]["exact_match"]
    )


def test_counts_what_it_did(osft: PhaseSpec, samples: Path) -> None:
    lines = [json.loads(line) for line in (Path(osft.folder) / "metrics.jsonl").open()]
    assert [line["num_samples"] for line in lines] == [8] * 42  # 28 samples, 12 epochs, steps cross epochs
    tokens = sum(len(row["input_ids"]) for row in load_samples(samples))
    assert sum(line["num_total_tokens"] for line in lines) == 12 * tokens == result(osft)["tokens"]
    assert lines[-1]["epoch"] == 12
    assert result(osft)["steps"] == 42


def test_ratio_zero_trains_nothing(run_phase: RunPhase, model: Path, samples: Path) -> None:
    spec = run_phase(model, samples, ratio=0.0, evaluation_sets={"train": samples})
    before, after = weights(model), weights(spec.checkpoint)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert result(spec)["steps"] == 0
    assert result(spec)["evaluation"] == result(spec)["evaluation_before"]


def test_ratio_one_trains_all_of_the_targets_and_nothing_else(run_phase: RunPhase, model: Path, samples: Path) -> None:
    spec = run_phase(model, samples, ratio=1.0)
    before, after = weights(model), weights(spec.checkpoint)
    for name in before:
        assert torch.equal(before[name], after[name]) is not is_target(name), name
    change = after["model.layers.0.mlp.up_proj.weight"] - before["model.layers.0.mlp.up_proj.weight"]
    assert torch.linalg.matrix_rank(change) == min(change.shape)


def test_sft_trains_every_weight(run_phase: RunPhase, model: Path, samples: Path) -> None:
    spec = run_phase(model, samples, method="sft", ratio=None)
    before, after = weights(model), weights(spec.checkpoint)
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert losses(spec)[-1] < losses(spec)[0]
    assert result(spec)["targets"] == []


def similarity(folder: Path, samples: Path) -> dict[str, float]:
    """Mean cosine of each layer's input and output by plain torch, one sample at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    sums = torch.zeros(model.config.num_hidden_layers + 1, dtype=torch.float64)
    for place, layer in enumerate(model.model.layers):

        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, place: int = place) -> None:
            sums[place] += functional.cosine_similarity(inputs[0], output, dim=-1).double().sum()

        layer.register_forward_hook(add)
    with torch.no_grad():
        for row in load_samples(samples):
            model(torch.tensor([row["input_ids"]]))
            sums[-1] += len(row["input_ids"])
    return {f"model.layers.{place}": float(total / sums[-1]) for place, total in enumerate(sums[:-1])}


def test_ranks_by_layer_importance(run_phase: RunPhase, model: Path, samples: Path, kept_samples: Path) -> None:
    """As plain torch finds it; by activations, with one layer that keeps everything."""
    allocation = OsftConfig(rank_allocation=RankAllocation.layer_importance, minimum_retention=0.0)
    preserve = PreserveSpec(record=None, samples=str(kept_samples), max_tokens=1000)
    spec = run_phase(model, samples, ratio=0.1, osft=allocation, preserve=preserve)
    expected = similarity(model, samples)
    assert result(spec)["layer_similarity"] == pytest.approx(expected, rel=1e-5)
    ratios = layer_ratios(expected, 0.1, 0.0)
    assert min(ratios.values()) == 0.0 < max(ratios.values()) < 1.0, ratios
    before, after = weights(model), weights(spec.checkpoint)
    for layer, ratio in ratios.items():
        ranks = {t["name"]: t for t in result(spec)["targets"] if t["name"].startswith(f"{layer}.")}
        assert len(ranks) == (len(TARGETS) if ratio else 0)
        for name, target in ranks.items():
            assert target["frozen_rank"] == frozen_rank(target["shape"][1], ratio), name
            assert target["leak_fp32"] < 1e-5
        changed = [name for name in before if name.startswith(layer) and not torch.equal(before[name], after[name])]
        assert len(changed) == len(ranks)


def test_others_are_trained_on_request_beside_the_protected_targets(
    run_phase: RunPhase, model: Path, samples: Path
) -> None:
    spec = run_phase(model, samples, osft=OsftConfig(train_others=True), num_epochs=4)
    before, after = weights(model), weights(spec.checkpoint)
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert {is_target(name) for name in before} == {True, False}
    for name in filter(is_target, before):
        assert true_leak(before[name], after[name], 0.3) < 1e-4, name


def test_fused_weights_in_bfloat16_with_activation_checkpointing(
    run_phase: RunPhase, samples: Path, tmp_path: Path
) -> None:
    """Phi's qkv_proj and gate_up_proj: each block keeps its own directions; the saved leak is only rounding."""
    phi = make_model(tmp_path / "phi3", "phi3", torch.bfloat16)
    spec = run_phase(
        phi,
        samples,
        dtype=Precision.bfloat16,
        activation_checkpointing=True,
        evaluation_sets={"train": samples},
    )
    before, after = weights(phi), weights(spec.checkpoint)
    fused = "model.layers.1.self_attn.qkv_proj.weight"
    blocks = [slice(0, 40), slice(40, 60), slice(60, 80)]
    leaks = [true_leak(before[fused][rows], after[fused][rows], 0.3) for rows in blocks]
    reported = {target["name"]: target for target in result(spec)["targets"]}
    for i, leak in enumerate(leaks):
        target = reported[f"model.layers.1.self_attn.qkv_proj[{i}]"]
        assert target["leak_fp32"] < 1e-5
        assert target["leak_saved"] == pytest.approx(leak, rel=0.05)
        assert leak < 0.05
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    loaded = AutoModelForCausalLM.from_pretrained(spec.checkpoint)
    assert loaded.dtype == torch.bfloat16
    assert result(spec)["evaluation"]["train"]["loss"] < result(spec)["evaluation_before"]["train"]["loss"]


def test_a_phase_starts_from_what_was_saved_and_not_from_what_bfloat16_leaves_of_it(
    run_phase: RunPhase, model: Path, samples: Path
) -> None:
    """Directions and sums are those of the weights in float32; saved in bfloat16 they are the same, rounded once."""
    settings: dict[str, Any] = {"dtype": Precision.bfloat16, "deterministic": True}
    fine, coarse, again = (
        run_phase(model, samples, save_dtype=saved, **settings)
        for saved in (Precision.float32, Precision.bfloat16, Precision.bfloat16)
    )
    before, after, rounded, same = (weights(place) for place in (model, *(s.checkpoint for s in (fine, coarse, again))))
    for name in filter(is_target, before):
        assert true_leak(before[name], after[name], 0.3) < 1e-4, name
        assert (rounded[name] != after[name].bfloat16()).float().mean() < 1e-3, name  # ties, by the order of sums
        assert torch.equal(rounded[name], same[name]), name
    assert all(target["update_kept"] == pytest.approx(1.0, abs=1e-4) for target in result(fine)["targets"])
    assert all(target["update_kept"] < 1.1 for target in result(coarse)["targets"])
    assert result(fine)["deterministic"] is True


def test_so_does_plain_fine_tuning(run_phase: RunPhase, model: Path, samples: Path) -> None:
    settings: dict[str, Any] = {"dtype": Precision.bfloat16, "save_dtype": Precision.float32, "learning_rate": 1e-9}
    spec = run_phase(model, samples, method="sft", ratio=None, **settings)
    before, after = weights(model), weights(spec.checkpoint)
    for name, old in before.items():
        assert (after[name] - old).abs().max() < 1e-6, name
    assert not [name for name in filter(is_target, before) if torch.equal(before[name], after[name])]


def test_a_diverging_loss_names_phase_rank_and_cause(run_phase: RunPhase, model: Path, samples: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"phase 'study' failed on rank \d .*the loss of step \d+ is nan.*"
    ) as raised:
        run_phase(
            model, samples, method="sft", ratio=None, learning_rate=1e30, max_grad_norm=0.0, start=Cluster().launch
        )
    log = Path(str(raised.value).rpartition("full log: ")[2])
    assert "FloatingPointError" in log.read_text()


@pytest.fixture(scope="module")
def kept_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "kept", 40, seed=2)


@pytest.fixture(scope="module")
def by_inputs(run_phase: RunPhase, model: Path, samples: Path, kept_samples: Path) -> PhaseSpec:
    preserve = PreserveSpec(record=None, samples=str(kept_samples), max_tokens=1000)
    sets = {"train": samples, "kept": kept_samples}
    return run_phase(model, samples, preserve=preserve, evaluation_sets=sets, num_epochs=4)


def second_moments(folder: Path, samples: Path) -> dict[str, Tensor]:
    """E[x x^T] of each target's inputs by plain torch, one sample at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    sums: dict[str, Tensor] = {}

    def add(name: str, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0][0].double()
        sums[name] = sums.get(name, torch.zeros(())) + x.T @ x

    for name, module in model.named_modules():
        if name.endswith(TARGETS):
            module.register_forward_pre_hook(lambda _, inputs, name=name: add(name, inputs))
    rows = load_samples(samples)
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row["input_ids"]]))
    tokens = sum(len(row["input_ids"]) for row in rows)
    return {name: total / tokens for name, total in sums.items()}


def saved_moments(spec: PhaseSpec) -> dict[str, Tensor]:
    """What the phase left, by reader."""
    folder = Path(spec.folder) / "kept_inputs"
    record = Record.load(folder)
    return {
        name: CholeskyFactor(**load_file(folder / f"{readers[0]}.safetensors")).moment(torch.device("cpu"))
        for readers in record.readers
        for name in readers
    }


def test_kept_inputs_decide_what_is_trained(by_inputs: PhaseSpec, model: Path, kept_samples: Path) -> None:
    """The update lives in the input directions that plain torch finds to be used least; the rest is untouched."""
    before, after = weights(model), weights(by_inputs.checkpoint)
    reported = {target["name"]: target for target in result(by_inputs)["targets"]}
    moments = second_moments(model, kept_samples)
    assert reported.keys() == moments.keys()
    for name, old in before.items():
        if not is_target(name):
            assert torch.equal(old, after[name]), name
            continue
        target, moment = name.removesuffix(".weight"), moments[name.removesuffix(".weight")]
        frozen = int(len(moment) * 0.7 + 1e-9)
        used = torch.linalg.eigh(moment).eigenvectors[:, len(moment) - frozen :]
        change = (after[name] - old).double()
        assert change.norm() > 0
        assert (change @ used).norm() < 1e-2 * change.norm(), name
        free = torch.linalg.eigvalsh(moment)[: len(moment) - frozen].sum() / moment.trace()
        assert reported[target]["free_input_share"] == pytest.approx(free.sqrt().item(), rel=1e-2), name
        assert reported[target]["frozen_rank"] == frozen
        assert reported[target]["leak_fp32"] < 1e-5
        moved = (change @ moment * change).sum() / (old.double() @ moment * old.double()).sum()
        assert reported[target]["kept_output_change"] == pytest.approx(moved.sqrt().item(), rel=1e-2), name


def test_what_lies_in_free_directions_is_foreseen(by_inputs: PhaseSpec, model: Path) -> None:
    """Of what is taught and of each set, as plain torch finds it on the model before the phase."""
    shares = result(by_inputs)["free_shares"]
    found = shares["sets"]
    assert len(found) == 2
    assert shares["taught"] == pytest.approx(found[Path(by_inputs.data).name], rel=1e-6)  # the set `train`
    for folder in by_inputs.evaluation_sets.values():
        expected = []
        for name, moment in second_moments(model, Path(folder)).items():
            free = load_file(Path(by_inputs.folder) / "bases" / f"{name}.safetensors")["free"].double()
            expected.append(((free.T @ moment @ free).trace() / moment.trace()).sqrt().item())
        assert found[Path(folder).name] == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_kept_inputs_are_carried_on(by_inputs: PhaseSpec, model: Path, samples: Path, kept_samples: Path) -> None:
    """What was kept and the phase's own inputs, the latter on the model that it left."""
    old, own = second_moments(model, kept_samples), second_moments(by_inputs.checkpoint, samples)
    left = saved_moments(by_inputs)
    for name, moment in left.items():
        expected = old[name] + own[name]
        assert (moment - expected).norm() < 1e-3 * expected.norm(), name
    record = Record.load(Path(by_inputs.folder) / "kept_inputs")
    layer = "model.layers.0."
    assert [[reader.removeprefix(layer) for reader in readers] for readers in record.readers[:4]] == [
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        ["self_attn.o_proj"],
        ["mlp.gate_proj", "mlp.up_proj"],
        ["mlp.down_proj"],
    ]
    assert record.sources == ["preserve.data", "study"]


def test_kept_inputs_do_not_depend_on_the_number_of_ranks(
    run_phase: RunPhase, by_inputs: PhaseSpec, model: Path, samples: Path, kept_samples: Path
) -> None:
    other = run_phase(
        model,
        samples,
        nproc=1,
        preserve=PreserveSpec(record=None, samples=str(kept_samples), max_tokens=1000),
        evaluation_sets={"train": samples},
        num_epochs=4,
    )
    assert losses(other) == pytest.approx(losses(by_inputs), rel=1e-3)
    mine, theirs = saved_moments(other), saved_moments(by_inputs)
    assert mine.keys() == theirs.keys()
    for name, moment in mine.items():
        assert (moment - theirs[name]).norm() < 1e-3 * moment.norm(), name


def test_a_phase_keeps_what_the_one_before_has_left(run_phase: RunPhase, by_inputs: PhaseSpec, held_out: Path) -> None:
    record = Path(by_inputs.folder) / "kept_inputs"
    preserve = PreserveSpec(record=str(record), samples=None, max_tokens=1000)
    spec = run_phase(by_inputs.checkpoint, held_out, preserve=preserve, ratio=0.2)
    before, after = weights(by_inputs.checkpoint), weights(spec.checkpoint)
    for target, moment in saved_moments(by_inputs).items():
        frozen = int(len(moment) * 0.8 + 1e-9)
        used = torch.linalg.eigh(moment).eigenvectors[:, len(moment) - frozen :]
        change = (after[f"{target}.weight"] - before[f"{target}.weight"]).double()
        assert change.norm() > 0
        assert (change @ used).norm() < 1e-4 * change.norm(), target
    assert Record.load(Path(spec.folder) / "kept_inputs").sources == ["preserve.data", "study", "study"]
