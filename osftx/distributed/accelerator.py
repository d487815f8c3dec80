"""The device that this rank computes on, as known to DeepSpeed: a GPU or the CPU."""

import torch
from deepspeed.accelerator import get_accelerator
from torch import Tensor


def current_device() -> torch.device:
    """Returns this rank's device, such as `cuda:3` or `cpu`."""
    return torch.device(get_accelerator().current_device_name())


def device_kind() -> str:
    """Returns the kind of this rank's device, such as `cuda` or `cpu`."""
    return str(get_accelerator().device_name())


def peak_memory_bytes() -> int:
    """Returns the peak memory in bytes that this rank has held on its device so far; on a CPU, that of the process."""
    return int(get_accelerator().max_memory_allocated())


def device_random_state() -> Tensor:
    """Returns the state of the device's random number generator, for `set_device_random_state`."""
    state: Tensor = get_accelerator().get_rng_state()
    return state


def set_device_random_state(state: Tensor) -> None:
    """Sets the device's random number generator to a state that `device_random_state` has returned."""
    get_accelerator().set_rng_state(state)
