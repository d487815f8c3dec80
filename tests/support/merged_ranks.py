"""What the ranks of test_merged.py run: train small models, and leave the logits of the engine beside the export.

    python -m torch.distributed.run ... merged_ranks.py FOLDER

FOLDER holds `cases.json`, and for each case of it a start model `<name>/model`; the rest is written there.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from small_model import make_batch

from osftx.config.schema import DistributedConfig, ModelConfig, OffloadConfig, OsftConfig, Precision, TrainingConfig
from osftx.distributed import engine as engines
from osftx.distributed.load_model import DTYPES, load_model
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero_config import zero_config
from osftx.methods.osft.eigenvector_cache import EigenvectorCache
from osftx.methods.osft.opened import TrainedSubspaces
from osftx.methods.osft.rules import rule_of
from osftx.methods.osft.setup import open_subspaces
from osftx.models.files import read_folder
from osftx.models.targets import find_targets
from osftx.worker.export import export

STEPS = 5
ALWAYS_CUT = {
    "stage3_param_persistence_threshold": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_max_live_parameters": 0,
    "stage3_prefetch_bucket_size": 0,
}
"""Small models are kept whole otherwise, once they were gathered."""


def run(folder: Path, dtype: Precision, distributed: DistributedConfig, checkpointing: bool, parts: bool) -> None:
    training = TrainingConfig(
        use_liger=False,
        activation_checkpointing=checkpointing,
        train_dtype=dtype,
        save_dtype=dtype,
        learning_rate=1e-2,
    )
    attention = ModelConfig(attn_implementation="sdpa")  # two rows a batch
    model = load_model(folder / "model", attention, training, distributed)
    files = read_folder(folder / "model")
    source = SourceWeights(folder / "model")
    targets = find_targets(files.config, files.shapes, None)
    ratios = dict.fromkeys((target.name for target in targets), 0.3)
    settings, offload = zero_config(training, distributed), distributed.offload
    rule, cache = rule_of(OsftConfig()), EigenvectorCache(None)
    spaces = open_subspaces(model, targets, ratios, rule, settings, source, None, None, cache, offload.bases)
    opened = TrainedSubspaces(source, spaces, offload.bases)
    engine, *_ = engines.initialize(model, training, STEPS, distributed)
    assert (len(engines.flat_masters(engine)) > 1) is parts
    engines.after_each_step(engine, *opened.after_step(engine).calls)
    engine.train()
    for step in range(STEPS):
        for micro_batch in range(2):
            ids = make_batch(7 + 100 * step + 10 * micro_batch + dist.get_rank())
            engine.set_gradient_accumulation_boundary(micro_batch == 1)
            engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss, scale_wrt_gas=False)
            engine.step()
    engine.eval()
    with torch.no_grad():
        logits = engine(input_ids=make_batch(0), use_cache=False).logits
    kept = export(engine.module, opened, folder / "model", folder / "export", DTYPES[dtype])
    if dist.get_rank() == 0:
        save_file({"logits": logits}, folder / "logits.safetensors")
        (folder / "kept.json").write_text(json.dumps(kept))
    engine.destroy()
    dist.barrier()


if __name__ == "__main__":
    cases = json.loads((Path(sys.argv[1]) / "cases.json").read_text())
    engines.init_distributed(120)
    for name, case in cases.items():
        waits = case.get("offload", False)
        zero = case["zero"] | (ALWAYS_CUT if case["cut"] else {})
        distributed = DistributedConfig(
            offload=OffloadConfig(optimizer=waits, bases=waits), deepspeed={"zero_optimization": zero}
        )
        folder = Path(sys.argv[1]) / name
        run(folder, Precision(case["dtype"]), distributed, case["checkpointing"], "sub_group_size" in zero)
    dist.destroy_process_group()
