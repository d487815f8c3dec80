"""Turns the settings of some data into tokenised samples.

The launching process makes the samples once; later runs find them by content.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.markup import escape
from rich.progress import Progress

from osftx.config.schema import DataConfig, OnBadRow
from osftx.data.blocks import in_blocks
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.chunks import chunks
from osftx.data.encoding import Encoded, Encoder, encode_all
from osftx.data.mixing import weigh
from osftx.data.row_problems import RowProblems
from osftx.data.samples import (
    DataSummary,
    Index,
    Prepared,
    TokenBatch,
    read_index,
    record,
    samples_file,
    write_index,
    write_once,
)
from osftx.data.sources import Source, find_sources
from osftx.errors import ConfigurationError
from osftx.utils.console import SafeConsole
from osftx.utils.files import expanded

Key = TypeVar("Key")
Made = TypeVar("Made")
FORMAT_VERSION = 8
"""Version of the tokenised data; to be raised if the same rows must give other samples, or the same samples another
layout."""
BYTES_PER_PROCESS = 1 << 22
"""Bytes of the sources that justify one process: starting a process for less takes longer than tokenising it."""
MAX_SKIPPED_LISTED = 100
MAX_SPECIAL_LISTED = 3
DECIDING = (
    "format",
    "train_on",
    "document_column",
    "block_size",
    "limit",
    "on_bad_row",
    "too_long",
    "roles",
    "ignore_fields",
    "special_tokens",
)
"""Settings that determine the samples of some data, in addition to its content."""
FINGERPRINT_LENGTH = 32
"""Length of a fingerprint in hexadecimal digits."""


def prepare(
    data: DataConfig,
    tokenizer: ChatTokenizer | None,
    max_seq_len: int,
    folder: Path | None,
    num_proc: int | None = None,
    seed: int = 0,
) -> Prepared:
    """Writes the tokenised samples to a folder inside `folder`, or finds them there; without `folder`, writes nothing.

    The name of the inner folder is a fingerprint of the content that is read, the tokenizer, max_seq_len, the settings
    and the format. The inner folder appears only when it is complete; `load_samples` reads it. If the chat template
    writes the date, the samples keep the date on which they were made.

    Args:
        data: what is read, and how.
        tokenizer: the tokenizer and chat template of the model; with None rows are checked, and samples have no tokens.
        max_seq_len: maximum number of tokens in one sample; longer samples are dropped and counted.
        folder: folder of tokenised data, created if it does not exist. It requires a tokenizer.
        num_proc: number of processes that tokenise; None stands for one per CPU, or fewer for little data.
        seed: seed of the samples that `weights` draws.

    Raises:
        ConfigurationError: data cannot be read or has no row (the error lists the problems of up to MAX_PROBLEMS_SHOWN
            rows); there are conversations but no chat template; all samples are longer than max_seq_len; `folder`
            cannot be written.
    """
    if data.weights is not None:
        return _weighted(data, lambda part: prepare(part, tokenizer, max_seq_len, folder, num_proc), seed, folder)
    entries = _each(lambda path: find_sources(path, data.split, data.revision), _paths(data))
    name = ", ".join(str(expanded(path)) for path in _paths(data))
    content = _content(entries)
    summary, index = DataSummary(name), Index()

    def samples() -> Iterator[TokenBatch]:
        return _samples(entries, data, tokenizer, max_seq_len, num_proc, summary, index)

    if folder is None:
        for _ in samples():
            pass
        return Prepared(None, summary, *index.arrays(), content)

    def write(place: Path) -> None:
        with samples_file(place) as write_batch:
            for batch in samples():
                write_batch(record(batch))
        write_index(place, summary, *index.arrays())
        if _content(entries) != content:
            raise ConfigurationError([f"{name}: was changed while it was read; start again when it is complete"])

    assert tokenizer is not None
    target = folder / _fingerprint(content, data, tokenizer, max_seq_len)
    write_once(target, write)
    found, lengths, digests = read_index(target)
    return Prepared(target, replace(found, path=name), lengths, digests, content)


def _content(entries: list[list[Source]]) -> str:
    return _hash([[source.fingerprint() for source in entry] for entry in entries])


def _paths(data: DataConfig) -> list[str]:
    return data.path if isinstance(data.path, list) else [data.path]


def _weighted(
    data: DataConfig, prepare_part: Callable[[DataConfig], Prepared], seed: int, folder: Path | None
) -> Prepared:
    """Prepares each path by itself and combines them by their weights; a path with weight 0 is not read."""
    weights = {place: weight for place, weight in enumerate(data.weights or []) if weight > 0}
    parts = _each(lambda place: prepare_part(replace(data, path=data.path[place], weights=None)), weights)
    return weigh(dict(zip(weights, parts, strict=True)), list(weights.values()), seed, folder)


def _each(make: Callable[[Key], Made], keys: Iterable[Key]) -> list[Made]:
    """Returns the result of `make` for each key.

    Raises one ConfigurationError with the problems of all keys.
    """
    made: list[Made] = []
    problems: list[str] = []
    for key in keys:
        try:
            made.append(make(key))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return made


def _samples(
    entries: list[list[Source]],
    data: DataConfig,
    tokenizer: ChatTokenizer | None,
    max_seq_len: int,
    num_proc: int | None,
    summary: DataSummary,
    index: Index,
) -> Iterator[TokenBatch]:
    """Yields the samples that are not too long; counts all samples in `summary` and adds those yielded to `index`.

    Raises ConfigurationError if there are none, or if there are conversations but no chat template.
    """
    size = sum(source.size for entry in entries for source in entry)
    processes = max(1, min(num_proc or _cpus(), size // BYTES_PER_PROCESS))
    encoder = Encoder(
        tokenizer,
        data.train_on,
        data.document_column,
        dict(data.roles),
        tuple(data.ignore_fields),
        data.too_long,
        max_seq_len,
        data.special_tokens,
    )
    with (
        _progress(summary.path, size) as advance,
        closing(encode_all(encoder, chunks(entries, data), processes)) as encoded,
    ):
        batches = _usable(encoded, data.on_bad_row, summary, advance)
        if data.block_size is not None and tokenizer is not None:
            batches = in_blocks(batches, data.block_size)
        for batch in batches:
            summary.longest = max(summary.longest, int(batch.lengths.max(initial=0)))
            kept = _shorter(batch, max_seq_len)
            summary.dropped += len(batch.lengths) - len(kept.lengths)
            summary.samples += len(kept.lengths)
            summary.tokens += len(kept.input_ids)
            summary.longest_sample = max(summary.longest_sample, int(kept.lengths.max(initial=0)))
            summary.highest_id = max(summary.highest_id, int(kept.input_ids.max(initial=0)))
            if len(kept.lengths):
                index.add(kept)
                yield kept
    if summary.turns and tokenizer is not None and not tokenizer.renders:
        raise ConfigurationError([tokenizer.no_template()])
    if not summary.samples:
        raise ConfigurationError([f"{summary.path}: {_why_nothing(summary, max_seq_len)}"])


def _why_nothing(summary: DataSummary, max_seq_len: int) -> str:
    if summary.dropped:
        return (
            f"all {summary.dropped} samples are longer than max_seq_len = {max_seq_len} tokens, the longest has "
            f"{summary.longest}; raise max_seq_len (up to what the model allows) or shorten them"
        )
    if summary.skipped:
        place, reason = summary.skipped_rows[0]
        return f"none of its {summary.skipped} rows can be used; the first, {place}: {reason}"
    return "gives no sample of two tokens or more; give more text"


def _shorter(batch: TokenBatch, max_seq_len: int) -> TokenBatch:
    """Returns the samples of up to `max_seq_len` tokens."""
    fits = batch.lengths <= max_seq_len
    if fits.all():
        return batch
    tokens = np.repeat(fits, batch.lengths)
    return TokenBatch(batch.input_ids[tokens], batch.counted[tokens], batch.lengths[fits])


def _usable(
    encoded: Iterable[Encoded], on_bad_row: OnBadRow, summary: DataSummary, advance: Callable[[int], object]
) -> Iterator[TokenBatch]:
    """Yields the samples; rows that cannot be used are counted in `summary` or, by `on_bad_row`, an error.

    Raises ConfigurationError with up to MAX_PROBLEMS_SHOWN different problems of rows.
    """
    problems = RowProblems()
    try:
        for part in encoded:
            advance(part.size)
            summary.turns = dict(Counter(summary.turns) + part.turns)
            summary.special_rows += len(part.special)
            summary.first_special_rows += list(part.special)[: MAX_SPECIAL_LISTED - len(summary.first_special_rows)]
            summary.spelled_tokens = sorted({*summary.spelled_tokens, *(set().union(*part.special.values()))})
            summary.adjusted = dict(Counter(summary.adjusted) + part.adjusted)
            if on_bad_row is OnBadRow.skip:
                summary.skipped += len(part.wrong)
                summary.skipped_rows += part.wrong[: MAX_SKIPPED_LISTED - len(summary.skipped_rows)]
            elif problems.full_after(part.wrong):
                break
            if not problems.rows:
                yield part.samples
    except ConfigurationError as error:
        raise ConfigurationError(problems.lines() + error.problems) from error
    if problems.rows:
        raise ConfigurationError(problems.lines())


@contextmanager
def _progress(path: str, size: int) -> Iterator[Callable[[int], object]]:
    """Shows a bar with the remaining time, in a terminal only; yields the function that takes the bytes read."""
    console = SafeConsole(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Tokenising {escape(path)}", total=size)
        yield lambda count: progress.advance(task, count)


def _cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fingerprint(content: str, data: DataConfig, tokenizer: ChatTokenizer, max_seq_len: int) -> str:
    settings = {key: value.value if isinstance(value, Enum) else value for key, value in asdict(data).items()}
    decides = [settings[key] for key in DECIDING]
    made_by = [FORMAT_VERSION, version("tokenizers")]
    return _hash([*made_by, tokenizer.fingerprint, max_seq_len, decides, content])[:FINGERPRINT_LENGTH]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
