"""One conversation, as it is read and before it is tokenised."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Conversation:
    """Messages and the tools that the assistant may call."""

    messages: list[dict[str, Any]]
    """Each with `role` (system, user, assistant, tool, pretraining) and `content` (text; may be null where there are
    `tool_calls`); optional are `tool_calls`, `reasoning_content` (text), `train` (bool), `name`, `tool_call_id`."""
    tools: list[dict[str, Any]] | None = None
    """JSON schemas, as the chat template gets them."""
