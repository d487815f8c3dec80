"""The data type of one conversation, after it is read and before it is tokenised."""

from dataclasses import dataclass
from typing import Any

from osftx.config.schema import TrainOn


@dataclass(frozen=True)
class Conversation:
    """The messages of a conversation and the tools that the assistant may call."""

    messages: list[dict[str, Any]]
    """Messages with `role` (system, user, assistant, tool, pretraining) and `content` (text; may be null if there are
    `tool_calls`). Optional keys are `tool_calls`, `reasoning_content` (text), `train` (bool), `name` and
    `tool_call_id`."""
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the tools, in the form that the chat template receives; None if there are no tools."""
    train_on: TrainOn | None = None
    """Messages that are counted, if the row itself says it; None: those that the settings choose."""
    empty_turns: int = 0
    """Number of empty turns at the end that were left out."""
