"""With which message and exit code an error ends the program."""

from concurrent.futures.process import BrokenProcessPool

import pytest
from hydra.errors import OverrideParseException
from yaml import YAMLError

from osftx.cli.endings import ending, lost_job
from osftx.errors import ConfigurationError, ExitCode, StopSignal


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (StopSignal("stopped by SIGTERM"), ExitCode.training_failed, "stopped by SIGTERM"),
        (KeyboardInterrupt(), ExitCode.interrupted, "interrupted; give the same command again"),
        (ConfigurationError(["x=1: wrong"]), ExitCode.wrong_configuration, "x=1: wrong"),
        (OverrideParseException("x=(", "mismatched input"), ExitCode.wrong_configuration, "mismatched input"),
        (
            ValueError("Config group override value type cannot be int"),
            ExitCode.wrong_configuration,
            "model=1: not an option of the group; use one of",
        ),
        (YAMLError("expected\n  a key"), ExitCode.wrong_configuration, "is not YAML: expected a key"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_foreseen_error_is_told(error: BaseException, code: ExitCode, says: str) -> None:
    ended = ending(error, ["+experiment=tiny", "model=1"])
    assert ended is not None
    assert says in ended[0]
    assert ended[1] is code


@pytest.mark.parametrize("error", [ValueError("of ours"), RuntimeError("a bug"), GeneratorExit()], ids=repr)
def test_a_bug_is_not(error: BaseException) -> None:
    assert ending(error, []) is None


def test_a_lost_job_is_told_with_the_reason_of_its_launcher() -> None:
    assert lost_job(BrokenProcessPool("killed\nin detail")).endswith("still queued or running go on: killed")
    assert lost_job(BrokenProcessPool()).endswith("go on: BrokenProcessPool")
