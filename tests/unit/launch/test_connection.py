"""Messages between two nodes, over a real connection."""

import json
import socket

import pytest

from osftx.launch import connection
from osftx.launch.connection import EndedError, Line
from osftx.launch.handshake import Keys

FIRST = Keys(b"from first", b"from other", b"settings")
OTHER = Keys(b"from other", b"from first", b"settings")


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        return here, server.accept()[0]


def test_messages_wait_and_an_end_stays_one(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = Line(pair[0], OTHER), Line(pair[1], FIRST)
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


def test_both_sides_digest_alike_and_nobody_else(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = Line(pair[0], OTHER), Line(pair[1], FIRST)
    assert here.digest("seed=1") == there.digest("seed=1")
    assert here.digest("seed=1") != here.digest("seed=2")
    assert Line(pair[0], OTHER._replace(settings=b"another")).digest("seed=1") != there.digest("seed=1")


def signed(keys: Keys, place: int, kind: str) -> bytes:
    text = json.dumps({"kind": kind}).encode()
    return connection._code(keys.own, place, text) + b" " + text + b"\n"


@pytest.mark.parametrize(
    "words",
    [
        b'{"kind": "end", "code": 0, "message": ""}\n',
        b"0" * 64 + b' {"kind": "end"}\n',
        signed(FIRST, 1, "end"),  # the receiver's own words, sent back
        signed(OTHER, 0, "end"),  # a message that was overheard, a second time
        signed(OTHER, 1, "end").replace(b"end", b"go!"),
        b"x" * (connection.LONGEST + 1),
    ],
)
def test_words_of_a_stranger_on_the_connection_are_not_taken(
    pair: tuple[socket.socket, socket.socket], words: bytes
) -> None:
    there = Line(pair[1], FIRST)
    pair[0].sendall(signed(OTHER, 0, "first") + words)
    pair[0].close()
    assert there.receive(5) == {"kind": "first"}
    with pytest.raises(EndedError):
        there.receive(5)
