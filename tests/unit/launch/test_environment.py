"""The environment variables of a rank."""

import os

import pytest

from osftx.config.schema import DistributedConfig
from osftx.launch.environment import environment


def test_the_secret_of_the_nodes_is_not_given_to_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSFTX_SECRET", "0123456789abcdef")
    with environment(DistributedConfig(), []):
        assert "OSFTX_SECRET" not in os.environ
    assert os.environ["OSFTX_SECRET"] == "0123456789abcdef"
