"""Measure what the target layers read on some data, with the model as it is.

A sum takes 8 n^2 bytes while it is gathered, eight times what is kept of it, so the data is read as often as it takes
to have only `MOST_SUMMED` on a rank at a time: passes are cheap beside the memory that an 8B model would need.
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
"""fp64 numbers of second moments that a rank sums in one pass (4 GB), but one input always."""


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
    """E[x x^T] of the inputs of the modules `targets` over the tokens of `samples`, uncentred, fp64 sums. Collective.

    `forward` runs the `model`: its engine, or the model itself inside `gathering`. At most `max_tokens` tokens are read
    (but one sample always), of samples drawn with a fixed seed; `max_tokens_per_gpu` is the size of a micro-batch.
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
    """Adds up x^T x of each distinct input, on the rank that owns it: in each pass of some of them."""

    def __init__(self) -> None:
        self.readers: list[list[str]] = []
        self.widths: list[int] = []
        self.owners: list[int] = []
        self.rows: list[int] = []
        """Tokens that each input had on this rank."""
        self.place_of: dict[str, int] = {}
        """Of each reader that was met, its input's."""
        self._first = 0
        """Place of the first input of this pass."""
        self._full = False
        self._sums: dict[int, Tensor] = {}
        self._counts = True
        self._last: Tensor | None = None

    def count(self, counts: bool) -> None:
        """Whether what is seen from now on counts: a dummy batch only keeps this rank in step with the others."""
        self._counts = counts

    def see(self, name: str, x: Tensor) -> None:
        """`x` (..., n) is what the module `name` is about to read. Collective."""
        if name not in self.place_of:
            self._enter(name, x)
        self._last = x  # held until the next call: no other tensor can take its place in memory
        place = self.place_of.get(name)
        if place is None or self.readers[place][0] != name:
            return  # a later pass, or its first reader, counts it
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
        """The sums of a pass that is over, (n, n) fp64 by place, those of this rank; the next one may begin."""
        sums, self._sums = self._sums, {}
        self._first, self._full, self._last = len(self.readers), False, None
        return sums

    def _enter(self, name: str, x: Tensor) -> None:
        """Find out, in the first pass, whether the module before has read the same tensor."""
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
        """Whether one more input would be too much for the rank that would own it."""
        widths = [*self.widths, width]
        of_pass = list(zip(widths, owners(widths, dist.get_world_size()), strict=True))[self._first :]
        owner = of_pass[-1][1]
        own = [one * one for one, rank in of_pass if rank == owner]
        return len(own) > 1 and sum(own) > MOST_SUMMED


def _before_reading(moments: _Moments, name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    moments.see(name, inputs[0])


def _check_seen(moments: "_Moments", targets: Sequence[str]) -> None:
    """Raise ValueError for targets that did not read every token: their moments would say too little."""
    seen = {name: moments.rows[place] for place, readers in enumerate(moments.readers) for name in readers}
    all_tokens = max(seen.values(), default=0)
    if partly := [name for name in targets if seen.get(name, 0) < all_tokens]:
        raise ValueError(
            f"{len(partly)} targets, such as {partly[0]}, do not read every token, so their inputs cannot tell "
            "what to keep; narrow osft.target_patterns, or use osft.subspace=weights"
        )
