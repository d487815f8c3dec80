"""A chat tokenizer that runs without torch or transformers.

Texts and token ids equal those of `AutoTokenizer.apply_chat_template`, since transformers itself has built the
tokenizer, once and in another process (`built_tokenizer`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from tokenizers import Encoding, Tokenizer
from tokenizers.processors import PostProcessor

from osftx.data.chat.placeholders import NoFreeCharacterError, Placeholders
from osftx.data.chat.special_text import SpecialText
from osftx.data.chat.template import RenderingError, render
from osftx.data.chat.tokenizer_files import (
    CONFIG_FILE,
    TEMPLATE_FILE,
    TokenizerFiles,
    compile_placed,
    read_tokenizer,
)
from osftx.data.chat.turn_markers import turn_markers
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
        self._files, self._now = files, now
        self.folder = files.folder
        """Folder of the tokenizer's files, which for a Hub name is the local copy."""
        self._tokenizer, self._post_processor = _load(files)
        self._template = compile_placed(files.template, now)
        self._tool_template = compile_placed(files.tool_template, now)
        self._special_tokens = files.tokenizer.special_tokens
        self.renders = files.template is not None
        """Whether there is a chat template. Base models have none, and need none for documents."""
        self.fingerprint = files.fingerprint
        """SHA-256 of everything that decides texts and token ids, as hexadecimal digits."""
        self.special_token_ids = frozenset(
            token_id for token_id, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self.template_sources = [placed[1] for placed in (files.template, files.tool_template) if placed is not None]
        """Texts of the chat templates."""
        self._placeholders = Placeholders([])
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
        return cls(read_tokenizer(path, revision), now or datetime.now())

    def __reduce__(self) -> tuple[Any, ...]:
        """Sends the files' contents, from which a receiving process makes what cannot be pickled.

        The moment of the chat template stays the same.
        """
        return ChatTokenizer, (self._files, self._now)

    @cached_property
    def special_text(self) -> SpecialText:
        """The spellings of the special tokens and of the template's turn markers, which contents may hold."""
        added = [token for token in self._tokenizer.get_added_tokens_decoder().values() if not token.special]
        markers = turn_markers(self._render_for_markers, {token.content for token in added}) if self.renders else ()
        return SpecialText(self._tokenizer, _encode, markers)

    def _render_for_markers(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        return self.render(messages, None, add_generation_prompt)

    def reading(self, placeholders: Placeholders) -> "ChatTokenizer":
        """Returns this tokenizer such that it reads placeholders as plain text, as what they hide."""
        reader = ChatTokenizer.__new__(ChatTokenizer)
        vars(reader).update(vars(self), _placeholders=placeholders)
        return reader

    def show(self, text: str) -> str:
        """Returns the text with what placeholders hide (`reading`)."""
        return self._placeholders.show(text)

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
                f"the chat template refuses the conversation: {error} (template of {self.folder})"
            ) from error

    def no_end(self, reason: Exception) -> str:
        """Returns the error message for a template that does not come to an end with a conversation."""
        return f"the chat template of {self.folder} does not come to an end with it, {reason}; use another template"

    def no_template(self) -> str:
        """Returns the error message for conversations without a chat template to render them."""
        return (
            f"{self.folder}: no chat template (neither {TEMPLATE_FILE} nor chat_template in {CONFIG_FILE}), without "
            "which messages are no text; use an instruction-tuned model, or put the chat template of your model there"
        )

    def encode(self, text: str) -> tuple[list[int], Offsets]:
        """Returns the token ids of the text and the characters that each of them represents; no special token is added.

        Tokens that share a character (a character of several bytes) all have the offsets of that character. What
        placeholders hide is read as plain text (`reading`).

        Raises:
            ConversationError: the tokenizer fails on the text, or the text leaves no characters to hide tokens with.
        """
        if self._placeholders.stand_in(text):
            try:
                return self.special_text.encode(text, self._placeholders)
            except NoFreeCharacterError as error:
                raise ConversationError(str(error)) from error
        encoding = _encode(self._tokenizer, text)
        return encoding.ids, encoding.offsets

    def encode_document(self, text: str) -> list[int]:
        """Returns the token ids of a text that stands for itself, as a model reads it that continues texts.

        They are the ids that transformers gives for the text, followed by the end-of-sequence token. Special tokens
        that the text itself begins or ends with are not added a second time.

        Raises:
            ConversationError: the tokenizer has no end-of-sequence token, or makes no token of the text.
        """
        if self.eos_token_id is None:
            raise ConversationError(
                "the tokenizer has no end-of-sequence token to close a document with; name one there"
            )
        own = _encode(self._tokenizer, text)
        if not own.ids:
            raise ConversationError("the tokenizer makes no token of the text; remove it")
        whole = self._post_processor.process(own) if self._post_processor is not None else own
        start = whole.special_tokens_mask.index(0)
        opening, closing = whole.ids[:start], whole.ids[start + len(own.ids) :]
        if closing[-1:] != [self.eos_token_id]:
            closing = [*closing, self.eos_token_id]
        begins, ends = own.ids[: len(opening)] == opening, own.ids[-len(closing) :] == closing
        return [*([] if begins else opening), *own.ids, *([] if ends else closing)]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the token ids, special tokens included."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of the token ids without special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def _for_template(message: Message) -> dict[str, Any]:
    """Returns the message as transformers passes it to the template.

    Null entries are removed, and the reasoning is present under both of its names.
    """
    given = {key: value for key, value in message.items() if value is not None}
    if "reasoning_content" in given:
        return {"thinking": given["reasoning_content"], **given}
    return given


def _encode(tokenizer: Tokenizer, text: str) -> Encoding:
    """Encodes a text without adding special tokens. Raises ConversationError if the library fails on it."""
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except BaseException as error:
        # The library's errors are plain exceptions, and its panics are none: they must not end the program.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())
        raise ConversationError(f"the tokenizer fails on this text ({reason}); correct its tokenizer.json") from error


def _load(files: TokenizerFiles) -> tuple[Tokenizer, PostProcessor | None]:
    """Returns the tokenizer without its post-processor, and the post-processor."""
    tokenizer = Tokenizer.from_str(files.tokenizer.serialized)
    tokenizer.encode_special_tokens = files.tokenizer.split_special_tokens
    # The post-processor adds special tokens, which the template has already written, and trims white space off the
    # offsets, so that a token would seem not to represent the space it begins with.
    post_processor = tokenizer.post_processor
    tokenizer.post_processor = None
    return tokenizer, post_processor
