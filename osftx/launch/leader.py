"""The first node of a run, which leads the other nodes, its followers, over one TCP connection each.

    follower  hello      its rank and host, and its settings, which must equal the first node's
    first     welcome    or refused, with the reason
    first     phase      the path of a phase.yaml in a folder that all nodes share, and its digest
    follower  ready      it sees all files and holds its GPUs
    first     go         the port at which the ranks meet; or off, if some node is not ready or has failed
    follower  outcome    how its ranks ended; one for each phase
    first     end        the exit code and, if that is not 0, the reason

Thus only the first node reads data, plans, reuses and writes. The connection of a process that is killed is closed, and
the other side notices this at once.
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

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch.connection import EndedError, Line, Message

HELLO_S = 10.0
"""Seconds within which a new connection must send its hello."""
OUTCOME_S = 60.0
"""Seconds that the followers' ranks have to end after those of the first node, without time for a save."""
POLL_S = 0.1
JOIN_POLL_S = 0.5
DIFFERENCES_SHOWN = 3
SETTINGS_OF_A_NODE = ("distributed.node_rank",)
"""Settings that may differ between the nodes."""

Settings = Mapping[str, str]
"""Values of the settings as text, by path."""


@dataclass
class Node:
    """A follower, as the first node knows it."""

    rank: int
    host: str
    line: Line
    ready: bool = False
    outcome: Message | None = None
    """How the node's ranks ended in the current phase; None while they run."""

    @property
    def name(self) -> str:
        return f"node {self.rank} ({self.host})"

    def listen(self) -> None:
        """Processes the messages that have arrived."""
        with suppress(EndedError):
            while self.line.waiting:
                message = self.line.receive()
                if message["kind"] == "ready":
                    self.ready = True
                elif message["kind"] == "outcome":
                    self.outcome = message

    @property
    def trouble(self) -> str | None:
        """Reason why the current phase cannot be completed with this node; None if nothing is wrong."""
        self.listen()
        if self.outcome is not None:
            return None if self.outcome["error"] is None else f"{self.name}: {self.outcome['error']}"
        return f"{self.name} has ended, or cannot be reached any more; see its output" if self.line.ended else None


class Nodes:
    """The followers, on the first node. Opens the port to which they connect.

    Raises ConfigurationError if the port cannot be opened.
    """

    def __init__(self, distributed: DistributedConfig, settings: Settings):
        self._distributed, self._settings = distributed, settings
        self._nodes: dict[int, Node] = {}
        self._refused: str | None = None
        self._begun = False
        self._lock = Lock()
        self._listener = _listen(distributed)
        Thread(target=self._accept, daemon=True).start()

    def gather(self) -> None:
        """Waits until all followers have connected.

        Raises ConfigurationError if a node was refused, TrainingError if one does not come within `join_timeout_s`.
        """
        distributed = self._distributed
        deadline = time.monotonic() + distributed.join_timeout_s
        while missing := [rank for rank in range(1, distributed.nnodes) if rank not in self._nodes]:
            if self._refused is not None:
                raise ConfigurationError([self._refused])
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"of {distributed.nnodes} nodes these did not come to {distributed.rdzv_endpoint} within "
                    f"distributed.join_timeout_s={distributed.join_timeout_s}: {', '.join(map(str, missing))}. Were "
                    "they started, each with its distributed.node_rank? Do they reach this host and port? See their "
                    "output"
                )
            time.sleep(POLL_S)
        self._begun = True

    @property
    def count(self) -> int:
        """Number of nodes, including the first one."""
        return self._distributed.nnodes

    def together(
        self, phase: Path, run: Callable[[str, Callable[[], bool]], None], within_s: float = OUTCOME_S
    ) -> None:
        """Runs the ranks of a `phase.yaml` on all nodes, on this one by calling `run`.

        `run` receives the endpoint where the ranks meet, and a function that returns whether the phase has failed on
        another node, so that it should be ended here as well. The followers have another `within_s` seconds to end
        their ranks.

        Raises TrainingError with the failures of all nodes. Raises StoppedError if a signal ended the phase on any of
        them, or if a node is gone, because no other phase can run without it.
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
            if node.outcome is None:  # a late message would be taken as an answer to the next phase
                node.line.close()
        self._judge(own, self._troubles())

    def end(self, code: int, message: str = "") -> None:
        """Ends the followers: they leave with the same exit code, and print `message` if the code is not 0."""
        self._tell("end", code=code, message=message)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()
        for node in self._nodes.values():
            node.line.close()

    def _troubles(self) -> list[str]:
        return [trouble for node in self._nodes.values() if (trouble := node.trouble) is not None]

    def _judge(self, own: TrainingError | None, troubles: list[str]) -> None:
        """Raises the error of the phase, if any; `own` is this node's error, `troubles` are those of the followers."""
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
            except OSError:  # the listener was closed
                return
            Thread(target=self._welcome, args=(Line(connection),), daemon=True).start()

    def _welcome(self, line: Line) -> None:
        try:
            hello = line.receive(HELLO_S)
            rank, host = int(hello["node"]), str(hello["host"])
            reason = self._why_not(hello)
            if self._begun:
                reason = f"distributed.node_rank={rank}: the run has begun, with all of its {self.count} nodes"
        except (EndedError, TimeoutError, KeyError, ValueError, TypeError, AttributeError):  # not a node of osftx
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
        """Returns why a node must not take part: its rank is out of range, or its settings differ. None if it may."""
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
    """Connects to the first node, which may start later than this one; returns the connection once it is accepted.

    Raises ConfigurationError if the first node refuses this one, TrainingError if it does not answer within
    `join_timeout_s`.
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
        except OSError as error:  # includes a host name that is not known yet
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
    """Returns the endpoint at another port of the first node, with the name by which this node knows that host."""
    return f"{endpoint.rpartition(':')[0]}:{port}"


def digest(file: Path) -> str:
    """Returns the SHA-256 digest of a file, by which the nodes check that they see the same file."""
    return sha256(file.read_bytes()).hexdigest()


def _listen(distributed: DistributedConfig) -> socket.socket:
    endpoint = distributed.rdzv_endpoint
    host, _, port = endpoint.rpartition(":")
    path = f"distributed.rdzv_endpoint={endpoint}"
    try:
        family, address = _resolved(host.strip("[]"), int(port), distributed.join_timeout_s)
        with socket.socket(family, socket.SOCK_STREAM) as here:
            here.bind((address, 0))
        # Listens on all interfaces, because a host's own name often resolves to a loopback address on that host, and
        # also by IPv4, because other nodes may have only an IPv4 address for the name.
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
    """Returns the address family and the address of a host name; tries for up to `within_s` seconds.

    Kubernetes knows the name of a Pod only some time after its start. Raises socket.gaierror if the name stays unknown.
    """
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
