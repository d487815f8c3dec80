"""Put what each phase will need into the plan, and warn where that is more than a GPU or a disk has."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.filesize import decimal

from osftx.config.phases import phases_to_run, training_of
from osftx.config.schema import Accelerator, ExperimentConfig, Precision
from osftx.data.samples import DataSummary
from osftx.launch.devices import smallest_memory
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.estimate import disk, memory
from osftx.planning.estimate.workload import BYTES, Workload, untied
from osftx.planning.plan import Plan, PlannedPhase
from osftx.utils.files import nearest


def estimate(
    plan: Plan,
    config: ExperimentConfig,
    model: ModelFiles,
    targets: Sequence[Target],
    data: Mapping[str, DataSummary],
) -> None:
    """Fill in `memory` and `disk` of every phase of the `plan`, and add its warnings about the memory of the GPUs."""
    gpu = smallest_memory() if config.distributed.accelerator is not Accelerator.cpu else None
    start_dtype = model.config.get("dtype") or model.config.get("torch_dtype")  # the older name of the same key
    # What bfloat16 has no room for is set aside in fp32 (`SourceWeights`).
    start_bytes = BYTES[Precision.float32 if start_dtype in ("float32", "float16") else Precision.bfloat16]
    for planned, (_, name, phase) in zip(plan.phases, phases_to_run(config), strict=True):
        training = training_of(config, name)
        work = Workload(
            shapes=untied(model),
            targets=targets if planned.unfreeze_rank_ratio is not None else [],
            method=phase.method,
            ratio=planned.unfreeze_rank_ratio,
            training=training,
            osft=config.osft,
            offload=config.distributed.offload,
            ranks=config.distributed.nproc_per_node * config.distributed.nnodes,
            best=phase.validation.best,
            start_bytes=start_bytes,
        )
        planned.memory = memory.of_phase(work)
        saves = config.checkpointing if config.reuse else None
        planned.disk = disk.of_phase(work, model.parameters, data[name], planned.steps, saves)
        start_bytes = BYTES[training.save_dtype]
        if gpu is not None and planned.memory.peak > gpu:
            plan.warnings.append(_too_large(planned, work, gpu))


def lacking(
    config: ExperimentConfig, phases: Sequence[PlannedPhase], run_folder: Path | None, in_store: int = 0
) -> list[str]:
    """One problem for each disk that has less free than the `phases` need.

    `run_folder`: None before anything is written, so that the tokenised data is still to come. `in_store`: bytes of
    what they need that lie in the store already.
    """
    estimated = [phase.disk for phase in phases if phase.disk is not None]
    run, store = nearest(run_folder or config.output_dir or "."), nearest(config.store_dir)
    with_store = config.reuse and os.access(store, os.W_OK)
    one_disk = run.stat().st_dev == store.stat().st_dev
    need = disk.needed(estimated, with_store, one_disk)
    saved = (
        need.total - disk.needed([phase.without_bases(with_store) for phase in estimated], with_store, one_disk).total
    )
    if run_folder is None:  # where it is kept for other runs, too, unless there is no store
        data = sum(phase.data for phase in estimated)
        need.store += data if with_store else 0
        need.run_folder += 0 if with_store else data
    need.store -= min(in_store, need.store)
    places = [(f"output_dir={run_folder or config.output_dir or 'null'}", run, need.run_folder)]
    if with_store:
        places.append((f"store_dir={config.store_dir}", store, need.store))
    if with_store and one_disk:
        places = [(f"store_dir={config.store_dir}", store, need.total)]
    smaller = f", or set osft.save_bases=false ({decimal(saved)} less)" if saved > 0 else ""
    return [
        f"{setting}: the phases need an estimated {decimal(needed)} on the disk of {folder}, where {decimal(free)} are "
        f"free; make room or give a folder on another disk{smaller}"
        for setting, folder, needed in places
        if needed > (free := shutil.disk_usage(folder).free)
    ]


def _too_large(planned: PlannedPhase, work: Workload, gpu: int) -> str:
    assert planned.memory is not None
    remedies = (f"{setting} ({decimal(saved)} less)" for setting, saved in memory.savings(planned.name, work))
    return (
        f"phase {planned.name}: an estimated {decimal(planned.memory.peak)} on each GPU at the peak of a step "
        f"({decimal(planned.memory.between_steps)} between two steps), and the smallest GPU has {decimal(gpu)}. What "
        f"each setting alone would save, from what costs least time on: {', '.join(remedies)}"
    )
