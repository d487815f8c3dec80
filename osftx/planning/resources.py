"""The memory and disk space that each phase needs, and whether they are available."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from osftx.config.run_layout import RUN_DATA
from osftx.config.schema import Accelerator, ExperimentConfig, Precision
from osftx.data.samples import remove_prepared
from osftx.errors import ConfigurationError
from osftx.launch.devices import smallest_memory
from osftx.methods.base import PhaseOutline
from osftx.methods.sizes import BYTES, Workload, untied
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.estimate import disk, memory
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_phase, start_fingerprint
from osftx.utils.files import expanded, nearest

if TYPE_CHECKING:
    from osftx.planning.plan import PlannedPhase
    from osftx.planning.preflight import Checked


def workload(
    config: ExperimentConfig,
    model: ModelFiles,
    phase: PhaseOutline,
    targets: Sequence[Target],
    before: PhaseOutline | None,
) -> Workload:
    """Returns the sizes of a phase that follows the phase `before`, or starts from the start model if that is None."""
    start_dtype = model.config.get("dtype") or model.config.get("torch_dtype")  # the older name of the same key
    # Weights that bfloat16 cannot represent are set aside in fp32 (`SourceWeights`).
    start = Precision.float32 if start_dtype in ("float32", "float16") else Precision.bfloat16
    shapes = untied(model)
    return Workload(
        shapes=shapes,
        targets=targets,
        method=phase.method,
        ratio=phase.ratio,
        training=phase.training,
        osft=config.osft,
        offload=config.distributed.offload,
        ranks=config.distributed.nproc_per_node * config.distributed.nnodes,
        best=phase.config.validation.best,
        start_bytes=BYTES[start if before is None else before.training.save_dtype],
        repeated=model.parameters - sum(map(prod, shapes.values())),
        method_settings=phase.config.method_settings,
    )


def too_large(name: str, work: Workload, config: ExperimentConfig) -> Iterator[str]:
    """Yields a warning if the phase `name` needs more memory than the smallest GPU has, and names remedies."""
    gpu = smallest_memory() if config.distributed.accelerator is not Accelerator.cpu else None
    needed = memory.of_phase(work)
    if gpu is None or needed.peak <= gpu:
        return
    remedies = (f"{setting} ({decimal(saved)} less)" for setting, saved in memory.savings(name, work))
    yield (
        f"phase {name}: an estimated {decimal(needed.peak)} on each GPU at the peak of a step "
        f"({decimal(needed.between_steps)} between two steps), and the smallest GPU has {decimal(gpu)}. What "
        f"each setting alone would save, from what costs least time on: {', '.join(remedies)}"
    )


def lacking(
    config: ExperimentConfig, phases: "Sequence[PlannedPhase]", run_folder: Path | None, in_store: int = 0
) -> list[str]:
    """Returns one problem for each disk that has less free space than the `phases` need.

    `run_folder` is None before anything is written; the tokenised data then still counts as needed. `in_store` is the
    number of needed bytes that already lie in the store.
    """
    estimated = [phase.disk for phase in phases if phase.disk is not None]
    run, store = nearest(run_folder or config.output_dir or "."), nearest(config.store_dir)
    with_store = config.reuse and os.access(store, os.W_OK)
    one_disk = run.stat().st_dev == store.stat().st_dev
    need = disk.needed(estimated, with_store, one_disk)
    saved = (
        need.total - disk.needed([phase.without_bases(with_store) for phase in estimated], with_store, one_disk).total
    )
    if run_folder is None:  # with a store, tokenised data is kept there for other runs
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


def check_room(config: ExperimentConfig, checked: "Checked", run_folder: Path) -> None:
    """Raises ConfigurationError if the phases that are still to be trained need more space than the disks have.

    In that case the tokenised data that is new in the run folder is removed.
    """
    if not lacking(config, checked.plan.phases, run_folder):
        return
    phases, in_store = _to_train(config, checked)
    problems = lacking(config, phases, run_folder, in_store)
    if problems:
        remove_prepared(run_folder / RUN_DATA, checked.made)
        raise ConfigurationError(problems)


def _to_train(config: ExperimentConfig, checked: "Checked") -> "tuple[Sequence[PlannedPhase], int]":
    """Returns the phases that are not in the store, and the bytes there that an interrupted run left for them.

    This reads the start model, unless the store knows its digests.
    """
    if not config.reuse:
        return checked.plan.phases, 0
    assert checked.model_folder is not None
    store = PhaseStore(expanded(config.store_dir))
    parent = start_fingerprint(checked.model_folder, store)
    found, folders = [], [store.eigenvectors]
    for planned in checked.plan.phases:
        assert planned.spec is not None
        parent = of_phase(planned.spec, parent)
        if not os.path.exists(store.phases / parent):  # False without permission, where the method of Path raises
            found.append(planned)
            folders.append(store.unfinished / parent)
    return found, _bytes(folders)


def _bytes(folders: Collection[Path]) -> int:
    files = (path for folder in folders for path in folder.rglob("*") if os.path.isfile(path))
    return sum(path.stat().st_size for path in files)
