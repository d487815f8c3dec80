"""Computes the tokens and the loss mask of one conversation; see docs/reference/masks.md.

The loss counts what the model itself has to write: every assistant turn, from the first token after the generation
prompt through the token that ends the turn (not the newline that the template puts after it). `turns` finds the turns.

A template may rewrite earlier turns when later ones arrive (it drops their reasoning, for example). One text then
cannot show every turn as the model would write it, and the conversation becomes several samples, each of which counts
the turns that it shows unchanged.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from osftx.config.schema import TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.template_checks import check_content_is_written, check_is_written
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError, Message, Offsets, Tools
from osftx.data.chat.turns import AssistantTurn, Range, UncertainOpeningError, find_assistant_turn, find_contents

PRETRAINING = "pretraining"


class NothingCountedError(ConversationError):
    """Raised if no message of a conversation is counted."""


@dataclass(frozen=True)
class EncodedConversation:
    """One training sample of any length."""

    input_ids: list[int]
    """Token ids of the whole sample, (tokens,)."""
    counted: list[bool]
    """Whether the loss counts the prediction of each token, (tokens,)."""
    context_turns: int = 0
    """Number of assistant turns at the beginning of the conversation that are not counted, since the template does not
    show where they begin."""


def encode_document(tokenizer: ChatTokenizer, text: str) -> EncodedConversation:
    """Tokenises a text as a document of its own (`ChatTokenizer.encode_document`); every token is counted.

    Raises:
        ConversationError: the tokenizer has no end-of-sequence token.
    """
    ids = tokenizer.encode_document(text)
    return EncodedConversation(ids, [True] * len(ids))


def encode_conversation(
    tokenizer: ChatTokenizer, conversation: Conversation, train_on: TrainOn = TrainOn.assistant
) -> list[EncodedConversation]:
    """Tokenises a conversation and marks the tokens that the loss counts.

    Args:
        tokenizer: the model's tokenizer and chat template.
        conversation: its messages and tools.
        train_on: which messages are counted; a message with `train: false` never is.

    Returns:
        One sample, or several with the longest first; each message is counted in exactly one of them. Messages after
            the last counted one are left out. Each message with the role `pretraining` is a document of its own.

    Raises:
        ConversationError: nothing is counted, or the template does not show unambiguously which part of the text a
            message is, or it leaves out a part of a message.
    """
    messages, tools = conversation.messages, conversation.tools
    chosen = _chosen([message["role"] for message in messages], train_on)
    chosen = [i for i in chosen if messages[i].get("train") is not False]
    if not chosen:
        raise NothingCountedError(f"no message is trained on (train_on={train_on.value}); mark one, or remove the row")
    if messages[chosen[0]]["role"] == PRETRAINING:
        return [encode_document(tokenizer, messages[i]["content"]) for i in chosen]
    shown = [{key: value for key, value in message.items() if key != "train"} for message in messages]
    context = _uncertain_start(tokenizer, shown, tools, chosen)
    if train_on is TrainOn.everything:
        left_out = [i for i in range(len(shown)) if i not in chosen]
        return [_all_but(tokenizer, shown, tools, left_out, context)]
    return _samples(tokenizer, shown, tools, [i for i in chosen if i not in context], context)


def _uncertain_start(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, chosen: Sequence[int]
) -> Sequence[int]:
    """Returns the index of an assistant turn at the beginning of which the template does not show where it begins.

    Conversations that were cut into pieces begin like this, but no model is asked for a turn before any other: many
    templates cannot write the text that would stand before it, or write it otherwise.

    Raises:
        NothingCountedError: nothing else is counted.
    """
    first = next((i for i, message in enumerate(messages) if message["role"] != "system"), None)
    if first is None or first not in chosen or messages[first]["role"] != "assistant":
        return ()
    try:
        find_assistant_turn(tokenizer, messages[: first + 1], tools)
    except UncertainOpeningError as error:
        if len(chosen) == 1:
            raise NothingCountedError(str(error)) from error
        return (first,)
    return ()


def _chosen(roles: Sequence[str], train_on: TrainOn) -> Sequence[int]:
    """Returns the indices of the messages that are counted.

    Raises ConversationError if messages with the role `pretraining` stand beside others.
    """
    if PRETRAINING in roles and set(roles) != {PRETRAINING}:
        raise ConversationError("messages of the role pretraining stand beside others; give them rows of their own")
    if PRETRAINING in roles or train_on is TrainOn.everything:
        return range(len(roles))
    if train_on is TrainOn.all_but_system:
        return [i for i, role in enumerate(roles) if role != "system"]
    turns = [i for i, role in enumerate(roles) if role == "assistant"]
    return turns[-1:] if train_on is TrainOn.last_assistant else turns


def _samples(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    tools: Tools,
    chosen: Sequence[int],
    context: Sequence[int],
) -> list[EncodedConversation]:
    """Returns samples that together count every chosen message.

    Each sample is the conversation up to the last message that is not counted yet. Turns in `context` are read in all
    of them and counted in none.
    """
    turns = _assistant_turns(tokenizer, messages, tools, chosen)
    samples: list[EncodedConversation] = []
    remaining = list(chosen)
    while remaining:
        beginning = messages[: remaining[-1] + 1]
        text = tokenizer.render(beginning, tools)
        check_is_written(tokenizer, beginning, tools, text)
        for i in context:
            check_content_is_written(i + 1, messages[i], text)
        here = [i for i in remaining if i not in turns or turns[i].stands_in(text)]
        if remaining[-1] not in here:  # the turn was found in this very text
            raise ConversationError(
                f"message {remaining[-1] + 1}: the chat template writes this turn, or one before it, otherwise each "
                "time; use another template"
            )
        ranges = _ranges(tokenizer, beginning, tools, text, here, turns)
        ids, counted = _mark(tokenizer, text, ranges)
        samples.append(EncodedConversation(ids, counted, 0 if samples else len(context)))
        remaining = [i for i in remaining if i not in here]
    return samples


def _all_but(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    tools: Tools,
    left_out: Sequence[int],
    context: Sequence[int],
) -> EncodedConversation:
    """Returns the whole text as one sample that counts all tokens but the first and those of the messages `left_out`.

    It is not compared with what the model sees when it writes the turns in `context`, which are counted like the rest.

    Raises ConversationError if the template rewrites a turn when later turns follow.
    """
    text = tokenizer.render(messages, tools)
    check_is_written(tokenizer, messages, tools, text)
    turns = _assistant_turns(tokenizer, messages, tools, [i for i in range(len(messages)) if i not in context])
    for i, turn in turns.items():
        if not turn.stands_in(text):
            raise ConversationError(
                f"message {i + 1}: the chat template rewrites this turn, or one before it, when later turns follow, so "
                "that no text holds everything; use train_on=all_but_system"
            )
    ids, left = _mark(tokenizer, text, _ranges(tokenizer, messages, tools, text, left_out, turns))
    return EncodedConversation(ids, [i > 0 and not marked for i, marked in enumerate(left)])


def _assistant_turns(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, indices: Sequence[int]
) -> dict[int, AssistantTurn]:
    return {
        i: find_assistant_turn(tokenizer, messages[: i + 1], tools)
        for i in indices
        if messages[i]["role"] == "assistant"
    }


def _ranges(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    tools: Tools,
    text: str,
    indices: Sequence[int],
    turns: Mapping[int, AssistantTurn],
) -> dict[int, Range]:
    """Returns the range of each message in the text.

    For messages that are not the assistant's it is the range of the content alone.
    """
    others = [i for i in indices if i not in turns]
    contents = find_contents(tokenizer, messages, tools, text, others)
    return {i: turns[i].place for i in indices if i in turns} | contents


def _mark(tokenizer: ChatTokenizer, text: str, ranges: Mapping[int, Range]) -> tuple[list[int], list[bool]]:
    """Returns the token ids, and whether each belongs to one of the ranges, whose keys are indices of messages."""
    ids, offsets = tokenizer.encode(text)
    marked = [False] * len(ids)
    for index, place in ranges.items():
        try:
            first, stop = _tokens(tokenizer, text, ids, offsets, place)
        except ConversationError as error:
            raise ConversationError(f"message {index + 1}: {error}") from error
        marked[first:stop] = [True] * (stop - first)
    return ids, marked


def _tokens(tokenizer: ChatTokenizer, text: str, ids: list[int], offsets: Offsets, place: Range) -> tuple[int, int]:
    """Returns the half-open range of tokens that represent a range of characters.

    A token may represent characters on both sides of a border ("." and the newline after it, or a newline of the
    template and one of the content). It belongs to the range, since nothing else would teach the model its part. If it
    also holds more than white space from outside the range, the sample is rejected: raises ConversationError.
    """
    first = bisect_right(offsets, place.start, key=_last_character)
    stop = bisect_left(offsets, place.end, key=_first_character)
    if first < stop and offsets[first][0] < place.start and ids[first] in tokenizer.special_token_ids:
        first += 1  # a special token of the template that absorbs the white space after it (`rstrip`)
    if first >= stop:
        raise ConversationError("the chat template writes no token for this turn; use another template")
    if place.ends_with_special and ids[stop - 1] not in tokenizer.special_token_ids:
        raise ConversationError(
            f"the chat template ends this turn with {text[place.start : place.end][-20:]!r}, and others with a special "
            "token; use another template"
        )
    foreign = text[offsets[first][0] : place.start] + text[place.end : offsets[stop - 1][1]]
    if foreign.strip():
        raise ConversationError(
            f"one token holds both text of this turn and {foreign!r} of the template; use a template with a special "
            "token or a newline between turns"
        )
    return first, stop


def _first_character(offset: tuple[int, int]) -> int:
    return offset[0]


def _last_character(offset: tuple[int, int]) -> int:
    return offset[1]
