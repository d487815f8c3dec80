"""Which endpoints only processes of the same machine reach."""

import pytest

from osftx.config.meeting import only_here


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0x7f.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_every_spelling_of_a_loopback_address_is_only_here(host: str) -> None:
    assert only_here(f"{host}:29500")


@pytest.mark.parametrize("host", ["10.0.0.1", "node-0", "[fe80::1]", "localhost.example.org", "0.0.0.0", ""])
def test_other_hosts_and_names_are_not(host: str) -> None:
    assert not only_here(f"{host}:29500")
