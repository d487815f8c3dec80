"""The nodes of a run: the first one leads, the others follow it over one connection each.

    follower  hello      who it is, and its settings, which must be the first node's
    first     welcome    or refused, with the reason
    first     phase      a phase.yaml in the folder that all share, with its digest
    follower  ready      it sees all files, and holds its GPUs
    first     go         the port at which the ranks meet; or off, when some node is not ready or has failed
    follower  outcome    of its ranks; one for each phase
    first     end        with the exit code and, if that is not 0, why

So the first node alone reads data, plans, reuses and writes. A process that ends without a word closes its connection,
which the other side notices at once.
"""

import errno
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock, Thread
from typing import ClassVar

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch.connection import EndedError, Line, Message

HELLO_S = 10.0
"""Seconds that whoever connects has to say who it is."""
OUTCOME_S = 60.0
"""Seconds that the other nodes' ranks have to end after those of the first one; more where they save."""
POLL_S = 0.1
JOIN_POLL_S = 0.5
DIFFERENCES_SHOWN = 3
SETTINGS_OF_A_NODE = ("distributed.node_rank",)
"""What may differ between the commands of the nodes."""

Settings = Mapping[str, str]
"""Values as text, by path."""


@dataclass
class Node:
    """Another node, as the first one knows it."""

    rank: int
    host: str
    line: Line
    ready: bool = False
    outcome: Message | None = None
    """Of its ranks in the present phase."""

    @property
    def name(self) -> str:
        return f"node {self.rank} ({self.host})"

    def listen(self) -> None:
        """Take what it has said."""
        with suppress(EndedError):
            while self.line.waiting:
                message = self.line.receive()
                if message["kind"] == "ready":
                    self.ready = True
                elif message["kind"] == "outcome":
                    self.outcome = message

    @property
    def trouble(self) -> str | None:
        """Why the phase cannot be done with it."""
        self.listen()
        if self.outcome is not None:
            return None if self.outcome["error"] is None else f"{self.name}: {self.outcome['error']}"
        return f"{self.name} has ended, or cannot be reached any more; see its output" if self.line.ended else None


class Nodes:
    """All nodes but the first, on the first one. Raises ConfigurationError where its port cannot be opened."""

    current: ClassVar["Nodes | None"] = None
    """Of this process, which leads one group of nodes as long as it lives."""

    def __init__(self, distributed: DistributedConfig, settings: Settings):
        self._distributed, self._settings = distributed, settings
        self._nodes: dict[int, Node] = {}
        self._refused: str | None = None
        self._begun = False
        self._lock = Lock()
        self._listener = _listen(distributed)
        Thread(target=self._accept, daemon=True).start()

    @classmethod
    def gather(cls, distributed: DistributedConfig, settings: Settings) -> None:
        """Wait for the others. Raises ConfigurationError for a node that must not take part, TrainingError for one
        that does not come within `join_timeout_s`."""
        cls.current = nodes = cls(distributed, settings)
        deadline = time.monotonic() + distributed.join_timeout_s
        while missing := [rank for rank in range(1, distributed.nnodes) if rank not in nodes._nodes]:
            if nodes._refused is not None:
                raise ConfigurationError([nodes._refused])
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"of {distributed.nnodes} nodes these did not come to {distributed.rdzv_endpoint} within "
                    f"distributed.join_timeout_s={distributed.join_timeout_s}: {', '.join(map(str, missing))}. Were "
                    "they started, each with its distributed.node_rank? Do they reach this host and port? See their "
                    "output"
                )
            time.sleep(POLL_S)
        nodes._begun = True

    @property
    def count(self) -> int:
        return self._distributed.nnodes

    def together(
        self, phase: Path, run: Callable[[str, Callable[[], bool]], None], within_s: float = OUTCOME_S
    ) -> None:
        """Have all nodes run the ranks of a `phase.yaml`, on this one by `run`. Those of the others have `within_s`
        seconds more to end.

        It is given where the ranks meet, and a question: whether the phase has failed elsewhere, so that it should be
        ended here, too. Raises TrainingError with what every node says; StoppedError when a signal ended the phase on
        any of them, or when a node is gone, without which no other phase can run either.
        """
        nodes = list(self._nodes.values())
        for node in nodes:
            node.ready, node.outcome = False, None
        self._tell("phase", file=str(phase), digest=digest(phase))
        own: TrainingError | None = None
        while not all(node.ready for node in nodes) and not self._troubles():
            time.sleep(POLL_S)
        if not self._troubles():
            port = _free_port()
            self._tell("go", port=port)
            try:
                run(beside(self._distributed.rdzv_endpoint, port), lambda: bool(self._troubles()))
            except TrainingError as error:
                own = error
        if own is not None or self._troubles():
            self._tell("off")
        deadline = time.monotonic() + within_s
        while any(node.outcome is None and not node.line.ended for node in nodes) and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self._troubles()
        for node in nodes:
            if node.outcome is None:  # what it may still say would be taken for an answer to the next phase
                node.line.close()
        self._judge(own, self._troubles())

    def end(self, code: int, message: str = "") -> None:
        """Let the others go: they leave with the same exit code, and say why if it is not 0."""
        self._tell("end", code=code, message=message)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits there
        self._listener.close()
        for node in self._nodes.values():
            node.line.close()
        Nodes.current = None

    def _troubles(self) -> list[str]:
        return [trouble for node in self._nodes.values() if (trouble := node.trouble) is not None]

    def _judge(self, own: TrainingError | None, troubles: list[str]) -> None:
        outcomes = [node.outcome for node in self._nodes.values()]
        stopped = isinstance(own, StoppedError)
        if own is not None and stopped and all(outcome and outcome["stopped"] for outcome in outcomes):
            raise own
        if troubles:
            also = [] if own is None else [f"node 0: {own}"]
            over = stopped or any(outcome is None or outcome["stopped"] for outcome in outcomes)
            raise (StoppedError if over else TrainingError)("\n  ".join([*troubles, *also]))
        if own is not None:
            raise own

    def _tell(self, kind: str, **content: object) -> None:
        for node in self._nodes.values():
            node.line.send(kind, **content)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            Thread(target=self._welcome, args=(Line(connection),), daemon=True).start()

    def _welcome(self, line: Line) -> None:
        try:
            hello = line.receive(HELLO_S)
            rank, host = int(hello["node"]), str(hello["host"])
            reason = self._why_not(hello)
            if self._begun:
                reason = f"distributed.node_rank={rank}: the run has begun, with all of its {self.count} nodes"
        except (EndedError, TimeoutError, KeyError, ValueError, TypeError, AttributeError):  # no osftx
            line.close()
            return
        with self._lock:
            before = self._nodes.get(rank)
            if reason is None and before is not None and not before.line.ended:
                reason = (
                    f"distributed.node_rank={rank}: given to two nodes, {before.host} and {host}; give each its own"
                )
            if reason is None:
                line.send("welcome")
                self._nodes[rank] = Node(rank, host, line)
                return
            self._refused = reason
        line.send("refused", reason=reason)
        line.close()

    def _why_not(self, hello: Message) -> str | None:
        """Why a node must not take part: it was started with another command."""
        rank, others = int(hello["node"]), dict(hello["settings"])
        if not 0 < rank < self.count:
            return (
                f"distributed.node_rank={rank}: with distributed.nnodes={self.count} it must be 1 to {self.count - 1}"
            )
        keys = sorted((self._settings.keys() | others.keys()) - set(SETTINGS_OF_A_NODE))
        if differing := [key for key in keys if self._settings.get(key) != others.get(key)]:
            shown = [f"{key}={others.get(key)} instead of {self._settings.get(key)}" for key in differing]
            more = ", ..." if len(shown) > DIFFERENCES_SHOWN else ""
            return (
                f"distributed.node_rank={rank}: its command differs from the first node's: "
                f"{', '.join(shown[:DIFFERENCES_SHOWN])}{more}; give the same command on all nodes, but for "
                "distributed.node_rank"
            )
        return None


def join(distributed: DistributedConfig, settings: Settings) -> Line:
    """Come to the first node, which may start later; returns the connection that it has welcomed.

    Raises ConfigurationError when it refuses this node, TrainingError when it does not answer in `join_timeout_s`.
    """
    host, _, port = distributed.rdzv_endpoint.rpartition(":")
    deadline = time.monotonic() + distributed.join_timeout_s
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = Line(socket.create_connection((host.strip("[]"), int(port)), timeout=max(1.0, left)))
            line.send("hello", node=distributed.node_rank, host=socket.gethostname(), settings=dict(settings))
            answer = line.receive(max(1.0, left))
            if answer["kind"] == "refused":
                raise ConfigurationError([str(answer["reason"])])
            if answer["kind"] == "welcome":
                return line
            line.close()
            reason = "something else answers there"
        except OSError as error:  # a name that is not known yet is one, too
            reason = error.strerror or str(error)
        except EndedError:
            reason = "whatever answers there hangs up"
        time.sleep(JOIN_POLL_S)
    raise TrainingError(
        f"node {distributed.node_rank}: the first node was not found at distributed.rdzv_endpoint="
        f"{distributed.rdzv_endpoint} within distributed.join_timeout_s={distributed.join_timeout_s} ({reason}). Was "
        "it started? Does this node reach it there? See its output"
    )


def beside(endpoint: str, port: int) -> str:
    """Another port of the first node's, under the name by which this node knows it: that need not be the others'."""
    return f"{endpoint.rpartition(':')[0]}:{port}"


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _listen(distributed: DistributedConfig) -> socket.socket:
    endpoint = distributed.rdzv_endpoint
    host, _, port = endpoint.rpartition(":")
    path = f"distributed.rdzv_endpoint={endpoint}"
    try:
        family, address = _resolved(host.strip("[]"), int(port), distributed.join_timeout_s)
        with socket.socket(family, socket.SOCK_STREAM) as here:
            here.bind((address, 0))
        # On all interfaces: a host's own name often is a loopback address to itself. By IPv4 as well: others may know
        # its name in that way alone.
        both = family is socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(("", int(port)), family=family, backlog=distributed.nnodes, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise ConfigurationError([f"{path}: {host} is no known host ({error.strerror}); correct it"]) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = "the port is in use on this node, perhaps by another run; choose another one, on all nodes"
        elif error.errno == errno.EADDRNOTAVAIL:
            problem = (
                f"{host} is not this machine, but its distributed.node_rank is 0; name the first node there, and give "
                "each node its own node_rank"
            )
        else:
            problem = f"cannot be opened ({error.strerror}); choose another one, on all nodes"
        raise ConfigurationError([f"{path}: {problem}"]) from error


def _resolved(host: str, port: int, within_s: float) -> tuple[socket.AddressFamily, str]:
    """Kubernetes knows the name of a Pod some time after it has started. Raises socket.gaierror."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except socket.gaierror:
            if time.monotonic() > deadline:
                raise
            time.sleep(JOIN_POLL_S)
        else:
            return family, str(address[0])


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])
