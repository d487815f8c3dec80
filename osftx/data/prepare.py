"""The tokenised training file: made once by the parent process, read by every rank through a memory map."""

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import numpy as np
from rich.console import Console
from rich.progress import Progress

from osftx.data.chat import EncodedConversation, encode_conversation
from osftx.data.conversation import Conversation
from osftx.data.sources import read_conversations
from osftx.data.tokenizer import ChatTokenizer, ConversationError
from osftx.errors import MAX_PROBLEMS_SHOWN, ConfigurationError

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ListArray

FORMAT_VERSION = 4
"""Raised when the same file has to give other samples, or the same samples another layout."""

SAMPLES_FILE = "samples.arrow"
SUMMARY_FILE = "summary.json"
INDEX_FILE = "index.npy"
DIGEST_BYTES = 8


@dataclass
class DataSummary:
    """What one file of conversations amounts to."""

    path: str
    """The JSONL file."""
    samples: int = 0
    """Conversations that are trained on."""
    dropped: int = 0
    """Conversations that are left out because they are longer than max_seq_len."""
    tokens: int = 0
    """Tokens of the samples."""
    longest: int = 0
    """Tokens of the longest conversation, whether it was dropped or not."""
    longest_sample: int = 0
    """Tokens of the longest one that is trained on."""
    highest_id: int = 0
    """Highest token id of the samples."""


class Prepared(NamedTuple):
    """What has become of one file of conversations."""

    folder: Path | None
    """Where the samples are; None when nothing was written."""
    summary: DataSummary
    lengths: np.ndarray
    """Tokens of each sample, (samples,) uint64."""
    digests: np.ndarray
    """A hash of each sample's tokens, (samples,) uint64: equal samples can be found without reading them again."""


def summarize(path: str | Path, tokenizer: ChatTokenizer, max_seq_len: int) -> Prepared:
    """Read, check and tokenise the whole file without writing anything.

    Raises:
        ConfigurationError: see `prepare`.
    """
    summary, index = DataSummary(str(path)), _Index()
    for _ in _samples(path, tokenizer, max_seq_len, summary, index):
        pass
    return Prepared(None, summary, *index.arrays())


def prepare(path: str | Path, tokenizer: ChatTokenizer, max_seq_len: int, folder: str | Path) -> Prepared:
    """Write the tokenised samples to a folder inside `folder`, or find them there.

    The name of the inner folder is a fingerprint of the content of the file, the tokenizer, max_seq_len and
    the format; it appears only when it is complete. `load_samples` reads it. If the chat template writes the
    date, the samples keep the date on which they were made.

    Args:
        path: the JSONL file of conversations.
        tokenizer: the tokenizer and chat template of the model.
        max_seq_len: the most tokens in one sample; longer conversations are dropped and counted.
        folder: where prepared files are kept; made if it does not exist.

    Raises:
        ConfigurationError: the file cannot be read or has no conversation, with the problems of up to
            MAX_PROBLEMS_SHOWN lines; or all conversations are longer than max_seq_len.
    """
    target = Path(folder) / _fingerprint(path, tokenizer, max_seq_len)
    if not target.exists():
        with unfinished(target) as place:
            summary, index = DataSummary(str(path)), _Index()
            samples = _samples(path, tokenizer, max_seq_len, summary, index)
            write_samples(({"input_ids": s.input_ids, "counted": s.counted} for s in samples), place)
            write_index(place, summary, *index.arrays())
    summary, lengths, digests = read_index(target)
    return Prepared(target, replace(summary, path=str(path)), lengths, digests)


def load_samples(folder: str | Path) -> "Dataset":
    """The prepared samples, memory-mapped: columns `input_ids` (list of int32) and `counted` (list of bool).

    Args:
        folder: what `prepare` returned.
    """
    from datasets import Dataset  # more than half a second

    return Dataset.from_file(str(Path(folder) / SAMPLES_FILE))


def sample_lengths(samples: "Dataset") -> np.ndarray:
    """Tokens of each sample, (samples,) int64, without reading the tokens themselves."""
    from pyarrow import compute

    return compute.list_value_length(samples.data.column("input_ids")).to_numpy().astype(np.int64)


def counted_tokens(samples: "Dataset") -> np.ndarray:
    """Tokens of each sample on which loss is counted, (samples,) int64.

    The first token never is: nothing before it could predict it. One written batch after the other, so that memory
    stays bounded.
    """
    return np.concatenate([_marked_after_first(chunk) for chunk in samples.data.column("counted").chunks])


def _marked_after_first(lists: "ListArray") -> np.ndarray:
    """How many marks of each list are true, from the second one on."""
    marked_before = np.concatenate([[0], np.cumsum(lists.values.to_numpy(zero_copy_only=False))])
    bounds = lists.offsets.to_numpy()
    starts, ends = bounds[:-1], bounds[1:]
    return marked_before[ends] - marked_before[np.minimum(starts + 1, ends)]


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A folder to write to, which gets the name `target` when it is complete, or goes."""
    place = target.with_name(f"{target.name}.unfinished-{uuid4().hex[:8]}")
    place.mkdir(parents=True)
    try:
        yield place
        _publish(place, target)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def write_samples(rows: Iterable[Mapping[str, object]], folder: Path) -> None:
    """Rows with `input_ids` and `counted`, for `load_samples`."""
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    features = Features({"input_ids": List(Value("int32")), "counted": List(Value("bool"))})
    with ArrowWriter(path=str(folder / SAMPLES_FILE), features=features) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()


def write_index(folder: Path, summary: DataSummary, lengths: np.ndarray, digests: np.ndarray) -> None:
    """What is known of the samples in `folder`, for `read_index`."""
    (folder / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=2) + "\n")
    np.save(folder / INDEX_FILE, np.stack([lengths, digests]))


def read_index(folder: Path) -> tuple[DataSummary, np.ndarray, np.ndarray]:
    """Summary, lengths and digests: see `Prepared`."""
    summary = DataSummary(**json.loads((folder / SUMMARY_FILE).read_text()))
    lengths, digests = np.load(folder / INDEX_FILE)
    return summary, lengths, digests


class _Index:
    """Gathers length and digest of each sample."""

    def __init__(self) -> None:
        self._lengths, self._digests = array("Q"), array("Q")

    def add(self, input_ids: list[int]) -> None:
        self._lengths.append(len(input_ids))
        digest = hashlib.blake2b(array("i", input_ids).tobytes(), digest_size=DIGEST_BYTES).digest()
        self._digests.append(int.from_bytes(digest, "little"))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self._lengths, dtype=np.uint64), np.array(self._digests, dtype=np.uint64)


def _samples(
    path: str | Path, tokenizer: ChatTokenizer, max_seq_len: int, summary: DataSummary, index: _Index
) -> Iterator[EncodedConversation]:
    """Yield the samples that are not too long; all are counted in `summary`, those yielded are in `index`."""
    with _progress(path) as advance:
        for sample in _encoded(path, tokenizer, advance):
            length = len(sample.input_ids)
            summary.longest = max(summary.longest, length)
            if length > max_seq_len:
                summary.dropped += 1
                continue
            summary.samples += 1
            summary.tokens += length
            summary.longest_sample = max(summary.longest_sample, length)
            summary.highest_id = max(summary.highest_id, *sample.input_ids)
            index.add(sample.input_ids)
            yield sample
    if not summary.samples:
        raise ConfigurationError(
            [
                f"{path}: all {summary.dropped} conversations are longer than max_seq_len = {max_seq_len} "
                f"tokens, the longest has {summary.longest}; raise max_seq_len (up to what the model allows) "
                "or shorten them"
            ]
        )


def _encoded(
    path: str | Path, tokenizer: ChatTokenizer, advance: Callable[[int], object]
) -> Iterator[EncodedConversation]:
    """Tokenise every conversation; problems of the file and of the chat template are reported together."""
    refused: list[str] = []
    try:
        for line, messages in read_conversations(path, advance):
            try:
                samples = encode_conversation(tokenizer, Conversation(messages))
            except ConversationError as error:
                refused.append(f"{path}:{line}: {error}")
                if len(refused) == MAX_PROBLEMS_SHOWN:
                    break
            else:
                yield from samples
    except ConfigurationError as error:
        raise ConfigurationError(error.problems + refused) from error
    if refused:
        raise ConfigurationError(refused)


@contextmanager
def _progress(path: str | Path) -> Iterator[Callable[[int], object]]:
    """A bar with the remaining time, in a terminal only; yields the function to call with bytes read."""
    console = Console(stderr=True)
    total = Path(path).stat().st_size if Path(path).is_file() else None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Tokenising {Path(path).name}", total=total)
        yield lambda count: progress.advance(task, count)


def _publish(unfinished: Path, target: Path) -> None:
    """Give the finished folder its name, unless another process has just written the same samples."""
    try:
        unfinished.rename(target)
    except OSError:
        if not target.exists():
            raise


def _fingerprint(path: str | Path, tokenizer: ChatTokenizer, max_seq_len: int) -> str:
    digest = hashlib.sha256(f"{FORMAT_VERSION} {tokenizer.fingerprint} {max_seq_len} ".encode())
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read ({error.strerror}); give a JSONL file"]) from error
    return digest.hexdigest()[:32]
