"""Refuse a run that its disks have no room for, before its first phase is started."""

from pathlib import Path

from osftx.config.run_layout import RUN_DATA
from osftx.config.schema import ExperimentConfig
from osftx.data.samples import remove_prepared
from osftx.errors import ConfigurationError
from osftx.planning.phase_specs import phase_specs
from osftx.planning.plan import PlannedPhase
from osftx.planning.preflight import Checked
from osftx.planning.resources import lacking
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_phase, start_fingerprint


def check_room(config: ExperimentConfig, checked: Checked, run_folder: Path) -> None:
    """Raise ConfigurationError where the phases that are still to be trained need more than is free.

    The tokenised data that is new in the run folder goes then.
    """
    if not lacking(config, checked.plan.phases, run_folder):
        return
    phases, in_store = _to_train(config, checked, run_folder)
    problems = lacking(config, phases, run_folder, in_store)
    if problems:
        remove_prepared(run_folder / RUN_DATA, checked.made)
        raise ConfigurationError(problems)


def _to_train(config: ExperimentConfig, checked: Checked, run_folder: Path) -> tuple[list[PlannedPhase], int]:
    """The phases that are not in the store, and the bytes of what they have there from a run that was broken off.

    The start model is read for that, if it is not known by then.
    """
    if not config.reuse:
        return checked.plan.phases, 0
    assert checked.model_folder is not None
    store = PhaseStore(Path(config.store_dir).expanduser())
    parent = start_fingerprint(checked.model_folder, store)
    found, folders = [], [store.eigenvectors]
    for spec, planned in zip(phase_specs(config, checked, run_folder), checked.plan.phases, strict=True):
        parent = of_phase(spec, parent)
        if not (store.phases / parent).exists():
            found.append(planned)
            folders.append(store.unfinished / parent)
    return found, sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
