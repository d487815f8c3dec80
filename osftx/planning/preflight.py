"""Checks everything that can be checked before ranks start, and plans the run. All problems are found at once."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from osftx.config.phases import start_model
from osftx.config.run_layout import RUN_DATA
from osftx.config.schema import ExperimentConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.samples import DataSummary, Prepared, prepared_folders, remove_prepared
from osftx.errors import ConfigurationError
from osftx.evaluation.lm_eval.tasks import Task, find_tasks
from osftx.methods.base import Method
from osftx.models.companions import check_companions
from osftx.models.files import check_trainable
from osftx.models.hub import fetch, inspect, looks_local
from osftx.models.structure import check_structure
from osftx.models.targets import Target
from osftx.planning.advice import model_advice, store_advice
from osftx.planning.asked_sets import Questions
from osftx.planning.generation_end import added_stop_tokens, end_advice
from osftx.planning.outline import by_method, outline, with_records
from osftx.planning.phase_specs import RunFiles
from osftx.planning.plan import Plan, make_plan
from osftx.planning.resources import lacking
from osftx.planning.run_data.reader import DataReader
from osftx.store.entries import PhaseStore
from osftx.utils.files import expanded, nearest
from osftx.utils.problems import Problems


@dataclass(frozen=True)
class Checked:
    """A run that can start: its plan and what else it needs."""

    plan: Plan
    run_folder: Path | None
    """Run folder; None for a dry run, which writes nothing."""
    model_folder: Path | None
    """Local folder of the start model; None if it was not fetched."""
    benchmarks: dict[str, Task] = field(default_factory=dict)
    """Tasks of the lm-evaluation-harness by name."""
    read: dict[str, Prepared] = field(default_factory=dict)
    """All data that was read, by the setting that names it."""
    made: set[Path] = field(default_factory=set)
    """Folders of tokenised samples that this check created in the run folder."""
    tokenizer: ChatTokenizer | None = None
    questions: dict[str, Questions] = field(default_factory=dict)
    """Evaluation sets whose answers are generated, by name; empty for a dry run."""

    @property
    def skipped(self) -> dict[str, DataSummary]:
        """Summaries of the data of which rows were left out or adjusted, by setting."""
        return {
            setting: data.summary
            for setting, data in self.read.items()
            if data.summary.skipped or data.summary.adjusted
        }


def check(config: ExperimentConfig, run_folder: Path | None, fetch_model: bool = True) -> Checked:
    """Checks the configuration, the data and the model, and plans the run.

    With a `run_folder` (None: a dry run) it also tokenises the data and, with `fetch_model`, fetches the model and
    makes the specs for the ranks. Tokenised data is kept for other runs if possible, else in the run folder. Raises
    ConfigurationError with every problem that was found.
    """
    data_folder = run_folder / RUN_DATA if run_folder is not None else None
    before = prepared_folders(data_folder) if data_folder is not None else set()
    path, revision = start_model(config)
    phases = outline(config)
    first = phases[0]
    key = "model.path" if first.config.init_from is None else f"phases.{first.name}.init_from"
    found = Problems()
    with found.of():
        _check_store(config)
    model = tokenizer = None
    with found.of():  # the message already names the key
        model = inspect(path, revision, key)
    targets: dict[Method, list[Target]] = {}  # only of methods whose targets were found
    if model is not None:
        if looks_local(path):
            with found.of():
                check_companions(expanded(path), key)
        with found.of():
            check_trainable(model, path, config.model.trust_remote_code, key)
            check_structure(model, path, config.model.trust_remote_code, key)
            for method, own in by_method(phases).items():
                targets[method] = method.targets(config, model, own)
        with found.of(key):
            tokenizer = ChatTokenizer.load(path, revision)
    added: list[int] = []
    with found.of():
        added = added_stop_tokens(config.model.generation_eos, tokenizer)
    records: list[str] = []
    with found.of():
        records = first.method.found_beside(config, path, targets.get(first.method, []))
    phases = with_records(config, phases, records)
    benchmarks: dict[str, Task] = {}
    with found.of():
        benchmarks = find_tasks(config.evaluation.lm_eval)
    reader = DataReader(config, found, model, tokenizer, _kept_in(config, data_folder))
    if run_folder is not None:
        _claim_store(config)
    reader.read_all(phases, targets)
    if found.lines or model is None:
        if data_folder is not None:
            remove_prepared(data_folder, prepared_folders(data_folder) - before)
        raise ConfigurationError(found.lines)
    model_folder = fetch(path, revision, key).resolve() if run_folder is not None and fetch_model else None
    files = None
    if run_folder is not None and model_folder is not None:
        extra = {setting: one for own in reader.extra.values() for setting, one in own.items()}
        files = RunFiles(run_folder, model_folder, _folders(reader.evaluation), _folders(extra), added)
    plan = make_plan(config, model, phases, targets, reader.phases, files)
    plan = plan.with_warnings(
        [
            *reader.warnings(phases, targets),
            *end_advice(tokenizer, added, reader.read.values()),
            *store_advice(config),
            *model_advice(config, model, next((own for own in targets.values() if own), []), tokenizer),
            *(lacking(config, plan.phases, None) if run_folder is None else []),
        ]
    )
    return Checked(
        plan=plan,
        run_folder=run_folder,
        model_folder=model_folder,
        benchmarks=benchmarks,
        read=reader.read,
        made=prepared_folders(data_folder) - before if data_folder is not None else set(),
        tokenizer=tokenizer,
        questions=reader.questions,
    )


def _kept_in(config: ExperimentConfig, run_data: Path | None) -> Path | None:
    """Returns the folder of tokenised data that other runs share, else the run's own one; None in a dry run."""
    if run_data is None:
        return None
    if config.data.processing_dir is not None:
        return expanded(config.data.processing_dir).resolve()
    if config.reuse and os.access(nearest(config.store_dir), os.W_OK):
        return expanded(config.store_dir).resolve() / "data"
    return run_data


def _check_store(config: ExperimentConfig) -> None:
    """Raises ConfigurationError if `store_dir` is no folder. A store that cannot be written only gives advice
    (`store_advice`)."""
    folder = nearest(config.store_dir)
    if config.reuse and not folder.is_dir():
        raise ConfigurationError(
            [f"store_dir={config.store_dir}: {folder} is not a folder; give another one, or set reuse=false"]
        )


def _claim_store(config: ExperimentConfig) -> None:
    """Marks the store before anything is kept there, so that it can be tidied even if this run is refused."""
    if config.reuse:
        with suppress(OSError):  # a store that cannot be written
            PhaseStore(expanded(config.store_dir)).claim()


def _folders(read: Mapping[str, Prepared]) -> dict[str, Path]:
    return {name: one.folder.resolve() for name, one in read.items() if one.folder is not None}
