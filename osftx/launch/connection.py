"""Messages between two processes over TCP, as one JSON object per line.

There is no authentication: like the port of torch's rendezvous, the port must be on a private network of the cluster.
"""

import json
import socket
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

Message = dict[str, Any]

IDLE_S, EVERY_S, TIMES = 5, 5, 3
"""TCP keepalive settings: a machine that has vanished is noticed after IDLE_S + EVERY_S * TIMES seconds."""


class EndedError(Exception):
    """Raised if the other process has ended or cannot be reached any more."""


class Line:
    """A connection to another process. A thread reads from it, so that the end of that process is noticed at once."""

    def __init__(self, connection: socket.socket):
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
        self._connection = connection
        self._messages: Queue[Message | None] = Queue()
        self._ended = Event()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError, ValueError, TypeError), self._connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                self._messages.put(dict(json.loads(line)))
        self._ended.set()
        self._messages.put(None)

    def send(self, kind: str, **content: Any) -> None:
        """Sends a message. Does nothing if the other process has ended; `receive` reports that."""
        with suppress(OSError):
            self._connection.sendall(json.dumps({"kind": kind, **content}).encode() + b"\n")

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
