"""Measure what the target layers read: one pass over some data, with the model as it is."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.osft.kept_inputs import KeptInputs, owners
from osftx.osft.record import Record
from osftx.training.batches import Samples
from osftx.training.reading import read_samples


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
) -> KeptInputs:
    """E[x x^T] of the inputs of the modules `targets` over the tokens of `samples`, uncentred, fp64 sums. Collective.

    `forward` runs the `model`: its engine, or the model itself inside `gathering`. At most `max_tokens` tokens are read
    (but one sample always), of samples drawn with a fixed seed; `max_tokens_per_gpu` is the size of a micro-batch.
    Raises ValueError for a target that does not read every token.
    """
    moments = _Moments()
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(partial(_before_reading, moments, name)) for name in targets
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
    _check_seen(moments, targets)
    record = Record(moments.readers, moments.widths, [source])
    return KeptInputs(record, {place: (total / tokens).cpu() for place, total in moments.sums.items()})


class _Moments:
    """Adds up x^T x of each distinct input, on the rank that owns it."""

    def __init__(self) -> None:
        self.readers: list[list[str]] = []
        self.widths: list[int] = []
        self.owners: list[int] = []
        self.rows: list[int] = []
        """Tokens that each input had on this rank."""
        self.sums: dict[int, Tensor] = {}
        self._counts = True
        self._place_of: dict[str, int] = {}
        self._last: Tensor | None = None

    def count(self, counts: bool) -> None:
        """Whether what is seen from now on counts: a dummy batch only keeps this rank in step with the others."""
        self._counts = counts

    def see(self, name: str, x: Tensor) -> None:
        """`x` (..., n) is what the module `name` is about to read. Collective."""
        if name not in self._place_of:
            self._enter(name, x)
        self._last = x  # held until the next call: no other tensor can take its place in memory
        place = self._place_of[name]
        if self.readers[place][0] != name:
            return  # its first reader has counted it
        rows = x.reshape(-1, x.shape[-1]).double()
        gram = rows.T @ rows if self._counts else rows.new_zeros(rows.shape[1], rows.shape[1])
        if self._counts:
            self.rows[place] += len(rows)
        dist.reduce(gram, self.owners[place])
        if self.owners[place] == dist.get_rank():
            self.sums[place] = self.sums[place] + gram if place in self.sums else gram

    def _enter(self, name: str, x: Tensor) -> None:
        """Find out, in the first pass, whether the module before has read the same tensor."""
        last = self._last
        if last is None or last.data_ptr() != x.data_ptr() or last.shape != x.shape:
            self.readers.append([])
            self.widths.append(x.shape[-1])
            self.owners = owners(self.widths, dist.get_world_size())
            self.rows.append(0)
        self.readers[-1].append(name)
        self._place_of[name] = len(self.readers) - 1


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
