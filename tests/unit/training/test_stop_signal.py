"""A request to stop: heard while it is entered, never lost."""

import os
import signal

import pytest

from osftx.training.stop_signal import SIGNALS, Stopped, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped), StopRequest(grace_s=50) as stop:
        assert not stop.made
        os.kill(os.getpid(), number)
        assert stop.made
        assert 0 < signal.alarm(0) <= 50  # the process would have ended after that
        # Nobody asks any more: leaving raises Stopped.
    assert signal.getsignal(number) is before


def test_without_a_signal_nothing_happens() -> None:
    with StopRequest(grace_s=50) as stop:
        pass
    assert not stop.made
    assert signal.alarm(0) == 0


def test_what_went_wrong_is_not_hidden_by_a_request() -> None:
    with pytest.raises(ZeroDivisionError), StopRequest(grace_s=50):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.alarm(0)
        raise ZeroDivisionError
