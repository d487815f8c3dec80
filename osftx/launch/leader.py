"""The first node of a run, which leads the other nodes, its followers, over one TCP connection each.

    both                 each proves that it has the shared secret (`handshake.py`)
    follower  hello      its rank and host, and digests of its settings, which must equal the first node's
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread

from osftx.config.meeting import only_here
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch.connection import EndedError, Line, Message
from osftx.launch.handshake import OtherSecretError, StrangerError, greet_first_node, receive_node
from osftx.launch.secret import REMEDY

HELLO_S = 10.0
"""Seconds within which a node must send its hello after the handshake."""
STRANGERS = 32
"""Connections at a time that have not yet proved that they are nodes; others wait until one of them is through."""
OUTCOME_S = 60.0
"""Seconds that the followers' ranks have to end after those of the first node, without time for a save."""
POLL_S = 0.1
JOIN_POLL_S = 0.5
DIFFERENCES_SHOWN = 3
SETTINGS_OF_A_NODE = ("distributed.node_rank", "distributed.secret_file")
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

    def __init__(self, distributed: DistributedConfig, settings: Settings, secret: bytes):
        self._distributed, self._settings, self._secret = distributed, settings, secret
        self._nodes: dict[int, Node] = {}
        self._refused: str | None = None
        self._begun = False
        self._lock = Lock()
        self._strangers = BoundedSemaphore(STRANGERS)
        self._stranger_told = False
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
            port = _free_port(self._distributed)
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
            self._strangers.acquire()
            try:
                connection, (address, *_) = self._listener.accept()
            except OSError:  # the listener was closed
                return
            Thread(target=self._admit, args=(connection, str(address)), daemon=True).start()

    def _admit(self, connection: socket.socket, address: str) -> None:
        """Welcomes whoever proves that it is a node. Others are hung up on, and the run goes on."""
        try:
            line = Line(connection, receive_node(connection, self._secret))
        except (StrangerError, OSError) as error:
            connection.close()
            if isinstance(error, OtherSecretError):
                self._tell_of_stranger(address)
            return
        finally:
            self._strangers.release()
        self._welcome(line)

    def _tell_of_stranger(self, address: str) -> None:
        with self._lock:
            told, self._stranger_told = self._stranger_told, True
        if not told:
            print(f"a process at {address} without the secret of this run was turned away; if it is a node: {REMEDY}")

    def _welcome(self, line: Line) -> None:
        differing: list[str] = []
        try:
            hello = line.receive(HELLO_S)
            rank, host = int(hello["node"]), str(hello["host"])
            reason = self._why_not(rank)
            if reason is None and (differing := self._differing(line, hello)):
                reason = other_command(rank, differing, self._settings)
            if self._begun:
                differing = []
                reason = f"distributed.node_rank={rank}: the run has begun, with all of its {self.count} nodes"
        except (EndedError, TimeoutError, KeyError, ValueError, TypeError, AttributeError):  # another version, perhaps
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
        line.send("refused", reason=None if differing else reason, differing=differing)
        line.close()

    def _why_not(self, rank: int) -> str | None:
        """Returns why there is no place for a node of this rank; None if there is."""
        if 0 < rank < self.count:
            return None
        return f"distributed.node_rank={rank}: with distributed.nnodes={self.count} it must be 1 to {self.count - 1}"

    def _differing(self, line: Line, hello: Message) -> list[str]:
        """Returns the settings of a node that are not the first node's."""
        here, there = digests(line, self._settings), dict(hello["settings"])
        keys = sorted((here.keys() | there.keys()) - set(SETTINGS_OF_A_NODE))
        return [key for key in keys if here.get(key) != there.get(key)]


def other_command(rank: int, differing: Sequence[str], settings: Settings) -> str:
    """Returns the problem of a node whose settings differ from the first node's, with the values of this node."""
    shown = [f"{key} (here {settings.get(key, 'not set')})" for key in differing[:DIFFERENCES_SHOWN]]
    more = ", ..." if len(differing) > DIFFERENCES_SHOWN else ""
    return (
        f"distributed.node_rank={rank}: its command differs from the first node's in {', '.join(shown)}{more}; give "
        "the same command on all nodes, but for distributed.node_rank"
    )


def digests(line: Line, settings: Settings) -> dict[str, str]:
    """Returns a digest of each setting, by which the nodes compare them without sending them."""
    return {key: line.digest(f"{key}={value}") for key, value in settings.items()}


def join(distributed: DistributedConfig, settings: Settings, secret: bytes) -> Line:
    """Connects to the first node, which may start later than this one; returns the connection once it is accepted.

    Raises ConfigurationError if the first node refuses this one, TrainingError if it does not answer within
    `join_timeout_s`.
    """
    host, _, port = distributed.rdzv_endpoint.rpartition(":")
    deadline = time.monotonic() + distributed.join_timeout_s
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return _joined(socket.create_connection((host.strip("[]"), int(port)), left), distributed, settings, secret)
        except OtherSecretError:
            raise ConfigurationError(
                [
                    f"distributed.rdzv_endpoint={distributed.rdzv_endpoint}: the first node has another secret than "
                    f"node {distributed.node_rank}; {REMEDY}"
                ]
            ) from None
        except StrangerError:
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


def _joined(connection: socket.socket, distributed: DistributedConfig, settings: Settings, secret: bytes) -> Line:
    """Returns the connection once the first node has accepted this one. Raises ConfigurationError if it does not."""
    try:
        line = Line(connection, greet_first_node(connection, secret))
    except (StrangerError, OSError):
        connection.close()
        raise
    rank = distributed.node_rank
    line.send("hello", node=rank, host=socket.gethostname(), settings=digests(line, settings))
    answer = line.receive(HELLO_S)
    if answer["kind"] == "welcome":
        return line
    line.close()
    if answer["kind"] == "refused":
        differing = [str(key) for key in answer["differing"]]
        raise ConfigurationError([other_command(rank, differing, settings) if differing else str(answer["reason"])])
    raise StrangerError


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
        if only_here(endpoint):
            return socket.create_server((address, int(port)), family=family, backlog=distributed.nnodes)
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


def _free_port(distributed: DistributedConfig) -> int:
    """Returns a port that is free now. It is bound without listening, so that nobody can connect to it."""
    with socket.socket() as place:
        place.bind(("127.0.0.1" if only_here(distributed.rdzv_endpoint) else "", 0))
        return int(place.getsockname()[1])
