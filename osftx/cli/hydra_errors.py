"""Explains Hydra's errors to the user: which key or override is wrong, and what to write instead."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import KeyValidationError, OmegaConfBaseException

NO_TEXT = "such as no, yes, on, null or 1"


def explain(error: HydraException | OmegaConfBaseException) -> str:
    """Returns Hydra's error in one or two lines: the key, what is wrong, and the nearest name that exists."""
    for one in (error, error.__context__):
        if isinstance(one, KeyValidationError):
            return _no_text(one)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    said = str(error).split("Config search path")[0].strip()
    if not isinstance(cause, OmegaConfBaseException):
        return said
    if isinstance(cause, (AttributeError, KeyError)) and cause.parent_node is not None:
        known = [str(key) for key in cause.parent_node]
        near = get_close_matches(str(cause.key), known, n=1)
        asked = said.rpartition("use +")[2]
        others = f"known here: {', '.join(known)}" if known else f"add it with {_in_one_piece(asked) or f'++{asked}'}"
        hint = f"did you mean {near[0]}?" if near else others
        return f"{cause.full_key}: no such key; {hint}"
    reason = str(cause.msg or cause).splitlines()[0]
    return f"{said}: {reason}" if cause is not error else f"{cause.full_key}: {reason}"


def _no_text(error: KeyValidationError) -> str:
    place = f"{error.full_key}: " if error.full_key else ""
    reason = str(error.msg or error).strip().splitlines()[0]
    return f"{place}{reason}: a name that YAML does not read as text ({NO_TEXT}); write it in quotes"


def reaching_every_phase(words: list[str]) -> list[str]:
    """Returns a problem for each override of one argument of a phase's schedule.

    Hydra follows the phase's interpolation and would silently set the argument in `training`, for all phases.
    """
    whole = {word: _in_one_piece(word) for word in words}
    return [f"{word}: would reach every phase; set {other}" for word, other in whole.items() if other is not None]


def _in_one_piece(word: str) -> str | None:
    """Returns the override that gives one phase the argument that `word` means for it; None for other words."""
    parts = re.fullmatch(r"\+*(phases\.[^.=]+\.lr_scheduler_kwargs)\.([^=]+)=(.*)", word)
    return None if parts is None else f"'++{parts[1]}={{{parts[2]}:{parts[3]}}}'"


def no_option(words: Sequence[str], conf: Path) -> str:
    """Returns which override sets a group to something that is not the name of an option in the folder `conf`.

    Hydra's own error does not name the override.
    """
    given = re.compile(r"\+?(?P<group>[\w/]+)(@[\w.]*)?=(null|true|false|[-+.\d].*)", re.IGNORECASE)
    for match in filter(None, map(given.fullmatch, words)):
        folder = conf / match["group"]
        if folder.is_dir():
            options = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            nothing = "leave it out" if match[0].startswith("+") else f"write ~{match['group']}"
            return f"{match[0]}: not an option of the group; use one of {options}, or {nothing}"
    return "a group is set to something that is not the name of an option; write GROUP=OPTION or ~GROUP"
