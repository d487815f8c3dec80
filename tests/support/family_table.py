"""What was tried of each family, and the table of it in docs/reference/families.md.

python tests/support/family_table.py     # trains all of them on two ranks, then writes the table anew
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from checkout import ROOT
from family_models import FAMILIES, config_of, make_family
from family_ranks import TOKENS
from safetensors.torch import load_file, save_file
from small_model import make_samples
from transformers import AutoModelForCausalLM

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import (
    Accelerator,
    DistributedConfig,
    ModelConfig,
    OsftConfig,
    Precision,
    TrainingConfig,
)
from osftx.models.files import read_folder
from osftx.models.targets import find_targets, kinds, left_out

PAGE = ROOT / "docs/reference/families.md"
SFT = ["gpt2", "mixtral", "qwen3_moe", "gpt_oss"]
"""Families of which plain fine-tuning is tried, too: their files hold what is trained in another form."""
BARE = "gpt2_base"
"""A GPT-2 whose files name their tensors as the base model does, without the head."""
PLAINLY: dict[str, str] = {
    "llama": "Llama 2, 3",
    "mistral": "Mistral 7B",
    "qwen2": "Qwen2, Qwen2.5",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 of text alone",
    "gemma3": "Gemma 3 with its vision tower (trained on text)",
    "granite": "Granite 3",
    "olmo2": "OLMo 2",
    "phi3": "Phi-3, Phi-4",
    "opt": "OPT",
    "gpt2": "GPT-2",
    "mixtral": "Mixtral",
    "qwen2_moe": "Qwen1.5-MoE, Qwen2-MoE",
    "qwen3_moe": "Qwen3-MoE (`mlp` in its dense layers)",
    "gpt_oss": "gpt-oss",
}


def measure(folder: Path, accelerator: Accelerator = Accelerator.cpu, ranks: int = 2) -> dict[str, dict[str, Any]]:
    """Train two phases of every family (one with `sft`) in one launch of ranks, in fp32; returns what came of it.

    A case is a family, `sft_FAMILY`, or BARE: `{leak_fp32, leak_saved, moved, others_equal, same_names, difference}`,
    where `moved` is the smallest relative change of a target, and `difference` the largest of the logits, relative to
    the largest logit, between the trained engine and what transformers reads from the export.
    """
    many, few = make_samples(folder / "many", 12), make_samples(folder / "few", 4, seed=1)  # three steps and one
    cases = {family: "osft" for family in [*FAMILIES, BARE]} | {f"sft_{family}": "sft" for family in SFT}
    phases = {}
    for case, method in cases.items():
        model = _model(folder / case / "model", case)
        distributed = DistributedConfig(nproc_per_node=ranks, accelerator=accelerator, timeout_s=120)
        specs = [_spec(folder / case / "first", model, many, method, distributed)]
        if method == "osft":
            specs.append(_spec(folder / case / "next", specs[0].checkpoint, few, method, distributed))
        phases[case] = [str(spec.save()) for spec in specs]
    (folder / "cases.json").write_text(json.dumps(phases))
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"),
            *(str(Path(__file__).with_name("family_ranks.py")), str(folder)),
        ],
        env={**os.environ, "DS_ACCELERATOR": accelerator.value, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=600,
    )
    with _one_thread():
        return {case: _came_of(folder / case) for case in cases}


def table(measured: dict[str, dict[str, Any]]) -> str:
    """The text between the markers of the page."""
    rows = []
    for family in FAMILIES:
        config = config_of(family)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        targets = find_targets(config.to_dict(), shapes, None)
        protected = _kinds([target.name for target in targets])
        frozen = _kinds(left_out(shapes, targets)) or "-"
        same = "bit for bit" if measured[family]["difference"] == 0.0 else "within 1e-5"
        tried = "OSFT, plain fine-tuning" if family in SFT else "OSFT"
        rows.append([f"`{family}`", PLAINLY[family], protected, frozen, same, tried])
    heads = ["`model_type`", "such as", "protected, in each layer", "frozen matrices beside them"]
    return _markdown([*heads, "logits of the saved model", "tried"], rows)


def between_markers() -> str:
    """What stands on the page now."""
    match = _MARKED.search(PAGE.read_text())
    assert match is not None, f"{PAGE} has no markers"
    return match[2]


_MARKED = re.compile(r"(<!-- families -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _model(folder: Path, case: str) -> Path:
    if case != BARE:
        return make_family(folder, case.removeprefix("sft_"))
    make_family(folder, "gpt2")
    file = folder / "model.safetensors"
    bare = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    save_file(bare, file, {"format": "pt"})
    return folder


def _spec(folder: Path, model: Path, data: Path, method: str, distributed: DistributedConfig) -> PhaseSpec:
    training = TrainingConfig(
        num_epochs=1,
        effective_batch_size=4,
        max_seq_len=32,
        max_tokens_per_gpu=40,
        learning_rate=1e-2,
        use_liger=False,
        train_dtype=Precision.float32,
        save_dtype=Precision.float32,
    )
    return PhaseSpec(
        index=0,
        name=folder.name,
        method=method,
        unfreeze_rank_ratio=0.3 if method == "osft" else None,
        model=ModelConfig(path=str(model)),
        training=training,
        osft=OsftConfig(),
        distributed=distributed,
        data=str(data),
        folder=str(folder),
        evaluation_max_tokens=64,
    )


def _came_of(case: Path) -> dict[str, Any]:
    start, saved = (load_file(folder / "model.safetensors") for folder in (case / "model", case / "first/checkpoint"))
    kept = [
        target for result in sorted(case.glob("*/result.json")) for target in json.loads(result.read_text())["targets"]
    ]
    files = read_folder(case / "model")
    targets = {f"{target.name}.weight" for target in find_targets(files.config, files.shapes, None)}
    # Some versions of transformers take SDPA by themselves where it leaves the cap out.
    attention = "eager" if files.config.get("attn_logit_softcapping") else None
    model = AutoModelForCausalLM.from_pretrained(case / "first/checkpoint", attn_implementation=attention)
    with torch.no_grad():
        logits = model(input_ids=TOKENS, use_cache=False).logits
    trained = load_file(case / "first/logits.safetensors")["logits"]
    return {
        "leak_fp32": max((target["leak_fp32"] for target in kept), default=0.0),
        "leak_saved": max((target["leak_saved"] for target in kept), default=0.0),
        "moved": min(float((saved[name] - start[name]).norm() / start[name].norm()) for name in targets),
        "others_equal": all(torch.equal(saved[name], start[name]) for name in start.keys() - targets),
        "same_names": saved.keys() == start.keys(),
        "difference": float((logits - trained).abs().max() / trained.abs().max()),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in the ranks; the order of sums depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _kinds(names: list[str]) -> str:
    """Without the counts, which are those of two small layers; what differs in its last part alone, together."""
    parts = defaultdict(list)
    for kind in (kind.rpartition(" x ")[0] for kind in kinds(names).split(", ") if kind):
        module, _, last = kind.rpartition(".")
        parts[module].append(last)
    return "; ".join(f"`{module}`: {', '.join(last)}" if module else ", ".join(last) for module, last in parts.items())


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        results = measure(Path(made))
    print(json.dumps(results, indent=1))
    written = table(results)
    PAGE.write_text(_MARKED.sub(lambda match: match[1] + written + match[3], PAGE.read_text()))
