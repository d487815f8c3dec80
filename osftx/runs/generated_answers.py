"""Generates the answers of each state of the model, scores them, and compares the state with the start model."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from osftx.config.phase_spec import AskedSet, GenerationSpec, PhaseSpec
from osftx.config.run_layout import ANSWERS_FILE
from osftx.config.schema import GenerationConfig
from osftx.launch.cluster import Cluster
from osftx.planning.asked_sets import Questions
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_answers, of_comparison, start_files
from osftx.utils.files import write_json, write_text

BASE_ANSWERS_FILE = "base_answers.json"
COMPARED = ("kl_to_base", "token_agreement", "unchanged_answers")
"""Figures of the comparison with the start model."""

Found = TypeVar("Found")
Answers = dict[str, list[dict[str, Any]]]
"""For each evaluation set the answers in the order of its samples, each with `ids` and `end`."""
Comparison = dict[str, dict[str, float]]
"""For each evaluation set the figures of the comparison with the start model."""


@dataclass(frozen=True)
class Text:
    """An answer as text, and its score; None if the set has no score."""

    text: str
    score: float | None
    cut_off: bool


@dataclass(frozen=True)
class State:
    """What was measured on one state of the model."""

    answers: dict[str, list[Text]]
    compared: Comparison


class GeneratedAnswers:
    """The generated answers of one run; does nothing if no evaluation set asks for them.

    The first state that is measured is the start model, with whose answers the others are compared.
    """

    def __init__(
        self,
        settings: GenerationConfig,
        sets: Mapping[str, Questions],
        store: PhaseStore | None,
        cluster: Cluster,
    ):
        self._settings, self._sets, self._store, self._cluster = settings, sets, store, cluster
        self._scored = {name: one.asked for name, one in sets.items() if one.score is not None}
        self._against_base = {name: one.asked for name, one in sets.items() if one.against_base}
        self._states: dict[str, State] = {}
        self._base = ""
        self._base_fingerprint = ""
        self._base_answers: Answers = {}

    def measure(self, state: str, model: Path, fingerprint: str, spec: PhaseSpec, folder: Path) -> None:
        """Measures the checkpoint `model`, which has this fingerprint.

        `spec` describes the ranks; they work in `folder`. What the store knows is not measured again. Raises
        TrainingError if the ranks fail.
        """
        if not self._sets:
            return
        first = not self._states
        if first:
            self._base, self._base_fingerprint = str(model), fingerprint
        store = self._store
        asked = replace(
            spec,
            model=replace(spec.model, path=str(model)),
            folder=str(folder),
            start_files=start_files(model, store) if store is not None else [],
        )
        alone = store.lock(f"{fingerprint}-answers", "generating answers") if store is not None else nullcontext()
        with alone:
            answers, compared = self._measured(state, asked, fingerprint, first)
        if first:
            self._base_answers = {name: answers[name] for name in self._against_base}
        self._states[state] = State({name: self._texts(name, answers[name]) for name in answers}, compared)

    def tables(self) -> dict[str, dict[str, Any] | None]:
        """Returns `retention.generated` and `retention.against_base` of results.json; None where no set asks for it.

        The states are in the order in which they were measured.
        """
        states = list(self._states.values())
        generated = {
            "sets": list(self._scored),
            "scores": {name: score.name for name in self._scored if (score := self._sets[name].score) is not None},
            "values": [[_mean_score(state.answers[name]) for name in self._scored] for state in states],
            "cut_off": [[sum(one.cut_off for one in state.answers[name]) for name in self._scored] for state in states],
        }
        against_base: dict[str, Any] = {"sets": list(self._against_base)} | {
            figure: [[state.compared[name][figure] for name in self._against_base] for state in states]
            for figure in COMPARED
        }
        return {
            "generated": generated if self._scored else None,
            "against_base": against_base if self._against_base else None,
        }

    def write(self, path: Path) -> None:
        """Writes one line of JSON for each sample: its set, prompt, reference, and the answers that were generated."""
        lines = [
            {
                "set": name,
                "index": index,
                "prompt": prompt,
                "reference": reference,
                "answers": {state: answers[index].text for state, answers in self._answers_to(name).items()},
                "scores": {state: answers[index].score for state, answers in self._answers_to(name).items()},
            }
            for name, one in self._sets.items()
            for index, (prompt, reference) in enumerate(zip(one.prompts, one.references, strict=True))
        ]
        if lines:
            write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _answers_to(self, name: str) -> dict[str, list[Text]]:
        return {state: one.answers[name] for state, one in self._states.items() if name in one.answers}

    def _texts(self, name: str, answers: list[dict[str, Any]]) -> list[Text]:
        one = self._sets[name]
        texts = [one.text_of(answer["ids"]) for answer in answers]
        return [
            Text(text, one.score.of(text, reference) if one.score is not None else None, answer["end"] is None)
            for text, reference, answer in zip(texts, one.references, answers, strict=True)
        ]

    def _measured(self, state: str, spec: PhaseSpec, model: str, first: bool) -> tuple[Answers, Comparison]:
        """Returns the answers and the comparison of a state, from the store or measured now."""
        wanted = self._scored | (self._against_base if first else {})
        answers = _those_known({name: self._known(spec, model, asked) for name, asked in wanted.items()})
        compared = _those_known(
            {name: self._known_figures(spec, model, asked) for name, asked in self._against_base.items()}
        )
        missing = {name: asked for name, asked in wanted.items() if name not in answers}
        uncompared = {name: asked for name, asked in self._against_base.items() if name not in compared}
        if answers or compared:
            known = ", ".join(dict.fromkeys([*answers, *compared]))
            print(f"answers of {state}: known for {known}", flush=True)
        if not missing and not uncompared:
            return answers, compared
        unknown = ", ".join(dict.fromkeys([*missing, *uncompared]))
        print(f"answers of {state}: generating for {unknown}", flush=True)
        base_answers = None
        if uncompared:
            of_base = answers if first else self._base_answers
            if set(uncompared) <= of_base.keys():
                base_answers = Path(spec.folder) / BASE_ANSWERS_FILE
                base_answers.parent.mkdir(parents=True, exist_ok=True)
                write_json(base_answers, {name: of_base[name] for name in uncompared})
            else:  # the start model itself, which answers all of them again
                missing |= uncompared
        new = self._launched(
            spec,
            GenerationSpec(
                missing, self._settings, self._base, uncompared, str(base_answers) if base_answers is not None else None
            ),
        )
        for name, asked in missing.items():
            self._keep(spec, model, asked, new["answers"][name])
        for name, asked in uncompared.items():
            self._keep_figures(spec, model, asked, new["against_base"][name])
        return answers | new["answers"], compared | new["against_base"]

    def _launched(self, spec: PhaseSpec, generation: GenerationSpec) -> dict[str, Any]:
        asked = replace(spec, generation=generation, validation=None, resume=None)
        asked.save()
        self._cluster.launch(asked)
        return dict(json.loads((Path(spec.folder) / ANSWERS_FILE).read_text(encoding="utf-8")))

    def _known(self, spec: PhaseSpec, model: str, asked: AskedSet) -> list[dict[str, Any]] | None:
        return self._store.answers(model, of_answers(spec, asked, self._settings)) if self._store is not None else None

    def _keep(self, spec: PhaseSpec, model: str, asked: AskedSet, answers: list[dict[str, Any]]) -> None:
        if self._store is not None:
            self._store.keep_answers(model, of_answers(spec, asked, self._settings), answers)

    def _known_figures(self, spec: PhaseSpec, model: str, asked: AskedSet) -> dict[str, float] | None:
        if self._store is None:
            return None
        return self._store.evaluation(model, of_comparison(spec, asked, self._settings, self._base_fingerprint))

    def _keep_figures(self, spec: PhaseSpec, model: str, asked: AskedSet, figures: dict[str, float]) -> None:
        if self._store is not None:
            key = of_comparison(spec, asked, self._settings, self._base_fingerprint)
            self._store.keep_evaluations(model, {"": key}, {"": figures})


def _those_known(found: dict[str, Found | None]) -> dict[str, Found]:
    return {name: one for name, one in found.items() if one is not None}


def _mean_score(answers: list[Text]) -> float:
    scores = [answer.score for answer in answers if answer.score is not None]
    return sum(scores) / len(scores)
