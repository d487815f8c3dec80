"""Fields of rows and messages by which other trainers decide what is trained on, or what the model is given.

Each is honoured exactly or refused; none is ignored silently. The table is in docs/how-to/data.md. A row whose field
has its neutral value (weight 1, train true, no images) is read as if the field were not there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from osftx.config.schema import TrainOn
from osftx.data.json_text import RowError, kind_of

MESSAGE_FLAGS = ("train", "training", "loss", "weight")
"""Fields of a message that say whether it is trained on: true or 1, false or 0."""


class _Refused(NamedTuple):
    """A field that cannot be honoured unless it has a neutral value."""

    is_neutral: Callable[[Any], bool]
    remedy: str


def _is_one(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value == 1


def _is_off(value: Any) -> bool:
    return value is None or (isinstance(value, bool | int) and value == 0)


def is_empty(value: Any) -> bool:
    """Returns whether the value of a field says nothing."""
    return value in (None, "", [], {})


def _is_wanted(value: Any) -> bool:
    """Returns whether a label of any meaning is not the one of an unwanted answer."""
    return value is not False and not (isinstance(value, str) and value.strip().lower() == "false")


def _is_wanted_tag(value: Any) -> bool:
    return value in (1, "1") or (isinstance(value, str) and value.strip().lower() == "true")


def _are_no_token_labels(value: Any) -> bool:
    """Returns whether labels are those of a text, such as names of subjects, and not those of tokens."""
    return not isinstance(value, list) or not value or any(isinstance(label, str) for label in value)


def _is_every_turn(value: Any) -> bool:
    return value is True or value == "turn"


def _fields(names: str, is_neutral: Callable[[Any], bool], remedy: str) -> dict[str, _Refused]:
    return {name: _Refused(is_neutral, remedy) for name in names.split()}


MASKS = (
    "loss_mask", "loss_masks", "completion_mask", "assistant_masks", "assistant_mask", "response_mask", "train_mask",
    "mask", "masks",
)  # fmt: skip
"""Fields of tokenised rows that say, like the labels, which tokens are counted."""
_MARK = "mark the messages with `train: true` and `train: false`"
ROW_FIELDS = (
    _fields(
        "weight sample_weight loss_weight",
        _is_one,
        "a row has no weight of its own: give the rows of one weight a file of their own with data.weights",
    )
    | _fields("train training trainable loss", _is_one, "remove the row, or leave it out with data.on_bad_row=skip")
    | _fields("loss_scale loss_weights", is_empty, _MARK)
    | _fields("train_on_inputs train_on_input train_on_prompt", _is_off, "set data.train_on=all_but_system")
    | _fields("mask_history", _is_off, "set data.train_on=last_assistant")
)
"""Fields of rows of every format."""
TEXT_FIELDS = (
    _fields(" ".join(MASKS), is_empty, _MARK)
    | _fields("labels", _are_no_token_labels, f"{_MARK}, or train on the token ids with data.format=tokenized")
    | _fields("roles_to_train train_on_turn mask_input mask_inputs mask_prompt", is_empty, "set data.train_on")
    | _fields(
        "train_on_eos train_on_eot",
        _is_every_turn,
        "the token that closes a turn is trained on with it: remove the field",
    )
)
"""Fields of conversations and documents; of token ids the labels alone say what is trained on."""
CONVERSATION_FIELDS = (
    _fields("rejected rejected_response rejected_messages", is_empty, "preferences are not trained on; keep the answer")
    | _fields("label", _is_wanted, "an answer marked as unwanted would be trained on; remove the row")
    | _fields("kto_tag", _is_wanted_tag, "an answer marked as unwanted would be trained on; remove the row")
    | _fields("chat_template_kwargs", is_empty, "the template is given no arguments; write it into a template")
    | _fields("functions", is_empty, "write them as `tools`")
    | _fields("image images video videos audio audios", is_empty, "the model is given text alone; remove the row")
)
"""Fields of conversations alone."""
LEAVES_OUT = "or, if it means something else, set data.ignore_fields=[{}]"


def check_row(row: Mapping[str, Any], conversation: bool) -> None:
    """Raises RowError for a field of the row, a `conversation` or a document, that would have to be honoured."""
    _refuse(row, ROW_FIELDS | TEXT_FIELDS | (CONVERSATION_FIELDS if conversation else {}))


def check_token_row(row: Mapping[str, Any], counted: Sequence[bool]) -> None:
    """Checks the fields of a tokenised row beside `input_ids` and `labels`; `counted` is what the labels say.

    Raises:
        RowError: a mask says otherwise than the labels, or the row is padded or packed.
    """
    _refuse(row, ROW_FIELDS)
    for name in MASKS:
        if row.get(name) is not None and row[name] != list(counted):  # 1 and 0 equal true and false
            raise _refusal(name, row[name], "it differs from the labels: write what is not trained on as label -100")
    if row.get("attention_mask") is not None and row["attention_mask"] != [1] * len(counted):
        raise _refusal("attention_mask", row["attention_mask"], "rows are not padded: cut the padding off")
    if row.get("position_ids") is not None and row["position_ids"] != list(range(len(counted))):
        raise _refusal("position_ids", row["position_ids"], "a row is one sample, from 0 on: write one row for each")


def chosen_by_row(row: Mapping[str, Any]) -> TrainOn | None:
    """Returns what the row's own `unmask` says to train on; None if it says nothing. Raises RowError."""
    value = row.get("unmask")
    if value is not None and not isinstance(value, bool):
        raise RowError(f"has an `unmask` that is {kind_of(value)}; it must be true or false")
    return TrainOn.all_but_system if value else None


def is_trained(here: str, message: Mapping[str, Any]) -> bool | None:
    """Returns what the flags of a message say; None if it has none. Raises RowError; `here` names the message."""
    said = {}
    for name in MESSAGE_FLAGS:
        value = message.get(name)
        if value is None:
            continue
        as_number = name in ("loss", "weight") and isinstance(value, int | float) and value in (0, 1)
        if not isinstance(value, bool) and not as_number:
            allowed = "true or false" if name in ("train", "training") else "0 or 1, since a loss is not weighted"
            given = f"{value!r}" if isinstance(value, int | float) and name == "weight" else kind_of(value)
            raise RowError(f"{here} has a `{name}` that is {given}; it must be {allowed}")
        said[name] = bool(value)
    if len(set(said.values())) > 1:
        raise RowError(f"{here} has {' and '.join(f'`{name}`' for name in said)}, which differ; keep one of them")
    return next(iter(said.values()), None)


def _refuse(row: Mapping[str, Any], fields: Mapping[str, _Refused]) -> None:
    for name in fields.keys() & row.keys():
        if row[name] is not None and not fields[name].is_neutral(row[name]):
            raise _refusal(name, row[name], fields[name].remedy)


def _refusal(name: str, value: Any, remedy: str) -> RowError:
    given = f"{value!r}" if isinstance(value, bool | int | float) else kind_of(value)
    return RowError(f"has `{name}` ({given}); {remedy}, {LEAVES_OUT.format(name)}")
