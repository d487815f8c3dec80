"""The addresses at which a process and its descendants listen, from /proc."""

import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

TABLES = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""Tables of sockets, and the state of one that anybody may send to."""


def addresses_while_it_runs(process: subprocess.Popen[str], every_s: float = 0.05) -> set[str]:
    """All addresses at which the process and its descendants have listened until it ended, as `tcp 127.0.0.1`."""
    seen: set[str] = set()
    while process.poll() is None:
        seen |= set(_listening(process.pid))
        time.sleep(every_s)
    return seen


def beyond_loopback(addresses: set[str]) -> set[str]:
    return {text for text in addresses if not text.split()[1].startswith(("127.", "::1", "::ffff:127."))}


def _listening(root: int) -> Iterator[str]:
    inodes = {inode for process in _descendants(root) for inode in _sockets(process)}
    for table, state in TABLES.items():
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == state and words[9] in inodes:
                yield f"{table} {_address(words[1].partition(':')[0])}"


def _descendants(root: int) -> set[int]:
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {process for process, parent in parents.items() if parent in found}
    return found


def _sockets(process: int) -> Iterator[str]:
    try:
        for entry in os.scandir(f"/proc/{process}/fd"):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:  # it has ended meanwhile
        return


def _address(digits: str) -> str:
    """The address that the kernel writes in words of four bytes, each in the machine's order."""
    words = [bytes.fromhex(digits[place : place + 8])[::-1] for place in range(0, len(digits), 8)]
    packed = b"".join(words)
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))
