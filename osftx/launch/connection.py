"""Messages between two processes over TCP: one JSON object a line.

Nobody is asked who he is: as with torch's rendezvous, the port belongs on a network of the cluster's own.
"""

import json
import socket
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

Message = dict[str, Any]

IDLE_S, EVERY_S, TIMES = 5, 5, 3
"""A machine that has vanished from the network is noticed after IDLE_S + EVERY_S * TIMES seconds, by the system."""


class EndedError(Exception):
    """The other process has ended, or cannot be reached any more."""


class Line:
    """A connection to another process. A thread reads it, so that its end is known at once, whatever else is done."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(None)
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), IDLE_S),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), EVERY_S),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), TIMES),
            # While something that was sent is on its way, none of the above counts.
            (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), 1000 * (IDLE_S + EVERY_S * TIMES)),
        ):
            if option is not None:  # other systems have other names for them
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
        """Without effect where the other one has ended, which reading tells."""
        with suppress(OSError):
            self._connection.sendall(json.dumps({"kind": kind, **content}).encode() + b"\n")

    def receive(self, within_s: float | None = None) -> Message:
        """The next message. Raises EndedError, or TimeoutError after `within_s` seconds; null waits for ever."""
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
        return self._ended.is_set()

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):  # the other one may have ended already
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
