"""The end of the program: what it says, its exit code, and that the other nodes hear of both."""

import pickle
import signal
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import pytest

from osftx.cli import app
from osftx.cli.app import Task, main
from osftx.cli.session import Session
from osftx.errors import ExitCode
from osftx.launch.cluster import Cluster
from osftx.utils.console import leave


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What the other nodes are told at the end."""
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(Cluster, "end", lambda _, code, message="": told.append((code, message)))
    return told


def test_the_other_nodes_leave_with_the_first(
    monkeypatch: pytest.MonkeyPatch, told: list[tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "_compose_and_run", lambda _: None)
    main()
    monkeypatch.setattr(app, "_compose_and_run", lambda _: leave("that is wrong", ExitCode.wrong_configuration))
    with pytest.raises(SystemExit, match="2"):
        main()
    monkeypatch.setattr(app, "_compose_and_run", lambda _: sys.exit(1))  # a sweep with jobs that failed
    with pytest.raises(SystemExit, match="1"):
        main()
    assert told == [(0, ""), (2, "that is wrong"), (1, "see the output of the first node")]
    assert capsys.readouterr().err == "osftx: that is wrong\n"


def test_a_sweep_that_loses_a_job_is_summed_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hydra_application(_: object) -> object:
        def run() -> None:
            raise BrokenProcessPool("killed")

        return run

    class Summed(Session):
        def end_sweep(self) -> None:
            print("the table")
            raise SystemExit(2)  # another job failed

    monkeypatch.setattr(app.hydra, "main", lambda **_: hydra_application)
    with pytest.raises(SystemExit, match="1"):
        app._compose_and_run(Summed())
    captured = capsys.readouterr()
    assert captured.out == "the table\n"
    assert "the process of a job has ended without a result" in captured.err


def test_launchers_can_pickle_the_task() -> None:
    copy = pickle.loads(pickle.dumps(Task(Cluster()).run))
    assert copy.__name__ == "run"
