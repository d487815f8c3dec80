"""Measures a training step of OSFT against one of plain fine-tuning: times, their ratios, the per-step overhead.

    python benchmarks/step_cost.py [--ranks 2] [--hidden 1024 --layers 1] [--dtype bfloat16] [--rounds 7] [--json FILE]
    python benchmarks/step_cost.py --methods sft osft peft mini_trainer --ratios 0.3     # needs the extra `bench`

All methods of a table live in one process group, and their steps alternate, so that other load on the machine affects
all of them. The ratio to plain fine-tuning (`sft`) is computed within each round. The table shows its median, its
range, and the ratio of the fastest steps, which suffers least from other load.

| method | what steps |
|---|---|
| `sft`, `osft` | what osftx runs: `Trainer.step` with its packing, on its engine |
| `bare` | the same model and optimizer in a DeepSpeed loop of four lines |
| `residual` | `y = x W0^T + (x basis) delta^T` instead of osftx's merged weights; exists only here |
| `peft`, `mini_trainer` | their OSF and OSFT in plain torch on one rank, without the overhead of ZeRO-3 |

`flops` are the operations of the matrix products and the attention that a step really executes, including `upkeep` and
recomputed activations. `upkeep` is the per-step overhead: the projection and the merging after the optimizer's step.
`of peak` is the rate of a step as a share of the machine's rate for one plain product, measured in the same run.

The peers freeze the same number of directions. mini_trainer also trains what is not protected, as it always does.
"""

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import VOCABULARY, Bench, Rows, arguments, on_ranks

METHODS = ("sft", "osft", "bare", "residual", "peft", "mini_trainer")
PEERS = ("peft", "mini_trainer")
OF_EACH_RATIO = ("osft", "residual", *PEERS)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Step = Callable[[], object]


def residual(model: Any) -> None:
    """Replaces each OsftLinear in the model by its residual form, with the same parameters."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from osftx.methods.osft.layer import FreeUpdate, OsftLinear

    class Term(nn.Module):
        def __init__(self, update: FreeUpdate):
            super().__init__()
            self.on_input, self.basis, self.delta = update.on_input, update.basis, update.delta

        def forward(self, x: Tensor) -> Tensor:
            first, second = (self.basis, self.delta) if self.on_input else (self.delta, self.basis)
            return functional.linear(x @ first, second)

    class Residual(nn.Module):
        def __init__(self, layer: OsftLinear):
            super().__init__()
            self.weight, self.bias = layer.weight, layer.bias
            self.terms = nn.ModuleList([Term(update) for update in layer.updates])

        def forward(self, x: Tensor) -> Tensor:
            dense = functional.linear(x, self.weight, self.bias)
            return dense + torch.cat([term(x) for term in self.terms], dim=-1)

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, OsftLinear)]
    for name, layer in layers:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, Residual(layer))


class Upkeep:
    """Measures the time of a callback after the optimizer's step, the per-step overhead."""

    def __init__(self, hook: Callable[[], None]):
        self.hook, self.spent_s = hook, 0.0

    def __call__(self) -> None:
        from deepspeed.accelerator import get_accelerator

        get_accelerator().synchronize()
        begun = time.perf_counter()
        self.hook()
        get_accelerator().synchronize()
        self.spent_s += time.perf_counter() - begun


def bare_step(model: Path, training: Any, ids: Any) -> Step:
    """Returns the step of the loop that one would write without osftx."""
    import deepspeed
    import torch

    from osftx.config.schema import DistributedConfig, ModelConfig
    from osftx.distributed.load_model import load_model
    from osftx.distributed.zero_config import zero_config

    loaded = load_model(model, ModelConfig(attn_implementation="sdpa"), training, DistributedConfig())
    optimizer = torch.optim.AdamW(loaded.parameters(), lr=training.learning_rate, fused=True)
    engine, *_ = deepspeed.initialize(
        model=loaded, optimizer=optimizer, config=zero_config(training, DistributedConfig())
    )
    engine.train()

    def step() -> None:
        engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss)
        engine.step()

    return step


def peer_step(name: str, model: Path, training: Any, ratio: float, ids: Any) -> Step:
    """Returns the step of a peer's model in plain torch; `ratio` is the share of the directions that it trains."""
    import torch

    from osftx.distributed.load_model import DTYPES

    make = peft_model if name == "peft" else mini_trainer_model
    with torch.device(ids.device):
        peer = make(model, DTYPES[training.train_dtype], ratio)
    trained = [parameter for parameter in peer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, fused=True)
    if name == "mini_trainer":
        from mini_trainer.osft_utils import optim_wrapper

        optimizer = optim_wrapper(optimizer, peer)
    if training.activation_checkpointing:
        peer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    peer.train()

    def step() -> None:
        peer(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def peft_model(model: Path, dtype: Any, ratio: float) -> Any:
    from peft import OSFConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    return get_peft_model(loaded, OSFConfig(effective_rank=1 - ratio, target_modules=list(TARGETS)))


def mini_trainer_model(model: Path, dtype: Any, ratio: float) -> Any:
    from mini_trainer.osft_utils import auto_generate_target_osft_config, create_osft_model_class
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    peer = create_osft_model_class(LlamaForCausalLM)(loaded.config, initialize_osft=False, output_dtype=dtype).to(dtype)
    peer.load_state_dict(loaded.state_dict())
    peer.osft_config = auto_generate_target_osft_config(peer, "llama", rank_ratio=1 - ratio)  # the frozen share
    peer.reinitialize_osft(decompose_existing_weights=True)
    return peer


def timed(step: Step, device: Any) -> float:
    """Returns the seconds of one optimizer step on the slowest rank. Collective."""
    import torch
    import torch.distributed as dist
    from deepspeed.accelerator import get_accelerator

    dist.barrier()
    begun = time.perf_counter()
    step()
    get_accelerator().synchronize()
    taken = torch.tensor(time.perf_counter() - begun, device=device)
    dist.all_reduce(taken, dist.ReduceOp.MAX)
    return taken.item()


def attention_flops(query: Any, key: Any, *_: object, **__: object) -> int:
    """Returns the operations of both attention products under a causal mask, from shapes (batch, heads, tokens, width).

    torch's own count omits the attention of a CPU, and some versions reject fewer key-value heads than heads.
    """
    batch, heads, tokens, width = query
    return int(2 * batch * heads * tokens * key[2] * width)


def attention_backward_flops(_: Any, query: Any, key: Any, *others: object, **more: object) -> int:
    """Returns the operations of the backward pass: five products, one of which repeats one of the forward pass."""
    return attention_flops(query, key) * 5 // 2


def counted_flops(step: Step) -> int:
    """Returns the floating point operations of the matrix products and the attention of one step on this rank."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    own = {}
    for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu"):
        name = f"_scaled_dot_product_{kind}"
        own[getattr(torch.ops.aten, name)] = attention_flops
        own[getattr(torch.ops.aten, f"{name}_backward")] = attention_backward_flops
    own[torch.ops.aten.addmm_] = lambda _, rows, columns, **__: 2 * rows[0] * rows[1] * columns[1]  # for merging
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        step()
    return int(counter.get_total_flops())


def matmul_rate(device: Any, dtype: Any, tokens: int, hidden: int) -> float:
    """Returns the best rate of several products (tokens, hidden) x (hidden, 4 hidden), in operations per second."""
    import torch
    from deepspeed.accelerator import get_accelerator

    x = torch.randn(tokens, hidden, device=device, dtype=dtype)
    weight = torch.randn(hidden, 4 * hidden, device=device, dtype=dtype)
    taken = []
    for _ in range(10):
        get_accelerator().synchronize()
        begun = time.perf_counter()
        x @ weight
        get_accelerator().synchronize()
        taken.append(time.perf_counter() - begun)
    return 2 * tokens * hidden * 4 * hidden / min(taken)


def measure(args: Namespace, folder: Path) -> Rows:
    """Returns the rows of the table, on every rank. Collective."""
    import torch
    import torch.distributed as dist

    from osftx.distributed.load_model import DTYPES

    bench = Bench.prepare(args, folder)
    bench.training.use_liger &= not set(args.methods) & set(PEERS)  # the peers are measured without Liger
    device = bench.device
    ids = torch.randint(VOCABULARY, (args.sequences, args.length), device=device)
    steps: list[tuple[str, float, Step, list[Upkeep]]] = []
    for method in args.methods:
        for ratio in args.ratios if method in OF_EACH_RATIO else [1.0]:
            hooks: list[Upkeep] = []
            if method == "bare":
                step = bare_step(bench.model, bench.training, ids)
            elif method in PEERS:
                step = peer_step(method, bench.model, bench.training, ratio, ids)
            else:
                change = residual if method == "residual" else None
                step, hooks = bench.step(None if method == "sft" else ratio, change, Upkeep)
            steps.append((method, ratio, step, hooks))
    flops = []
    for _, _, step, hooks in steps:
        timed(step, device)  # the first step allocates, and records what ZeRO-3 gathers ahead
        flops.append(counted_flops(step))
        for hook in hooks:
            hook.spent_s = 0.0
    peak = matmul_rate(device, DTYPES[bench.training.train_dtype], args.sequences * args.length, args.hidden)
    times = [[timed(step, device) for _, _, step, _ in steps] for _ in range(args.rounds)]
    rows = []
    for place, (method, ratio, _, hooks) in enumerate(steps):
        own = [round_[place] for round_ in times]
        against = [round_[place] / round_[0] for round_ in times]
        rows.append(
            {
                "method": method,
                "unfreeze_rank_ratio": ratio,
                "step_s": statistics.median(own),
                "step_s_range": [min(own), max(own)],
                "against_sft": statistics.median(against),
                "against_sft_range": [min(against), max(against)],
                "fastest_against_sft": min(own) / min(round_[0] for round_ in times),
                "flops": flops[place],
                "of_matmul_rate": flops[place] / statistics.median(own) / peak,
                "upkeep_share": sum(hook.spent_s for hook in hooks) / sum(own),
            }
        )
    dist.destroy_process_group()
    return rows


def show(rows: Rows) -> None:
    titles = f"{'method':<13} {'ratio':>5} {'step':>9} {'against sft':>12} {'range':>14} {'fastest':>8} {'upkeep':>7}"
    print(f"{titles} {'of peak':>8}")
    for row in rows:
        low, high = row["against_sft_range"]
        print(
            f"{row['method']:<13} {row['unfreeze_rank_ratio']:>5} {row['step_s']:>7.3f} s {row['against_sft']:>12.2f} "
            f"{f'{low:.2f} to {high:.2f}':>14} {row['fastest_against_sft']:>8.2f} {row['upkeep_share']:>7.1%} "
            f"{row['of_matmul_rate']:>8.1%}"
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", nargs="+", default=["sft", "osft", "bare"], choices=METHODS)
    args = parser.parse_args()
    if args.methods[0] != "sft":
        parser.error("--methods begins with sft, which the others are compared with")
    if args.ranks > 1 and set(args.methods) & set(PEERS):
        parser.error(f"--methods {' '.join(PEERS)} run on one rank: --ranks 1")
    on_ranks(args, measure, show)


if __name__ == "__main__":
    main()
