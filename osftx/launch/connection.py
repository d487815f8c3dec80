"""Messages between two nodes over TCP, as one JSON object per line, after an HMAC that nobody else can make.

The messages are not encrypted. What torch opens between the nodes is not even authenticated, so the network between
them must be private.
"""

import hmac
import json
import socket
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Lock, Thread
from typing import Any

from osftx.launch.handshake import Keys

Message = dict[str, Any]

IDLE_S, EVERY_S, TIMES = 5, 5, 3
"""TCP keepalive settings: a machine that has vanished is noticed after IDLE_S + EVERY_S * TIMES seconds."""

LONGEST = 4 * 2**20
"""Most bytes of a message."""


class EndedError(Exception):
    """Raised if the other process has ended or cannot be reached any more."""


class Line:
    """A connection to another node, after the handshake.

    A thread reads from it, so that the end of that node is noticed at once. A message that the node did not send, or
    sent at another place among its messages, ends the connection.
    """

    def __init__(self, connection: socket.socket, keys: Keys):
        connection.settimeout(None)
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), IDLE_S),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), EVERY_S),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), TIMES),
            # Keepalive is off while sent data is not acknowledged; this limit applies instead.
            (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), 1000 * (IDLE_S + EVERY_S * TIMES)),
        ):
            if option is not None:  # None on systems that lack it
                connection.setsockopt(level, option, value)
        self._connection, self._keys = connection, keys
        self._sent, self._sending = 0, Lock()
        self._messages: Queue[Message | None] = Queue()
        self._ended = Event()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        unreadable = (OSError, ValueError, TypeError, RecursionError)
        with suppress(*unreadable), self._connection.makefile("rb") as lines:
            received = 0
            while (line := lines.readline(LONGEST)).endswith(b"\n"):
                code, _, content = line[:-1].partition(b" ")
                if not hmac.compare_digest(code, _code(self._keys.other, received, content)):
                    break
                self._messages.put(dict(json.loads(content)))
                received += 1
        self._ended.set()
        self._messages.put(None)

    def send(self, kind: str, **content: Any) -> None:
        """Sends a message. Does nothing if the other node has ended; `receive` reports that."""
        text = json.dumps({"kind": kind, **content}).encode()
        with suppress(OSError), self._sending:
            self._connection.sendall(_code(self._keys.own, self._sent, text) + b" " + text + b"\n")
            self._sent += 1

    def digest(self, text: str) -> str:
        """Returns a digest by which both sides of this connection, and nobody else, can compare texts."""
        return hmac.digest(self._keys.settings, text.encode("utf-8", "surrogatepass"), "sha256").hex()

    def receive(self, within_s: float | None = None) -> Message:
        """Returns the next message; waits up to `within_s` seconds, or without limit if None.

        Raises EndedError if the other process has ended, TimeoutError if no message arrives in time.
        """
        try:
            message = self._messages.get(timeout=within_s)
        except Empty:
            raise TimeoutError(f"no message within {within_s} s") from None
        if message is None:
            self._messages.put(None)
            raise EndedError
        return message

    @property
    def waiting(self) -> bool:
        """Whether `receive` would return, or raise EndedError, at once."""
        return not self._messages.empty()

    @property
    def ended(self) -> bool:
        """Whether the other process has ended; messages from it may still be waiting."""
        return self._ended.is_set()

    def close(self) -> None:
        """Closes the connection; the other process notices this."""
        self._ended.set()
        with suppress(OSError):  # the other process may have ended already
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _code(key: bytes, place: int, content: bytes) -> bytes:
    """Returns the HMAC of a message at its place among those of its sender."""
    return hmac.digest(key, b"%d %b" % (place, content), "sha256").hex().encode()
