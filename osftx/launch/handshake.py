"""The handshake of two nodes over a new connection: each proves that it has the secret, which is not sent.

    first node  osftx NONCE
    other node  NONCE PROOF
    first node  PROOF            or `unknown`, for a proof by another secret

A proof is an HMAC-SHA-256 of both nonces, under the secret and the name of the side. The keys of the messages that
follow are made in the same way, so that nobody else can send one of them later.
"""

import hmac
import socket
import time
from secrets import token_hex
from typing import NamedTuple

WITHIN_S = 10.0
"""Seconds for the whole handshake, however slowly the other side sends."""
LONGEST = 256
"""Most bytes of a line of the handshake."""
GREETING = b"osftx"
UNKNOWN = b"unknown"


class StrangerError(Exception):
    """Raised if the other side is not a node of osftx, or takes too long."""


class OtherSecretError(StrangerError):
    """Raised if the other side is a node of osftx that has another secret."""


class Keys(NamedTuple):
    """The keys of one connection."""

    own: bytes
    """For the messages that this side sends."""
    other: bytes
    """For those that it receives."""
    settings: bytes
    """For the digests by which settings are compared."""


def receive_node(connection: socket.socket, secret: bytes) -> Keys:
    """Makes the first node's side of the handshake. Raises StrangerError, or OSError of the connection."""
    deadline = time.monotonic() + WITHIN_S
    own = token_hex(32).encode()
    connection.settimeout(WITHIN_S)
    connection.sendall(GREETING + b" " + own + b"\n")
    other, _, proof = _line(connection, deadline).partition(b" ")
    if not hmac.compare_digest(proof, _proof(secret, b"other", own, other)):
        connection.sendall(UNKNOWN + b"\n")
        raise OtherSecretError
    connection.sendall(_proof(secret, b"first", own, other) + b"\n")
    return Keys(
        _key(secret, b"from first", own, other),
        _key(secret, b"from other", own, other),
        _key(secret, b"settings", own, other),
    )


def greet_first_node(connection: socket.socket, secret: bytes) -> Keys:
    """Makes the side of a node that comes to the first one. Raises StrangerError, or OSError of the connection."""
    deadline = time.monotonic() + WITHIN_S
    own = token_hex(32).encode()
    connection.settimeout(WITHIN_S)
    greeting, _, other = _line(connection, deadline).partition(b" ")
    if greeting != GREETING:
        raise StrangerError
    connection.sendall(own + b" " + _proof(secret, b"other", other, own) + b"\n")
    if not hmac.compare_digest(_line(connection, deadline), _proof(secret, b"first", other, own)):
        raise OtherSecretError
    return Keys(
        _key(secret, b"from other", other, own),
        _key(secret, b"from first", other, own),
        _key(secret, b"settings", other, own),
    )


def _line(connection: socket.socket, deadline: float) -> bytes:
    """Returns one line. Nothing may follow it, because both sides speak in turn."""
    found = b""
    while not found.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or len(found) > LONGEST or b"\n" in found:
            raise StrangerError
        connection.settimeout(left)
        part = connection.recv(LONGEST)
        if not part:
            raise StrangerError
        found += part
    return found[:-1]


def _key(secret: bytes, use: bytes, first: bytes, other: bytes) -> bytes:
    return hmac.digest(secret, b"\n".join((b"osftx", use, first, other)), "sha256")


def _proof(secret: bytes, use: bytes, first: bytes, other: bytes) -> bytes:
    return _key(secret, b"proof of " + use, first, other).hex().encode()
