"""The memory of a rank in one phase, and how much each setting would save."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from osftx.methods.sizes import Held, Workload
from osftx.planning.estimate.state import between_steps
from osftx.planning.estimate.step import Step, of_step


@dataclass
class Memory:
    """Estimated memory in bytes of the rank that holds most."""

    between_steps: int
    """Bytes on the device between two steps."""
    peak: int
    """Bytes on the device at the peak of a step."""
    on_host: int
    """Bytes in host memory, such as what is offloaded and the Cholesky factors of the input covariance."""
    device: Held
    """Bytes of `between_steps` by purpose."""
    host: Held
    """Bytes of `on_host` by purpose."""
    step: Step
    """Bytes on the device that a step adds."""


def of_phase(work: Workload) -> Memory:
    """Returns the estimated memory of a phase."""
    device, host = between_steps(work)
    step = of_step(work)
    return Memory(device.total, device.total + step.rise, host.total, device, host, step)


def savings(name: str, work: Workload) -> Iterator[tuple[str, int]]:
    """Yields (setting, bytes that it alone would save at the peak) for phase `name`.

    Settings that cost the least time come first. Settings that save nothing are left out.
    """
    peak = of_phase(work).peak
    for setting, changed in _changes(name, work):
        saved = peak - of_phase(changed).peak
        if saved > 0:
            yield setting, saved


def _changes(name: str, work: Workload) -> Iterator[tuple[str, Workload]]:
    training, offload, key = work.training, work.offload, f"phases.{name}"
    tokens = training.max_tokens_per_gpu // 2
    shorter = f" (with max_seq_len={tokens} or less)" if training.max_seq_len > tokens else ""
    fewer = replace(training, max_tokens_per_gpu=tokens)
    yield f"{key}.max_tokens_per_gpu={tokens}{shorter}", replace(work, training=fewer)
    if not training.use_liger:
        yield f"{key}.use_liger=true", replace(work, training=replace(training, use_liger=True))
    if not training.activation_checkpointing:
        again = replace(training, activation_checkpointing=True)
        yield f"{key}.activation_checkpointing=true", replace(work, training=again)
    if not offload.bases:
        yield "distributed.offload.bases=true", replace(work, offload=replace(offload, bases=True))
    if not offload.optimizer:
        yield "distributed.offload.optimizer=true", replace(work, offload=replace(offload, optimizer=True))
    more = f"{2 * work.ranks} ranks instead of {work.ranks} (distributed.nproc_per_node, nnodes)"
    yield more, replace(work, ranks=2 * work.ranks)
    if work.ratio is not None:
        lower = round(work.ratio / 2, 6)
        yield f"{key}.unfreeze_rank_ratio={lower:g}", replace(work, ratio=lower)
