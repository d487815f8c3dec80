"""Whether what is trained will stop: the token that closes an assistant turn must be one that ends generation."""

from collections.abc import Iterable

from osftx.config.schema import GenerationEos
from osftx.data.chat.closing import closing_tokens
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError
from osftx.data.samples import Prepared
from osftx.errors import ConfigurationError
from osftx.models.stop_tokens import stop_tokens

SETTING = "model.generation_eos"


def added_stop_tokens(setting: GenerationEos, tokenizer: ChatTokenizer | None) -> list[int]:
    """Returns the token ids that the checkpoints' generation config gets in addition to the model's own.

    Raises:
        ConfigurationError: they are asked for, and the chat template closes an assistant turn with no token.
    """
    if setting is GenerationEos.keep or tokenizer is None:
        return []
    try:
        closing = closing_tokens(tokenizer) if tokenizer.renders else []
    except ConversationError:
        closing = []
    if not closing:
        raise ConfigurationError(
            [
                f"{SETTING}={setting.value}: no special token that closes an assistant turn is found in the chat "
                f"template of {tokenizer.folder}; set {SETTING}=keep, or use a template that closes turns with one"
            ]
        )
    return [] if set(closing) & set(_stops(tokenizer)[1]) else closing[:1]


def end_advice(tokenizer: ChatTokenizer | None, added: Iterable[int], read: Iterable[Prepared]) -> list[str]:
    """Returns advice if generation would not stop where the model is taught to stop. `read` is all data of the run."""
    if tokenizer is None or not tokenizer.renders or not any("assistant" in one.summary.turns for one in read):
        return []
    try:
        closing = closing_tokens(tokenizer)
    except ConversationError:
        return []  # what is wrong with the template is told with the rows
    if not closing:
        return [
            "the chat template writes no special token at the end of an assistant turn, so that nothing teaches the "
            "model to stop there; use a template that closes turns with one, such as the end-of-sequence token"
        ]
    place, stops = _stops(tokenizer)
    if set(closing) & {*stops, *added}:
        return []
    named = ", ".join(f"{tokenizer.decode([number])} ({number})" for number in stops) or "no token"
    return [
        f"the chat template closes an assistant turn with {tokenizer.decode(closing[:1])} ({closing[0]}), but by "
        f"{place} generation stops at {named}: the trained model will not stop; {SETTING}=from_template writes the "
        "token into the checkpoints' generation_config.json"
    ]


def _stops(tokenizer: ChatTokenizer) -> tuple[str, list[int]]:
    """Returns what decides where generation stops, and the token ids."""
    place, stops = stop_tokens(tokenizer.folder)
    if place is not None:
        return place, stops
    return "the tokenizer", [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
