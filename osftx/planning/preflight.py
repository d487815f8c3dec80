"""Checks everything that can be checked before ranks start, and plans the run. All problems are found at once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from osftx.config.phases import evaluation_budget, start_model
from osftx.config.run_layout import RUN_DATA
from osftx.config.schema import DataConfig, EvaluationSetConfig, ExperimentConfig, SpecialTokens
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import DataSummary, Prepared, prepared_folders, remove_prepared
from osftx.data.sources import check_origin
from osftx.errors import ConfigurationError
from osftx.evaluation.lm_eval.tasks import Task, find_tasks
from osftx.methods.base import Method, PhaseOutline
from osftx.models.companions import check_companions
from osftx.models.context import context_of
from osftx.models.families import FAMILIES
from osftx.models.files import ModelFiles, check_trainable, embedding_rows
from osftx.models.hub import fetch, inspect, looks_local
from osftx.models.structure import check_structure
from osftx.models.targets import Target, of_unknown_family
from osftx.planning.asked_sets import Questions, is_asked, read_questions
from osftx.planning.generation_end import added_stop_tokens, end_advice
from osftx.planning.outline import by_method, outline, with_records
from osftx.planning.phase_specs import RunFiles
from osftx.planning.plan import Plan, make_plan
from osftx.planning.resources import lacking, workload
from osftx.planning.run_data.phase_data import PhaseData
from osftx.planning.run_data.replay import overlap_advice, with_replay
from osftx.planning.run_data.validation import hold_out, validates
from osftx.utils.files import nearest
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
                check_companions(Path(path).expanduser(), key)
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
    reader = _DataReader(config, found, model, tokenizer, _kept_in(config, data_folder))
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
            *_store_advice(config),
            *_model_advice(config, model, next((own for own in targets.values() if own), []), tokenizer),
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


class _DataReader:
    """Reads, checks and, if a folder is given, tokenises all data of a run; `found` collects the problems."""

    def __init__(
        self,
        config: ExperimentConfig,
        found: Problems,
        model: ModelFiles | None,
        tokenizer: ChatTokenizer | None,
        folder: Path | None,
    ):
        self.config, self.found, self.model, self.tokenizer = config, found, model, tokenizer
        self.folder = folder if tokenizer is not None else None
        self.longest, _ = evaluation_budget(config)
        self.phases: dict[str, PhaseData] = {}
        self.own: dict[str, Prepared] = {}
        """Own data of each phase, without replayed samples."""
        self.extra: dict[Method, dict[str, Prepared]] = {}
        """Data that each method reads in addition to the phases' own, by setting."""
        self.evaluation: dict[str, Prepared] = {}
        """Data of the evaluation sets by name."""
        self.read: dict[str, Prepared] = {}
        """All data that was read, by the setting that names it."""
        self.questions: dict[str, Questions] = {}
        """Evaluation sets whose answers are generated, by name."""
        self.settings: dict[str, DataConfig] = {}
        """Settings of that data."""
        self.replay_advice: list[str] = []

    def read_all(self, phases: Sequence[PhaseOutline], targets: Mapping[Method, list[Target]]) -> None:
        """Reads the data of the phases, of their methods and of the evaluation sets."""
        for phase in phases:
            self._read_phase(phase, targets.get(phase.method))
        for method, own in by_method(phases).items():
            self._read_extra(method, own, targets.get(method, []))
        for name, evaluation_set in self.config.evaluation.sets.items():
            setting = f"evaluation.sets.{name}"
            with self.found.of(f"{setting}.path"):
                self.evaluation[name] = self._read(setting, evaluation_set, self.longest, self.config.training.seed)
                _check_fits(self.model, self.evaluation[name].summary, "training.max_seq_len")
            with self.found.of():  # the message already names the key
                self._read_questions(name, evaluation_set)

    def warnings(self, phases: Sequence[PhaseOutline], targets: Mapping[Method, list[Target]]) -> list[str]:
        """Returns advice about all data that was read."""
        training = {name: data.training for name, data in self.phases.items()}
        lines: list[str] = []
        for method in by_method(phases):
            if extra := self.extra[method]:
                lines += method.data_warnings(self.config, extra, targets[method], self.evaluation, training)
        lines += _skipped_advice(_skipped(self.read))
        lines += _special_advice(self.read, self.settings)
        lines += _adjusted_advice(self.read)
        lines += _dropped_advice(self.evaluation, self.longest)
        lines += _length_advice(self.model, self.read)
        lines += [line for data in self.phases.values() if data.held_out is not None for line in data.held_out.advice]
        return [*lines, *self.replay_advice, *overlap_advice(self.evaluation, training)]

    def _read(self, setting: str, settings: DataConfig, max_seq_len: int, seed: int) -> Prepared:
        check_origin(settings)
        prepared = prepare(settings, self.tokenizer, max_seq_len, self.folder, self.config.data.num_proc, seed)
        self.read[setting], self.settings[setting] = prepared, settings
        return prepared

    def _read_phase(self, phase: PhaseOutline, targets: list[Target] | None) -> None:
        name, config, key = phase.name, phase.config, f"phases.{phase.name}"
        with self.found.of(f"{key}.data.path"):
            self.own[name] = self._read(f"{key}.data", config.data, config.max_seq_len, config.seed)
            _check_fits(self.model, self.own[name].summary, f"{key}.max_seq_len")
        if name not in self.own:
            return
        with self.found.of():  # the message already names the key
            mixed, replayed, advised = with_replay(self.config, name, self.own[name], self._read, self.folder)
            self.replay_advice += advised
            self.phases[name] = PhaseData(mixed, replayed)
            _check_fits(self.model, mixed.summary, f"{key}.max_seq_len")
        # Without a tokenizer samples cannot be told apart.
        if name not in self.phases or not validates(config) or self.tokenizer is None:
            return
        with self.found.of():  # the message already names the key
            self._check_trains(phase, targets)
            held_out = hold_out(name, config, mixed, self.own[name].summary.samples, self._read)
            self.phases[name] = PhaseData(held_out.trained, replayed, held_out)
            _check_fits(self.model, held_out.summary, f"{key}.max_seq_len")

    def _read_questions(self, name: str, settings: EvaluationSetConfig) -> None:
        """Reads the prompts of a set to which answers are generated. Without tokenised samples it does nothing."""
        folder = self.evaluation[name].folder if name in self.evaluation else None
        if not is_asked(settings) or folder is None or self.tokenizer is None or self.model is None:
            return
        context = context_of(self.model)
        positions = context.declared if context is not None and context.ends else None
        self.questions[name] = read_questions(
            f"evaluation.sets.{name}", settings, folder.resolve(), self.tokenizer, positions
        )

    def _read_extra(self, method: Method, phases: Sequence[PhaseOutline], targets: list[Target]) -> None:
        extra: dict[str, DataConfig] = {}
        with self.found.of():
            extra = method.extra_data(self.config, phases)
        read: dict[str, Prepared] = {}
        for setting, settings in extra.items():
            with self.found.of(f"{setting}.path"):
                read[setting] = self._read(setting, settings, self.longest, self.config.training.seed)
                _check_fits(self.model, read[setting].summary, "training.max_seq_len")
                if self.tokenizer is not None:  # else samples cannot be told apart
                    method.check_extra_data(self.config, {setting: read[setting]}, self.own, targets)
        self.extra[method] = read

    def _check_trains(self, phase: PhaseOutline, targets: list[Target] | None) -> None:
        """Raises ConfigurationError for a phase that validates and trains nothing. Without targets it cannot tell."""
        if self.model is None or targets is None:
            return
        if not workload(self.config, self.model, phase, targets, None).sizes.trainable:
            raise ConfigurationError(
                [
                    f"phases.{phase.name}.validation: the phase has unfreeze ratio {phase.ratio or 0:g} and trains "
                    "nothing; set split and path to null, or a ratio"
                ]
            )


def _skipped(read: Mapping[str, Prepared]) -> dict[str, DataSummary]:
    return {setting: prepared.summary for setting, prepared in read.items() if prepared.summary.skipped}


def _kept_in(config: ExperimentConfig, run_data: Path | None) -> Path | None:
    """Returns the folder of tokenised data that other runs share, else the run's own one; None in a dry run."""
    if run_data is None:
        return None
    if config.data.processing_dir is not None:
        return Path(config.data.processing_dir).expanduser().resolve()
    if config.reuse and os.access(nearest(config.store_dir), os.W_OK):
        return Path(config.store_dir).expanduser().resolve() / "data"
    return run_data


def _check_store(config: ExperimentConfig) -> None:
    """Raises ConfigurationError if `store_dir` is no folder. A store that cannot be written only gives advice
    (`_store_advice`)."""
    folder = nearest(config.store_dir)
    if config.reuse and not folder.is_dir():
        raise ConfigurationError(
            [f"store_dir={config.store_dir}: {folder} is not a folder; give another one, or set reuse=false"]
        )


def _skipped_advice(skipped: Mapping[str, DataSummary]) -> list[str]:
    return [
        f"{setting}: {summary.skipped} rows cannot be used and are left out (on_bad_row=skip; see results.json); "
        f"the first, {summary.skipped_rows[0].place}: {summary.skipped_rows[0].reason}"
        for setting, summary in skipped.items()
    ]


def _special_advice(read: Mapping[str, Prepared], settings: Mapping[str, DataConfig]) -> list[str]:
    """Returns advice about data whose contents spell out special tokens."""
    lines = []
    for setting, summary in ((name, one.summary) for name, one in read.items()):
        if not summary.special_rows:
            continue
        count = "1 row spells" if summary.special_rows == 1 else f"{summary.special_rows} rows spell"
        places, tokens = ", ".join(summary.first_special_rows[:3]), ", ".join(summary.spelled_tokens[:5])
        plain = settings[setting].special_tokens is SpecialTokens.as_text and summary.turns.keys() - {"pretraining"}
        lines.append(
            f"{setting}: {count} out special tokens ({tokens}) in a content, the first: {places}; "
            + (
                "they are plain text, so that no content ends or opens a turn; special_tokens=allow reads them as "
                "special tokens, special_tokens=fail refuses them"
                if plain
                else "they are read as special tokens, as transformers does; special_tokens=fail refuses them"
            )
        )
    return lines


def _adjusted_advice(read: Mapping[str, Prepared]) -> list[str]:
    return [
        f"{setting}: {', '.join(f'{count:,} {what}' for what, count in prepared.summary.adjusted.items())} (see "
        "docs/how-to/data.md)"
        for setting, prepared in read.items()
        if prepared.summary.adjusted
    ]


def _dropped_advice(evaluation: Mapping[str, Prepared], longest: int) -> list[str]:
    return [
        f"evaluation set {name}: {summary.dropped} of {summary.samples + summary.dropped} samples are longer than "
        f"training.max_seq_len={longest} and are not measured"
        for name, summary in ((name, one.summary) for name, one in evaluation.items())
        if summary.dropped
    ]


def _length_advice(model: ModelFiles | None, read: Mapping[str, Prepared]) -> list[str]:
    """Returns advice about samples that are longer than the model's config declares, and that the model runs."""
    context = context_of(model) if model is not None else None
    setting, longest = max(
        ((setting, prepared.summary.longest_sample) for setting, prepared in read.items()),
        key=lambda found: found[1],
        default=("", 0),
    )
    if context is None or context.ends or longest <= context.declared:
        return []
    return [
        f"{setting} has a sample of {longest} tokens, but config.json declares {context.declared} positions: the model "
        "runs it, though it was not made for it; lower max_seq_len (longer samples are dropped), or declare how its "
        "rotary positions are scaled (rope_scaling)"
    ]


def _model_advice(
    config: ExperimentConfig, model: ModelFiles, targets: Sequence[Target], tokenizer: ChatTokenizer | None
) -> list[str]:
    """Returns advice about what is unusual in the model."""
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
    """Raises ConfigurationError for samples that the model cannot read.

    `length_key` is the setting that limits their length.
    """
    if model is None:
        return
    config = {**model.config, **(model.config.get("text_config") or {})}
    vocabulary, context = config.get("vocab_size"), context_of(model)
    if (rows := embedding_rows(model)) is not None:
        vocabulary = min(rows, vocabulary) if isinstance(vocabulary, int) and vocabulary else rows
    problems = []
    if isinstance(vocabulary, int) and data.highest_id >= vocabulary:
        problems.append(
            f"{data.path}: has the token id {data.highest_id}, but the model has vocab_size={vocabulary} (ids below "
            "that); put the model's own tokenizer into its folder, or resize its token embeddings and save it again"
        )
    if context is not None and context.ends and context.declared < data.longest_sample:
        problems.append(
            f"{data.path}: has a sample of {data.longest_sample} tokens, but the model has only {context.declared} "
            f"positions; set {length_key}={context.declared} or less (longer samples are dropped), or shorten them"
        )
    if problems:
        raise ConfigurationError(problems)


def _folders(read: Mapping[str, Prepared]) -> dict[str, Path]:
    return {name: one.folder.resolve() for name, one in read.items() if one.folder is not None}
