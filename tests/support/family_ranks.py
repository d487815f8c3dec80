"""What the ranks of family_table.py run: two phases of each family by the code that a run's ranks run.

    python -m torch.distributed.run ... family_ranks.py FOLDER

FOLDER/cases.json lists, for each case, the files of its phases. The logits of the trained engine are left beside the
checkpoint of the first phase.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from safetensors.torch import save_file
from torch import nn

from osftx.config.phase_spec import PhaseSpec
from osftx.distributed import engine as engines
from osftx.utils.library_logging import quiet_libraries
from osftx.worker import train_phase
from osftx.worker.export import export

TOKENS = torch.arange(3, 23)[None]


def logits_and_export(model: nn.Module, method: Any, source: Path, folder: Path, **others: Any) -> Any:
    model.eval()
    with torch.no_grad():
        device = get_accelerator().current_device_name()
        positions = torch.arange(TOKENS.shape[1], device=device)[None]
        logits = model(input_ids=TOKENS.to(device), position_ids=positions, use_cache=False).logits
    if dist.get_rank() == 0:
        save_file({"logits": logits}, folder.parent / "logits.safetensors")
    return export(model, method, source, folder, **others)


def let_go(engine: deepspeed.DeepSpeedEngine) -> None:
    """The group serves the next phase."""
    engine.destroy()
    dist.barrier()


if __name__ == "__main__":
    train_phase.export, train_phase.close = logits_and_export, let_go
    cases: dict[str, list[str]] = json.loads((Path(sys.argv[1]) / "cases.json").read_text())
    device = engines.init_distributed(120)
    quiet_libraries()
    for phases in cases.values():
        for phase in phases:
            train_phase._run(PhaseSpec.load(Path(phase)), device, time.monotonic())
    dist.destroy_process_group()
