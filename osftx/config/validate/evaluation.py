"""Rules for what is measured: evaluation sets, benchmarks, and the objective of a search."""

import os
from collections.abc import Iterator
from typing import Any

from osftx.config.objective import OBJECTIVE, as_list, terms
from osftx.config.phases import BASE_STATE
from osftx.config.schema import (
    EvaluationConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    GenerationConfig,
    LmEvalConfig,
    TrainOn,
)
from osftx.config.scores import SCORES
from osftx.config.validate.ranges import at_least, is_missing, out_of_range
from osftx.utils.import_path import module_is_found

EVALUATION_RANGES = {"every_steps": at_least(1)}
GENERATION_RANGES = {"batch_size": at_least(1), "temperature": at_least(0), "seed": at_least(0)}
SET_RANGES = {"max_new_tokens": at_least(1)}
LM_EVAL_RANGES = {
    "num_fewshot": at_least(0),
    "limit": at_least(1),
    "batch_size": at_least(1),
    "timeout_s": at_least(1),
}


def _evaluation(config: ExperimentConfig) -> Iterator[str]:
    yield from out_of_range("evaluation", config.evaluation, EVALUATION_RANGES, EvaluationConfig())
    yield from out_of_range(
        "evaluation.generation", config.evaluation.generation, GENERATION_RANGES, GenerationConfig()
    )
    if config.evaluation.every_steps is not None and not config.evaluation.sets:
        yield (
            f"evaluation.every_steps={config.evaluation.every_steps}: there is no evaluation set to measure; choose "
            "evaluation=NAME, or set it to null"
        )
    states = (BASE_STATE, *config.phases)
    for name, evaluation_set in config.evaluation.sets.items():
        path = f"evaluation.sets.{name}"
        learned_in = evaluation_set.learned_in
        if is_missing(evaluation_set.path):
            yield f"{path}.path=???: no evaluation data; set {path}.path=FILE"
        yield from out_of_range(path, evaluation_set, SET_RANGES, EvaluationSetConfig())
        yield from _score(path, evaluation_set)
        if learned_in is not None and learned_in not in states:
            yield f"{path}.learned_in={learned_in}: no such phase; use one of {', '.join(states)}, or null"


def _score(path: str, evaluation_set: EvaluationSetConfig) -> Iterator[str]:
    score = evaluation_set.score
    if score is not None and score not in SCORES:
        module = score.rpartition(".")[0]
        if not module:
            yield f"{path}.score={score}: no such score; use one of {', '.join(SCORES)}, or an import path, or null"
        elif not module_is_found(module):
            yield (
                f"{path}.score={score}: there is no module {module} in {os.getcwd()} or elsewhere on Python's path; "
                "start the run from the folder that holds it, or add that folder to PYTHONPATH"
            )
    if (score is not None or evaluation_set.against_base) and evaluation_set.train_on is not TrainOn.assistant:
        yield (
            f"{path}.train_on={evaluation_set.train_on.value}: with score or against_base the model answers the "
            "prompts of the set, so only assistant turns can count; leave train_on out, or set score=null and "
            "against_base=false"
        )


def _lm_eval(config: ExperimentConfig) -> Iterator[str]:
    settings, path = config.evaluation.lm_eval, "evaluation.lm_eval"
    yield from out_of_range(path, settings, LM_EVAL_RANGES, LmEvalConfig())
    for name in dict.fromkeys(settings.tasks):
        if is_missing(name.strip()):
            yield f"{path}.tasks={settings.tasks}: names an empty task; remove it"
        elif settings.tasks.count(name) > 1:
            yield f"{path}.tasks={settings.tasks}: {name} is named more than once; name each task once"


def _objective(config: ExperimentConfig) -> Iterator[str]:
    objectives = as_list(config.objective)
    if not objectives:
        yield "objective=[]: names nothing; use summary.average_accuracy, or several as [PATH,PATH]"
    for objective in objectives:
        try:
            paths = [path for _, path in terms(objective)] if isinstance(objective, str) else [objective]
        except ValueError as error:
            yield (
                f"objective={objective}: {error}; give a path of results.json, or a sum of them with weights, such as "
                "summary.learning_accuracy - 0.5*summary.forgetting"
            )
            continue
        for path in paths:
            yield from _objective_problems(config, path)
    for objective in sorted({str(objective) for objective in objectives if objectives.count(objective) > 1}):
        yield f"objective={objective}: named twice; name each objective once"


def _objective_problems(config: ExperimentConfig, objective: Any) -> Iterator[str]:
    path = f"objective={objective}"
    match = OBJECTIVE.fullmatch(objective) if isinstance(objective, str) else None
    if match is None:
        yield (
            f"{path}: no number of results.json; use summary.average_accuracy, summary.learning_accuracy, "
            "summary.forgetting, summary.backward_transfer, phases.I.duration_s, or "
            "retention.metrics.exact_match.STATE.SET, retention.generated.values.STATE.SET, "
            "retention.benchmarks.values.STATE.TASK with numbers for I, STATE, SET, TASK; several as [PATH,PATH]"
        )
        return
    order = config.phase_order or list(config.phases)
    starts = [place for place, name in enumerate(order) if name in config.phases and config.phases[name].init_from]
    running = len(order) - min(starts, default=0)  # phases before an init_from have no results
    states = "states (the base, then after each phase)"
    sets = config.evaluation.sets.values()
    for group, word, what, count in (
        ("phase", "phase", "phases of the run", running),
        ("state", "state", states, running + 1),
        ("set", "set", "evaluation sets", len(config.evaluation.sets)),
        ("answered", "state", states, running + 1),
        ("asked", "set", "evaluation sets with a score", sum(one.score is not None for one in sets)),
        ("compared", "state", states, running + 1),
        ("against", "set", "evaluation sets with against_base", sum(one.against_base for one in sets)),
        ("row", "state", states, running + 1),
        ("task", "task", "tasks of evaluation.lm_eval", len(config.evaluation.lm_eval.tasks)),
    ):
        if match[group] is not None and int(match[group]) >= count:
            remedy = f"use 0 to {count - 1}" if count else "choose another objective"
            yield f"{path}: no {word} {match[group]} among the {count} {what}; {remedy}"


RULES = (_evaluation, _lm_eval, _objective)
