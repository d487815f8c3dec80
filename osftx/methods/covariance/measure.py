"""Measures the input covariance of the target layers on some data, with the model as it is.

A sum takes 8 n^2 bytes while it is accumulated, eight times the size of what is stored of it. The data is therefore
read in several passes, so that a rank holds at most `MOST_SUMMED` numbers at a time: passes are cheap compared with the
memory that an 8B model would need.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.methods.covariance.cholesky import CholeskyFactor
from osftx.methods.covariance.covariance import InputCovariance, owners
from osftx.methods.covariance.index import Record
from osftx.probes.forward_pass import read_samples
from osftx.training.batches import Samples

MOST_SUMMED = 500_000_000
"""Maximum count of fp64 numbers of second moments that a rank sums in one pass (4 GB); one input is always summed."""


def measure_inputs(
    forward: nn.Module,
    model: nn.Module,
    targets: Sequence[str],
    samples: Samples,
    source: str,
    *,
    max_tokens: int,
    max_tokens_per_gpu: int,
    device: torch.device,
) -> InputCovariance:
    """Returns E[x x^T] of the inputs of the modules `targets` over tokens of `samples`, uncentred, in fp64. Collective.

    `forward` runs the `model`: its engine, or the model itself inside `gathering`. At most `max_tokens` tokens are read
    (but always one sample), of samples drawn with a fixed seed; `max_tokens_per_gpu` is the size of a micro-batch.
    Raises ValueError for a target that does not read every token.
    """
    moments, factors = _Moments(), {}
    left = list(targets)
    while left:
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(partial(_before_reading, moments, name))
            for name in left
        ]
        tokens = read_samples(
            forward,
            model,
            samples,
            moments.count,
            title="reading inputs",
            max_tokens=max_tokens,
            max_tokens_per_gpu=max_tokens_per_gpu,
            device=device,
        )
        for hook in hooks:
            hook.remove()
        for place, total in moments.take().items():
            factors[place] = CholeskyFactor.of(total.div_(tokens))
        unseen = [name for name in left if name not in moments.place_of]
        left = unseen if len(unseen) < len(left) else []
    _check_seen(moments, targets)
    return InputCovariance(Record(moments.readers, moments.widths, [source]), factors)


class _Moments:
    """Sums x^T x of each distinct input on the rank that owns it; each pass sums some of the inputs."""

    def __init__(self) -> None:
        self.readers: list[list[str]] = []
        self.widths: list[int] = []
        self.owners: list[int] = []
        self.rows: list[int] = []
        """Number of tokens that each input had on this rank."""
        self.place_of: dict[str, int] = {}
        """Place of the input of each reader that was met so far."""
        self._first = 0
        """Place of the first input of this pass."""
        self._full = False
        self._sums: dict[int, Tensor] = {}
        self._counts = True
        self._last: Tensor | None = None

    def count(self, counts: bool) -> None:
        """Sets whether inputs count from now on: a dummy batch only keeps this rank in step with the others."""
        self._counts = counts

    def see(self, name: str, x: Tensor) -> None:
        """Adds the input `x` (..., n) that the module `name` is about to read. Collective."""
        if name not in self.place_of:
            self._enter(name, x)
        self._last = x  # kept until the next call, so that no other tensor takes its place in memory
        place = self.place_of.get(name)
        if place is None or self.readers[place][0] != name:
            return  # a later pass, or the input's first reader, counts it
        rows = x.reshape(-1, x.shape[-1]).double()
        gram = rows.T @ rows if self._counts else rows.new_zeros(rows.shape[1], rows.shape[1])
        if self._counts:
            self.rows[place] += len(rows)
        dist.reduce(gram, self.owners[place])
        if self.owners[place] == dist.get_rank():
            if place in self._sums:
                self._sums[place] += gram
            else:
                self._sums[place] = gram

    def take(self) -> dict[int, Tensor]:
        """Returns the sums of the finished pass that this rank owns, (n, n) fp64 by place, and begins the next pass."""
        sums, self._sums = self._sums, {}
        self._first, self._full, self._last = len(self.readers), False, None
        return sums

    def _enter(self, name: str, x: Tensor) -> None:
        """Registers a reader that is met for the first time, unless the pass is full.

        It shares the input of the module before it if that has read the same tensor.
        """
        last = self._last
        if last is None or last.data_ptr() != x.data_ptr() or last.shape != x.shape:
            self._full = self._full or self._would_fill(x.shape[-1])
            if not self._full:
                self.readers.append([])
                self.widths.append(x.shape[-1])
                self.owners = owners(self.widths, dist.get_world_size())
                self.rows.append(0)
        if not self._full:
            self.readers[-1].append(name)
            self.place_of[name] = len(self.readers) - 1

    def _would_fill(self, width: int) -> bool:
        """Returns whether one more input would exceed the limit of the rank that would own it."""
        widths = [*self.widths, width]
        of_pass = list(zip(widths, owners(widths, dist.get_world_size()), strict=True))[self._first :]
        owner = of_pass[-1][1]
        own = [one * one for one, rank in of_pass if rank == owner]
        return len(own) > 1 and sum(own) > MOST_SUMMED


def _before_reading(moments: _Moments, name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    moments.see(name, inputs[0])


def _check_seen(moments: "_Moments", targets: Sequence[str]) -> None:
    """Raises ValueError for targets that did not read every token: their moments would be incomplete."""
    seen = {name: moments.rows[place] for place, readers in enumerate(moments.readers) for name in readers}
    all_tokens = max(seen.values(), default=0)
    if partly := [name for name in targets if seen.get(name, 0) < all_tokens]:
        raise ValueError(
            f"{len(partly)} targets, such as {partly[0]}, do not read every token, so their inputs cannot tell "
            "what to keep; narrow osft.target_patterns, or use osft.subspace=weights"
        )
