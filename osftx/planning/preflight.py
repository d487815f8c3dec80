"""Look at everything that a run will touch, before it starts: model, targets, tokenizer, every phase's data.

All problems are collected into one error. Imports no torch, so a dry run answers at once.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from osftx.config.phase_spec import ValidationSpec
from osftx.config.phases import evaluation_budget, ordered_phases, phases_to_run, start_model
from osftx.config.schedule import unfreeze_ratios
from osftx.config.schema import DataConfig, ExperimentConfig, Method, RankAllocation
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import DataSummary, Prepared, prepared_folders, remove_prepared
from osftx.data.sources import check_origin
from osftx.errors import ConfigurationError
from osftx.evaluation.lm_eval.tasks import Task, find_tasks
from osftx.methods.covariance.index import PRESERVED
from osftx.methods.osft.rank_allocation import layers_of
from osftx.models.families import FAMILIES
from osftx.models.files import ModelFiles, check_trainable, embedding_rows
from osftx.models.hub import fetch, inspect
from osftx.models.targets import Target, find_targets, of_unknown_family
from osftx.planning.plan import Plan, kept_sources, make_plan
from osftx.planning.resources import estimate, lacking
from osftx.planning.run_data.preserve import advice, check_amount, check_given, check_new, recorded_sources
from osftx.planning.run_data.replay import overlap_advice, with_replay
from osftx.planning.run_data.validation import HeldOut, hold_out, validates
from osftx.utils.files import nearest


@dataclass
class Checked:
    """What a run needs beyond its plan."""

    plan: Plan
    model_folder: Path | None
    """Local folder of the start model; None after a dry run, which fetches nothing."""
    data: dict[str, Path] = field(default_factory=dict)
    """Folder of the tokenised samples, by phase; empty after a dry run."""
    evaluation_sets: dict[str, Path] = field(default_factory=dict)
    """The same, by evaluation set."""
    validation: dict[str, ValidationSpec] = field(default_factory=dict)
    """What is validated, by phase that does."""
    preserved: Path | None = None
    """Folder of the tokenised samples of `preserve.data`; None where no phase reads it."""
    recorded: list[str] = field(default_factory=list)
    """The sources of the kept inputs beside the start model."""
    benchmarks: dict[str, Task] = field(default_factory=dict)
    """The tasks of the lm-evaluation-harness, by name."""
    read: dict[str, Prepared] = field(default_factory=dict)
    """All data that was read, by setting."""
    made: set[Path] = field(default_factory=set)
    """Folders of tokenised samples that are new in the run folder."""
    tokenizer: ChatTokenizer | None = None

    @property
    def skipped(self) -> dict[str, DataSummary]:
        """Data of which rows were left out, by setting."""
        return _skipped(self.read)


class _Problems:
    """Gathers what several checks find, so that one run shows all of it, each thing once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    @contextmanager
    def of(self, setting: str | None = None) -> Iterator[None]:
        """Keeps the problems of a check, behind the `setting` that led to it where the check cannot know that.

        When two settings name the same file, the first one is told.
        """
        try:
            yield
        except ConfigurationError as error:
            for problem in error.problems:
                self._lines.setdefault(problem, f"{setting}: {problem}" if setting else problem)

    @property
    def lines(self) -> list[str]:
        return list(self._lines.values())


def check(config: ExperimentConfig, data_folder: Path | None, fetch_model: bool = True) -> Checked:
    """Plan the run. With `data_folder`, also tokenise the data and, if it is to be trained, fetch the model; None is a
    dry run.

    `data_folder` is the run's own, which is used where the data cannot be kept for other runs. Raises
    ConfigurationError with every problem that was found.
    """
    before = prepared_folders(data_folder) if data_folder is not None else set()
    kept_in = _data_folder(config, data_folder) if data_folder is not None else None
    path, revision = start_model(config)
    _, first, first_phase = next(phases_to_run(config))
    key = "model.path" if first_phase.init_from is None else f"phases.{first}.init_from"
    found = _Problems()
    with found.of():
        _check_store(config)
    model = tokenizer = None
    model_folder: Path | None = None
    targets: list[Target] = []
    with found.of():  # names the key itself
        model = inspect(path, revision, key)
    if model is not None:
        with found.of():
            check_trainable(model, path, config.model.trust_remote_code, key)
            if any(phase.method is Method.osft for _, _, phase in phases_to_run(config)):
                targets = find_targets(model.config, model.shapes, config.osft.target_patterns)
                _check_allocation(config, targets)
        with found.of(key):
            tokenizer = ChatTokenizer.load(path, revision)
    recorded: list[str] = []
    with found.of():
        recorded = recorded_sources(config, path, targets)
    benchmarks: dict[str, Task] = {}
    with found.of():
        benchmarks = find_tasks(config.evaluation.lm_eval)
    data = _read_data(config, found, model, tokenizer, targets, recorded, kept_in)
    if found.lines or model is None:
        if data_folder is not None:
            remove_prepared(data_folder, prepared_folders(data_folder) - before)
        raise ConfigurationError(found.lines)
    if data_folder is not None and fetch_model:
        model_folder = fetch(path, revision, key).resolve()
    summaries = {name: read.summary for name, read in data.training.items()}
    validated = {name: held_out.summary.samples for name, held_out in data.held_out.items()}
    plan = make_plan(config, model, targets, summaries, recorded, data.replayed, validated)
    estimate(plan, config, model, targets, summaries)
    if data.preserved is not None:
        plan.warnings += advice(config, data.preserved, targets, data.evaluation, data.training)
    plan.warnings += _skipped_advice(_skipped(data.read))
    plan.warnings += _dropped_advice(data.evaluation, evaluation_budget(config)[0])
    plan.warnings += [line for held_out in data.held_out.values() for line in held_out.advice]
    plan.warnings += [*data.replay_advice, *overlap_advice(data.evaluation, data.training)]
    plan.warnings += _store_advice(config)
    plan.warnings += _model_advice(config, model, targets, tokenizer)
    if data_folder is None:
        plan.warnings += lacking(config, plan.phases, None)
    return Checked(
        plan=plan,
        model_folder=model_folder,
        data=_folders(data.training),
        evaluation_sets=_folders(data.evaluation),
        validation={name: held_out.spec for name, held_out in data.held_out.items()},
        preserved=_folder(data.preserved),
        recorded=recorded,
        benchmarks=benchmarks,
        read=data.read,
        made=prepared_folders(data_folder) - before if data_folder is not None else set(),
        tokenizer=tokenizer,
    )


@dataclass
class _Data:
    """What could be read of a run's data."""

    training: dict[str, Prepared] = field(default_factory=dict)
    """By phase, with what it replays and without what it validates on."""
    held_out: dict[str, HeldOut] = field(default_factory=dict)
    """By phase that validates."""
    replayed: dict[str, dict[str, int]] = field(default_factory=dict)
    """By phase: samples of each source."""
    replay_advice: list[str] = field(default_factory=list)
    evaluation: dict[str, Prepared] = field(default_factory=dict)
    """By evaluation set."""
    preserved: Prepared | None = None
    read: dict[str, Prepared] = field(default_factory=dict)
    """All that was read, by setting."""


def _skipped(read: dict[str, Prepared]) -> dict[str, DataSummary]:
    return {setting: prepared.summary for setting, prepared in read.items() if prepared.summary.skipped}


def _data_folder(config: ExperimentConfig, run_data: Path) -> Path:
    """Where tokenised data is kept for other runs, too; else the run's own folder for it."""
    if config.data.processing_dir is not None:
        return Path(config.data.processing_dir).expanduser().resolve()
    if config.reuse and os.access(nearest(config.store_dir), os.W_OK):
        return Path(config.store_dir).expanduser().resolve() / "data"
    return run_data


def _check_allocation(config: ExperimentConfig, targets: list[Target]) -> None:
    """Raise for ranks that cannot be shared out by the importance of layers."""
    if config.osft.rank_allocation is RankAllocation.uniform:
        return
    layers_of([target.name for target in targets])
    minimum = config.osft.minimum_retention
    problems = [
        f"osft.minimum_retention={minimum}: phase {name} keeps {1 - ratio:g} of the directions on average (unfreeze "
        f"ratio {ratio:g}); set it to {1 - ratio:g} or less"
        for name, ratio in unfreeze_ratios(config.schedule, ordered_phases(config)).items()
        if ratio is not None and round(1 - ratio, 6) < minimum  # 1 - 0.9 is not 0.1 in binary
    ]
    if problems:
        raise ConfigurationError(problems)


def _read_data(
    config: ExperimentConfig,
    found: _Problems,
    model: ModelFiles | None,
    tokenizer: ChatTokenizer | None,
    targets: list[Target],
    recorded: list[str],
    data_folder: Path | None,
) -> _Data:
    """Read, check and, with a `data_folder`, tokenise all data of the run; `found` takes the problems."""
    data = _Data()
    own: dict[str, Prepared] = {}
    longest, _ = evaluation_budget(config)

    folder = data_folder if tokenizer is not None else None

    def read(setting: str, settings: DataConfig, max_seq_len: int, seed: int) -> Prepared:
        check_origin(settings)
        prepared = prepare(settings, tokenizer, max_seq_len, folder, config.data.num_proc, seed)
        data.read[setting] = prepared
        return prepared

    for _, name, phase in phases_to_run(config):
        with found.of(f"phases.{name}.data.path"):
            own[name] = read(f"phases.{name}.data", phase.data, phase.max_seq_len, phase.seed)
            _check_fits(model, own[name].summary, f"phases.{name}.max_seq_len")
        if name in own:
            with found.of():  # names the key itself
                mixed = with_replay(config, name, own[name], read, folder)
                data.training[name], data.replayed[name], advised = mixed
                data.replay_advice += advised
                _check_fits(model, data.training[name].summary, f"phases.{name}.max_seq_len")
        if name in data.training and validates(phase) and tokenizer is not None:  # which tells samples apart
            with found.of():  # names the key itself
                held_out = hold_out(config, name, data.training[name], own[name].summary.samples, read)
                data.held_out[name], data.training[name] = held_out, held_out.trained
                _check_fits(model, held_out.summary, f"phases.{name}.max_seq_len")
    if [PRESERVED] in kept_sources(config, recorded).values():
        with found.of("preserve.data.path"):
            check_given(config)
            data.preserved = read("preserve.data", config.preserve.data, longest, config.training.seed)
            _check_fits(model, data.preserved.summary, "training.max_seq_len")
            if tokenizer is not None:  # which tells samples apart
                check_new(data.preserved, own)
                check_amount(config, data.preserved.summary, targets)
    for name, evaluation_set in config.evaluation.sets.items():
        setting = f"evaluation.sets.{name}"
        with found.of(f"{setting}.path"):
            data.evaluation[name] = read(setting, evaluation_set, longest, config.training.seed)
            _check_fits(model, data.evaluation[name].summary, "training.max_seq_len")
    return data


def _check_store(config: ExperimentConfig) -> None:
    """Raise for a store that cannot be one. That one cannot be written costs no run; see `_store_advice`."""
    folder = nearest(config.store_dir)
    if config.reuse and not folder.is_dir():
        raise ConfigurationError(
            [f"store_dir={config.store_dir}: {folder} is not a folder; give another one, or set reuse=false"]
        )


def _skipped_advice(skipped: dict[str, DataSummary]) -> list[str]:
    return [
        f"{setting}: {summary.skipped} rows cannot be used and are left out (on_bad_row=skip; see results.json); "
        f"the first, {summary.skipped_rows[0].place}: {summary.skipped_rows[0].reason}"
        for setting, summary in skipped.items()
    ]


def _dropped_advice(evaluation: dict[str, Prepared], longest: int) -> list[str]:
    return [
        f"evaluation set {name}: {summary.dropped} of {summary.samples + summary.dropped} samples are longer than "
        f"training.max_seq_len={longest} and are not measured"
        for name, summary in ((name, one.summary) for name, one in evaluation.items())
        if summary.dropped
    ]


def _model_advice(
    config: ExperimentConfig, model: ModelFiles, targets: list[Target], tokenizer: ChatTokenizer | None
) -> list[str]:
    """What is unusual about the model."""
    advice = []
    if targets and config.osft.target_patterns is None and model.config.get("model_type") not in FAMILIES:
        advice.append(of_unknown_family(model.config, targets))
    rows = embedding_rows(model)
    if tokenizer is not None and rows is not None and tokenizer.vocab_size > rows:
        advice.append(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's table of embeddings {rows} rows: the model "
            "cannot read the others, and what it generates never has them"
        )
    return advice


def _store_advice(config: ExperimentConfig) -> list[str]:
    if not config.reuse or os.access(nearest(config.store_dir), os.W_OK):
        return []
    return [
        f"store_dir={config.store_dir} cannot be written: phases in it are reused, but what is trained will be in the "
        "run folder alone, and a phase that is broken off will start again"
    ]


def _check_fits(model: ModelFiles | None, data: DataSummary, length_key: str) -> None:
    """Raise for samples that the model cannot read; `length_key` is the setting that limits their length."""
    if model is None:
        return
    config = {**model.config, **(model.config.get("text_config") or {})}
    vocabulary, positions = config.get("vocab_size"), config.get("max_position_embeddings")
    if (rows := embedding_rows(model)) is not None:
        vocabulary = min(rows, vocabulary or rows)
    problems = []
    if isinstance(vocabulary, int) and data.highest_id >= vocabulary:
        problems.append(
            f"{data.path}: has the token id {data.highest_id}, but the model has vocab_size={vocabulary} (ids below "
            "that); put the model's own tokenizer into its folder, or resize its token embeddings and save it again"
        )
    if isinstance(positions, int) and 0 < positions < data.longest_sample:
        problems.append(
            f"{data.path}: has a sample of {data.longest_sample} tokens, but the model has "
            f"max_position_embeddings={positions}; set {length_key}={positions} or less (longer samples are dropped), "
            "or shorten them"
        )
    if problems:
        raise ConfigurationError(problems)


def _folders(read: dict[str, Prepared]) -> dict[str, Path]:
    return {name: folder for name, one in read.items() if (folder := _folder(one)) is not None}


def _folder(read: Prepared | None) -> Path | None:
    return read.folder.resolve() if read is not None and read.folder is not None else None
