"""Messages between two processes, over a real connection."""

import socket

import pytest

from osftx.launch.connection import EndedError, Line


def test_messages_wait_and_an_end_stays_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = Line(socket.create_connection(server.getsockname()))
        there = Line(server.accept()[0])
    here.send("a", number=1)
    assert there.receive(5) == {"kind": "a", "number": 1}
    with pytest.raises(TimeoutError):
        there.receive(0.01)
    here.close()
    for _ in range(2):
        with pytest.raises(EndedError):
            there.receive(5)
    there.send("into the void")
    assert there.ended
