"""A chat tokenizer without torch or transformers, built from `tokenizer.json` and the chat template alone.

Importing transformers' AutoTokenizer takes seconds and loads torch; the launching process must do neither. For every
folder that holds a `tokenizer.json`, texts and token ids equal those of `AutoTokenizer.apply_chat_template`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from osftx.data.chat.template import RenderingError, render
from osftx.data.chat.tokenizer_files import CONFIG_FILE, TEMPLATE_FILE, TokenizerFiles, read_tokenizer
from osftx.errors import ConfigurationError

Message = Mapping[str, Any]
"""One turn: `role`, `content` and any other keys that the chat template reads."""

Tools = Sequence[dict[str, Any]] | None
"""JSON schemas of the tools that the assistant may call."""

Offsets = list[tuple[int, int]]
"""For each token, the half-open range of characters of the text that the token represents."""


class ConversationError(ValueError):
    """Raised if a conversation cannot become a training sample; the message is the reason, without the row's place."""


class ChatTokenizer:
    """Renders conversations with the model's chat template and turns text into token ids."""

    def __init__(self, files: TokenizerFiles, now: datetime):
        self._folder, self._now = files.folder, now
        self._tokenizer = files.tokenizer
        self._template, self._tool_template = files.template, files.tool_template
        self._special_tokens = files.special_tokens
        self.renders = files.template is not None
        """Whether there is a chat template. Base models have none, and need none for documents."""
        self.fingerprint = files.fingerprint
        """SHA-256 of the files that were read, as hexadecimal digits."""
        self.special_token_ids = frozenset(
            token_id for token_id, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self.eos_token: str | None = self._special_tokens.get("eos_token")
        self.eos_token_id = None if self.eos_token is None else self._tokenizer.token_to_id(self.eos_token)

    @classmethod
    def load(cls, path: str, revision: str | None = None, now: datetime | None = None) -> "ChatTokenizer":
        """Loads a tokenizer from a local folder, or from the Hub (or its local cache) by a name such as `org/model`.

        Args:
            path: a local folder, otherwise a name on the Hub.
            revision: branch, tag or commit on the Hub; unused for a local folder.
            now: the moment that the chat template takes as the current time in everything that is rendered; None stands
                for the time of this call.

        Raises:
            ConfigurationError: nothing is found under `path`, there is no `tokenizer.json`, or one of the files cannot
                be read.
        """
        now = now or datetime.now()
        return cls(read_tokenizer(path, revision, now), now)

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes a receiving process load the tokenizer again: a compiled template cannot be pickled.

        The moment of the chat template stays the same.
        """
        return ChatTokenizer.load, (str(self._folder), None, self._now)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included: transformers' `len(tokenizer)`."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def render(self, messages: Sequence[Message], tools: Tools = None, add_generation_prompt: bool = False) -> str:
        """Returns the text of the conversation, followed by the opening of an assistant turn if requested.

        If the template writes the date (`strftime_now`), it is the date for which the tokenizer was loaded.

        Args:
            messages: the turns; null entries are treated as absent.
            tools: JSON schemas of the tools that the assistant may call.
            add_generation_prompt: whether to append the text after which the assistant's next turn begins.

        Raises:
            ConfigurationError: there is no chat template.
            ConversationError: the template rejects these messages (such as roles that do not alternate), or fails.
        """
        template = self._template if tools is None else self._tool_template
        if template is None:
            raise ConfigurationError([self.no_template()])
        try:
            return render(
                template,
                messages=[_for_template(message) for message in messages],
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except RenderingError as error:
            raise ConversationError(
                f"the chat template refuses the conversation: {error} (template of {self._folder})"
            ) from error

    def no_end(self, reason: Exception) -> str:
        """Returns the error message for a template that does not come to an end with a conversation."""
        return f"the chat template of {self._folder} does not come to an end with it, {reason}; use another template"

    def no_template(self) -> str:
        """Returns the error message for conversations without a chat template to render them."""
        return (
            f"{self._folder}: no chat template (neither {TEMPLATE_FILE} nor chat_template in {CONFIG_FILE}), without "
            "which messages are no text; use an instruction-tuned model, or put the chat template of your model there"
        )

    def encode(self, text: str) -> tuple[list[int], Offsets]:
        """Returns the token ids of the text and the characters that each of them represents; no special token is added.

        Tokens that share a character (a character of several bytes) all have the offsets of that character.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the token ids, special tokens included."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


def _for_template(message: Message) -> dict[str, Any]:
    """Returns the message as transformers passes it to the template.

    Null entries are removed, and the reasoning is present under both of its names.
    """
    given = {key: value for key, value in message.items() if value is not None}
    if "reasoning_content" in given:
        return {"thinking": given["reasoning_content"], **given}
    return given
