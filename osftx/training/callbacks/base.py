"""The base class of callbacks, and what a callback is told about the phase. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PhaseStatus:
    """Which phase is trained, and how far its training has come when a hook is called."""

    name: str
    index: int
    """The phase's place in the plan, from 0. Skipped phases count."""
    method: str
    """Name of the phase's method, such as `osft`; an import path for a method from outside."""
    folder: Path
    """The folder of the phase, which holds metrics.jsonl and later the checkpoint."""
    total_steps: int
    """Optimizer steps of the whole phase; 0 where nothing is trained."""
    steps: int
    """Optimizer steps that are done."""
    samples: int
    """Samples that those steps have trained on, over all ranks."""
    tokens: int
    """Tokens of those samples."""
    learning_rate: float
    """Of the next step; 0 where nothing is trained. The metrics of a step hold its own."""
    rank: int
    world_size: int


class Callback:
    """Observes the training of a phase. A subclass overrides the hooks that it needs; the others do nothing.

    The key `callbacks` of the configuration names the classes, and each phase constructs them anew in the processes of
    its ranks. What a hook receives is a copy, and what it changes there changes nothing else. A hook delays the
    training while it runs; the other ranks wait for it, for `distributed.timeout_s` seconds at most.

    An exception in a hook ends the training with the callback, the hook and the phase in its message, unless
    `failure_ends_training` is False.

    Callbacks are not a part of a phase's fingerprint, since they do not change its result: a phase that is reused from
    the store calls none, whichever callbacks it was trained with. Neither do calibration and evaluation without
    training.
    """

    on_all_ranks: bool = False
    """True: every rank constructs and calls the callback. False: rank 0 alone does."""
    failure_ends_training: bool = True
    """False: after an exception a warning is printed once, the callback is not called again on that rank, and the
    training goes on. A hook that communicates with other ranks must then not fail on one of them alone."""

    def on_phase_start(self, phase: PhaseStatus) -> None:
        """Called once, before the first step that this process takes.

        `phase.steps` is 0, or the number of steps in the save from which an interrupted phase resumes.
        """

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        """Called after each optimizer step, before a save.

        `metrics` is the step's line in metrics.jsonl. After an interruption, the steps that followed the last save are
        trained again and reported again.
        """

    def on_evaluate(self, phase: PhaseStatus, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        """Called after the evaluation sets were measured: before the first step, while the phase trains
        (`evaluation.every_steps`), and after the last step.

        `step` is the number of steps that were trained before the measurement, and `evaluation` holds `loss`,
        `token_accuracy`, `exact_match`, `samples` and `counted_tokens` by evaluation set. Where the best state of a
        validation is handed on, the last measurement is of that state.
        """

    def on_save(self, phase: PhaseStatus, step: int, folder: Path) -> None:
        """Called after the phase was saved in `folder`, `step` optimizer steps from its start.

        The save is removed when newer ones replace it, or when the phase is done.
        """

    def on_phase_end(self, phase: PhaseStatus, result: dict[str, Any]) -> None:
        """Called when everything of the phase is done but writing result.json; `result` is the content of that file.

        It is not called where the training fails or is stopped by a signal.
        """
