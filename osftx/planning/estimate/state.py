"""Counts the bytes that a rank holds between two steps: every tensor that lives as long as the phase trains.

ZeRO-3 divides a tensor of n numbers into shards of ceil(n / ranks). The count is exact and includes:

- in the precision of training, the weights and the parameters that the method adds; tensors of up to `KEPT_WHOLE`
  numbers are held whole beside their shard, unless there is only one rank;
- in fp32, for the trained tensors, the gradients, the master copy, AdamW's two moments, and the bucket that gathers
  gradients;
- what the method holds in addition (`MethodSizes.device`, `host`).

Scalars, buffers such as rotary frequencies and the communication library's own memory are left out.
"""

from collections.abc import Iterable
from dataclasses import fields

from osftx.config.schema import BestState
from osftx.distributed.gradient_bucket import gradient_bucket
from osftx.distributed.partition import shard_size
from osftx.methods.sizes import FP32, Held, Workload

KEPT_WHOLE = 100_000
"""Size in numbers up to which a tensor stays gathered: DeepSpeed's `param_persistence_threshold`."""


def between_steps(work: Workload) -> tuple[Held, Held]:
    """Returns the bytes (on the device, in host memory) of the rank that holds most."""
    size, trained, method = work.number_bytes, work.trained, work.sizes
    held = sum(shard_size(numbers, work.ranks) for numbers in trained)
    device, host = Held(), Held()
    device.parameters = size * _stored([*work.weights, *method.added], work.ranks)
    device.bucket = FP32 * gradient_bucket(trained)
    optimizer = host if work.offload.optimizer else device
    # With a CPU optimizer DeepSpeed accumulates gradients in one host buffer and hands them over in another.
    optimizer.gradients = FP32 * held * (2 if work.offload.optimizer else 1)
    optimizer.master, optimizer.moments = FP32 * held, 2 * FP32 * held
    device.bases = size * _stored(method.added_frozen, work.ranks)
    host.best_state = FP32 * held if work.best is not BestState.ignore else 0
    return _sum(device, method.device), _sum(host, method.host)


def _sum(one: Held, other: Held) -> Held:
    return Held(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(Held)})


def _stored(sizes: Iterable[int], ranks: int) -> int:
    """Returns how many numbers of the tensors of these `sizes` a rank holds."""
    return sum(shard_size(size, ranks) + (size if size <= KEPT_WHOLE and ranks > 1 else 0) for size in sizes)
