"""A conversation as data: what a chat template renders."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Conversation:
    messages: list[dict[str, Any]]
    """Turns: `role` and `content` (text, or null beside `tool_calls`); `tool_calls`, `reasoning_content`, `train`,
    `name`, `tool_call_id` where they are given."""
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the functions that the assistant may call."""
