"""Reads and checks all data of a run: of its phases, of their methods and of the evaluation sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from osftx.config.phases import evaluation_budget
from osftx.config.schema import DataConfig, EvaluationSetConfig, ExperimentConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import DataSummary, Prepared
from osftx.data.sources import check_origin
from osftx.errors import ConfigurationError
from osftx.methods.base import Method, PhaseOutline
from osftx.models.context import context_of
from osftx.models.files import ModelFiles, embedding_rows
from osftx.models.targets import Target
from osftx.planning.advice import adjusted_advice, dropped_advice, length_advice, skipped_advice, special_advice
from osftx.planning.asked_sets import Questions, is_asked, read_questions
from osftx.planning.outline import by_method
from osftx.planning.resources import workload
from osftx.planning.run_data.phase_data import PhaseData
from osftx.planning.run_data.replay import overlap_advice, with_replay
from osftx.planning.run_data.validation import hold_out, validates
from osftx.utils.problems import Problems


class DataReader:
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
        self.settings: dict[str, DataConfig] = {}
        """Settings of all data that was read, likewise."""
        self.questions: dict[str, Questions] = {}
        """Evaluation sets whose answers are generated, by name."""
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
        lines += skipped_advice(skipped(self.read))
        lines += special_advice(self.read, self.settings)
        lines += adjusted_advice(self.read)
        lines += dropped_advice(self.evaluation, self.longest)
        lines += length_advice(self.model, self.read)
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


def skipped(read: Mapping[str, Prepared]) -> dict[str, DataSummary]:
    return {setting: prepared.summary for setting, prepared in read.items() if prepared.summary.skipped}


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
