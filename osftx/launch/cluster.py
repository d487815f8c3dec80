"""The machines on which ranks run, as one object that is passed to whatever launches ranks."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import PHASE
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError
from osftx.launch.follower import Ended, follow
from osftx.launch.gpus import exclusive_devices
from osftx.launch.launcher import run_ranks
from osftx.launch.leader import OUTCOME_S, Nodes, join
from osftx.launch.secret import shared_secret


class Cluster:
    """This machine alone or, after they have met, all nodes of a run or of a sweep.

    The program has one cluster. The nodes of a sweep meet once and serve all its jobs.
    """

    def __init__(self) -> None:
        self._nodes: Nodes | None = None

    def __reduce__(self) -> tuple[type["Cluster"], tuple[()]]:
        """Makes a copy in another process, such as a launcher makes for a job, consist of that machine alone."""
        return Cluster, ()

    def meet(self, distributed: DistributedConfig, settings: Any, trusts_code: bool = False) -> Ended | None:
        """Brings the nodes together, if there are several and they have not met yet.

        Returns None on the first node, which goes on. On another node it runs the ranks that the first node asks for
        until that node has ended, and returns how it ended.

        `settings` is the composed configuration, which must be the same on all nodes except for
        `distributed.node_rank`. `trusts_code` is this node's `model.trust_remote_code`. Raises ConfigurationError if
        the settings differ, the endpoint is wrong or there is no shared secret, TrainingError if a node does not come
        in time.
        """
        if self._nodes is not None:
            if distributed.nnodes != self._nodes.count:
                raise ConfigurationError(
                    [f"distributed.nnodes={distributed.nnodes}: the sweep began with {self._nodes.count}; leave it"]
                )
            return None
        if distributed.nnodes == 1:
            return None
        compared = dict(_flat(settings))
        secret = shared_secret(distributed, os.environ)
        if distributed.node_rank > 0:
            return follow(distributed, join(distributed, compared, secret), trusts_code)
        self._nodes = Nodes(distributed, compared, secret)
        self._nodes.gather()
        return None

    def launch(self, spec: PhaseSpec) -> None:
        """Runs the ranks of a phase on all nodes, on GPUs that no other run holds, and waits for them.

        `phase.yaml` must have been written before. Raises the errors of `run_ranks`, with the failures of all nodes.
        """
        with exclusive_devices(spec.distributed, f"phase {spec.name!r}") as devices:
            if self._nodes is None:
                run_ranks(spec, devices)
                return

            def run(endpoint: str, failed_elsewhere: Callable[[], bool]) -> None:
                run_ranks(spec, devices, endpoint, failed_elsewhere)

            grace_s = spec.resume.checkpointing.grace_s if spec.resume is not None else 0
            self._nodes.together(Path(spec.folder) / PHASE, run, OUTCOME_S + grace_s)

    def end(self, code: int, message: str = "") -> None:
        """Ends the other nodes: they leave with the same exit code, and print `message` if the code is not 0.

        It must be the last action of the first node: an outer launcher may end all nodes together with the first one.
        """
        if self._nodes is not None:
            self._nodes.end(code, message)
            self._nodes = None


def _flat(settings: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the path and the text of every value."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(settings)
