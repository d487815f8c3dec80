"""What the launching process tells the ranks of one machine about the place where they meet."""

import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address

STORE_FILE = "OSFTX_STORE_FILE"
"""Environment variable with the path of the file through which all ranks of this machine meet. Without it they meet at
the host and port that a launcher has put into the environment."""
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def only_here(endpoint: str) -> bool:
    """Returns whether only processes of the same machine reach HOST:PORT, because it is a loopback address.

    Every spelling of an address counts, as 127.1. The host's own name is not looked up: it often resolves to a
    loopback address on that host alone.
    """
    host = endpoint.rpartition(":")[0].strip("[]").lower().rstrip(".")
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        return IPv4Address(socket.inet_aton(host)).is_loopback
    except (OSError, UnicodeError):
        pass
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return False
    return (address.ipv4_mapped or address).is_loopback
