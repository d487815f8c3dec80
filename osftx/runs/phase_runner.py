"""Obtains the result of a phase: from the store if it is there, else by training the phase and storing it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec, ResumeSpec, StartFile
from osftx.config.run_layout import BEFORE, EVALUATION, PHASE_RESULT
from osftx.config.schema import CheckpointingConfig
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster
from osftx.methods.registry import method_named
from osftx.results.run_reader import read_phase_result
from osftx.store.entries import Entry, PhaseStore, read_entry, use
from osftx.store.fingerprint import of_evaluation, start_files
from osftx.utils.files import write_json

Evaluation = dict[str, dict[str, float]]
"""Scores by evaluation set."""


def obtain(
    spec: PhaseSpec,
    fingerprint: str,
    parent: str,
    store: PhaseStore | None,
    checkpointing: CheckpointingConfig,
    cluster: Cluster,
) -> dict[str, Any]:
    """Returns the phase's result, with its `fingerprint` and whether it was `reused`. Its folder then holds the phase.

    `parent` is the fingerprint of the model that the phase starts from; `cluster` launches the ranks. An interrupted
    phase continues from its last save. Raises TrainingError if the ranks fail.
    """
    folder = Path(spec.folder)
    reused = False
    if store is None:
        cluster.launch(spec)
        result = read_phase_result(folder)
    else:
        with store.lock(fingerprint) as alone:
            entry = store.find(fingerprint)
            reused = entry is not None
            if entry is None:
                entry = _train(spec, fingerprint, parent, store, checkpointing if alone else None, cluster)
            if entry is not None:
                use(entry, folder)
        result = read_phase_result(folder)
        if reused:
            print(f"reused: trained before as {result['name']}, fingerprint {fingerprint}", flush=True)
            result["evaluation_before"] = None  # the stored one belongs to the run that trained it
            result["evaluation"] = _measure(spec, spec.checkpoint, fingerprint, folder / EVALUATION, store, cluster)
        else:
            store.keep_evaluations(fingerprint, _data(spec), result["evaluation"])
            store.keep_evaluations(parent, _data(spec), result["evaluation_before"] or {})
        if spec.evaluate_before and (reused or result["evaluation_before"] is None):
            source = Path(spec.model.path)
            result["evaluation_before"] = _measure(spec, source, parent, folder / (EVALUATION + BEFORE), store, cluster)
    result |= {"name": spec.name, "fingerprint": fingerprint, "reused": reused}
    write_json(folder / PHASE_RESULT, result)
    return result


def handed_on(spec: PhaseSpec, parent: str, store: PhaseStore) -> list[StartFile]:
    """Returns the files of the checkpoint that the previous phase, with the fingerprint `parent`, hands on.

    Raises TrainingError if they are not those that the phase was stored with.
    """
    files = start_files(Path(spec.model.path), store)
    entry = read_entry(store.phases / parent)  # None: the phase could not be stored
    for file in files:
        stored = entry.manifest.files.get(file.name) if entry is not None else None
        if entry is not None and (stored is None or stored["sha256"] != file.sha256):
            raise TrainingError(
                f"phase {spec.name!r} cannot start: {Path(spec.model.path).resolve().parent / file.name} was changed "
                "after the phase before had left it"
            )
    return files


def _train(
    spec: PhaseSpec,
    fingerprint: str,
    parent: str,
    store: PhaseStore,
    checkpointing: CheckpointingConfig | None,
    cluster: Cluster,
) -> Entry | None:
    """Trains the phase and returns its new entry; None if it cannot be stored, so that only the run folder has it.

    Without `checkpointing` nothing is saved in between.
    """
    known = all(store.evaluation(parent, data) for data in _data(spec).values())
    trained = replace(spec, evaluate_before=spec.evaluate_before and not known)
    if checkpointing is not None and (room := store.make_room(fingerprint)) is not None:
        trained.resume = ResumeSpec(str(room), str(store.eigenvectors), checkpointing)
    trained.save()
    cluster.launch(trained)
    try:
        entry = store.commit(fingerprint, spec.name, parent, Path(spec.folder), method_named(spec.method).folders)
        store.clear_room(fingerprint)
        return entry
    except OSError as error:
        print(
            f"warning: the phase could not be kept in store_dir={store.folder} ({error.strerror or error}); it is in "
            "the run folder alone and will not be reused",
            flush=True,
        )
        return None


def _measure(
    spec: PhaseSpec, model: Path, fingerprint: str, folder: Path, store: PhaseStore, cluster: Cluster
) -> Evaluation:
    """Returns a model's scores on the evaluation sets, from the store or measured now in `folder`."""
    data = _data(spec)
    measured = {name: store.evaluation(fingerprint, data[name]) for name in spec.evaluation_sets}
    missing = {name: path for name, path in spec.evaluation_sets.items() if measured[name] is None}
    if missing:
        alone = replace(
            spec,
            model=replace(spec.model, path=str(model)),
            folder=str(folder),
            evaluation_sets=missing,
            start_files=start_files(model, store),
            evaluate_before=False,
            evaluate_only=True,
        )
        alone.save()
        cluster.launch(alone)
        new = read_phase_result(folder)["evaluation"]
        store.keep_evaluations(fingerprint, data, new)
        measured |= new
    return {name: figures for name, figures in measured.items() if figures is not None}


def _data(spec: PhaseSpec) -> dict[str, str]:
    """Returns the fingerprint of each evaluation set."""
    return {name: of_evaluation(spec, Path(path)) for name, path in spec.evaluation_sets.items()}
