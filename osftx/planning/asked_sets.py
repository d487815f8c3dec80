"""The evaluation sets to which answers are generated: their prompts and references, and what scores the answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from osftx.config.phase_spec import AskedSet
from osftx.config.schema import EvaluationSetConfig
from osftx.data.chat.answer_text import AnswerText
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prompts import Prompt, prompts_of
from osftx.data.samples import load_samples
from osftx.errors import MAX_PROBLEMS_SHOWN, ConfigurationError, TrainingError
from osftx.evaluation.scorers import SCORERS, Scorer
from osftx.utils.import_path import imported

SHOWN_CHARACTERS = 60
"""Number of characters of a reference that a message shows."""


@dataclass(frozen=True)
class Score:
    """What scores the answers to an evaluation set."""

    name: str
    """Name of the score, as in `evaluation.sets.<name>.score`."""
    scorer: Scorer

    def of(self, answer: str, reference: str) -> float:
        """Returns the score of an answer, 0 to 1. Raises TrainingError if the scorer fails or returns anything else."""
        try:
            value = float(self.scorer(answer, reference))
        except Exception as error:  # a function of the user may raise anything
            raise TrainingError(
                f"score {self.name}: fails on the answer {answer!r} ({type(error).__name__}: {error})"
            ) from error
        if not 0 <= value <= 1:  # false for NaN
            raise TrainingError(
                f"score {self.name}: is {value} on the answer {answer!r}; it must be a number from 0 (wrong) to 1"
            )
        return value


@dataclass(frozen=True)
class Questions:
    """An evaluation set with a score, or one on which the states of the model are compared with the start model."""

    asked: AskedSet
    """What the ranks need."""
    score: Score | None
    """Score of the answers; None if they are only compared."""
    against_base: bool
    """Whether the states of the model are compared with the start model."""
    prompts: Sequence[str]
    """Text of each prompt, special tokens included."""
    references: Sequence[str]
    """Text of each reference answer: its content alone."""
    text_of: Callable[[Sequence[int]], str]
    """Returns the text of an answer's token ids: its content alone (`AnswerText`)."""


def is_asked(settings: EvaluationSetConfig) -> bool:
    """Returns whether answers are generated to an evaluation set."""
    return settings.score is not None or settings.against_base


def read_questions(
    key: str, settings: EvaluationSetConfig, samples: Path, tokenizer: ChatTokenizer, context: int | None
) -> Questions:
    """Returns an evaluation set to which answers are generated; `samples` is the folder of its tokenised samples.

    `key` names the set in messages; `context` is the number of positions of the model, None if it has no limit. Raises
    ConfigurationError if a sample has no prompt, if the scorer cannot read a reference, or if the prompts leave no room
    for an answer.
    """
    score = _score(f"{key}.score", settings.score) if settings.score is not None else None
    try:
        prompts = list(prompts_of(load_samples(samples)))
    except ValueError as error:
        raise ConfigurationError(
            [f"{key}: {error}; give conversations, or set score=null and against_base=false"]
        ) from error
    _check_room(key, settings, prompts, context)
    text_of = AnswerText(tokenizer)
    references = [text_of(prompt.reference) for prompt in prompts]
    if score is not None:
        _check_references(key, score, references)
    stops = {prompt.reference[-1] for prompt in prompts} & tokenizer.special_token_ids
    return Questions(
        AskedSet(str(samples), settings.max_new_tokens, sorted(stops)),
        score,
        settings.against_base,
        [tokenizer.decode(prompt.ids) for prompt in prompts],
        references,
        text_of,
    )


def _score(key: str, name: str) -> Score:
    if name in SCORERS:
        return Score(name, SCORERS[name])
    try:
        found = imported(name)
    except Exception as error:  # the user's module may raise anything
        raise ConfigurationError([f"{key}={name}: cannot be imported ({type(error).__name__}: {error})"]) from error
    if not callable(found):
        raise ConfigurationError([f"{key}={name}: is no function of an answer and its reference"])
    return Score(name, found)


def _check_room(key: str, settings: EvaluationSetConfig, prompts: Sequence[Prompt], context: int | None) -> None:
    longest = max(len(prompt.ids) for prompt in prompts)
    if context is not None and longest + settings.max_new_tokens > context:
        raise ConfigurationError(
            [
                f"{key}.max_new_tokens={settings.max_new_tokens}: with the longest prompt ({longest} tokens) an answer "
                f"could go beyond the {context} positions of the model; set it to {max(context - longest, 1)} or less, "
                "or leave out the longest samples"
            ]
        )


def _check_references(key: str, score: Score, references: Sequence[str]) -> None:
    """Raises ConfigurationError with the first references that a scorer of osftx cannot read.

    A function of the user is not called, because it may be slow.
    """
    if score.name not in SCORERS:
        return
    problems = []
    for place, reference in enumerate(references, start=1):
        try:
            score.scorer("", reference)
        except ValueError as error:
            cut = reference if len(reference) <= SHOWN_CHARACTERS else reference[:SHOWN_CHARACTERS] + "..."
            problems.append(f"sample {place}, {cut!r}: {error}")
    if problems:
        shown = "; ".join(problems[:MAX_PROBLEMS_SHOWN])
        raise ConfigurationError(
            [
                f"{key}.score={score.name}: cannot read {len(problems)} of {len(references)} references; {shown}; "
                "correct these answers, or choose another score"
            ]
        )
