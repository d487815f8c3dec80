"""How the agents that start a phase's ranks meet, on one machine without any port beyond loopback. Imports torch.

torch's own meetings listen on all interfaces whatever address they are given, and `c10d` unpickles what it receives.
"""

import socket
from tempfile import TemporaryDirectory

from torch.distributed import HashStore, PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

ALONE = "osftx_alone"
"""Name of the meeting of one agent. Its ranks meet through a file."""
ON_LOOPBACK = "osftx_on_loopback"
"""Name of the meeting of several agents on one machine."""


class Alone(RendezvousHandler):
    """The meeting of one agent with itself, in its own memory."""

    def __init__(self, run_id: str):
        self._run_id = run_id

    def get_backend(self) -> str:
        return ALONE

    def next_rendezvous(self) -> RendezvousInfo:
        # Nobody listens there: DeepSpeed looks for an MPI if the ranks have no address at all.
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        """Does nothing: nobody else could come."""

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self._run_id

    def shutdown(self) -> bool:
        return True


class OnLoopback(StaticTCPRendezvous):
    """The meeting of several agents on one machine, whose store listens on the loopback interface alone."""

    def get_backend(self) -> str:
        return ON_LOOPBACK

    def next_rendezvous(self) -> RendezvousInfo:
        leads = self.rank == 0
        if not self._store:
            # The store takes the listening socket over; one that it opened itself would be on all interfaces.
            listener = _loopback_listener(self.master_addr, self.master_port).detach() if leads else None
            self._store = TCPStore(
                self.master_addr,
                self.master_port,
                self.world_size,
                leads,
                self.timeout,
                multi_tenant=True,
                master_listen_fd=listener,
            )
        place = RendezvousStoreInfo(self.master_addr, self.master_port)
        return RendezvousInfo(PrefixStore(self.run_id, self._store), self.rank, self.world_size, place)


def register() -> None:
    """Makes both meetings known to torch's agent, under their names."""
    rendezvous_handler_registry.register(ALONE, _alone)
    rendezvous_handler_registry.register(ON_LOOPBACK, _on_loopback)


def private_folder() -> "TemporaryDirectory[str]":
    """Returns a new folder that no other user can read or write, which is removed when it is left.

    Raises OSError if it cannot be made, or if its path cannot be part of the address that torch wants.
    """
    folder = TemporaryDirectory(prefix="osftx-ranks-")
    if set("?#") & set(folder.name):
        folder.cleanup()
        raise OSError(f"the path {folder.name} holds a ? or a #; set TMPDIR to a folder without them")
    return folder


def _alone(parameters: RendezvousParameters) -> RendezvousHandler:
    return Alone(parameters.run_id)


def _on_loopback(parameters: RendezvousParameters) -> RendezvousHandler:
    host, port = parse_rendezvous_endpoint(parameters.endpoint, -1)
    rank, timeout_s = int(parameters.config["rank"]), int(parameters.config["timeout"])
    return OnLoopback(host, port, rank, parameters.max_nodes, parameters.run_id, timeout_s)


def _loopback_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
