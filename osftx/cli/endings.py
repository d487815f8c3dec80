"""How an error ends the program: the message and the exit code."""

from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from osftx.cli.conf_folder import conf_folder
from osftx.cli.hydra_errors import explain, no_option
from osftx.errors import ConfigurationError, ExitCode, StopSignal
from osftx.utils.disk import refusal

INTERRUPTED = "interrupted; give the same command again to go on from the last save (SIGTERM, as from `kill`, saves)"


def ending(error: BaseException, words: Sequence[str]) -> tuple[str, ExitCode] | None:
    """Returns the message and the exit code for an error that left Hydra; None for a bug, which shows its traceback.

    `words` are those of the command line. Errors of a single run or a job do not get here: the task handles them.
    """
    if isinstance(error, StopSignal):
        return str(error), ExitCode.training_failed
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, ExitCode.interrupted
    if isinstance(error, OSError) and (refused := refusal(error, "the folder of the sweep")) is not None:
        return f"{refused}; then give the same command again", ExitCode.training_failed
    wrong = _wrong_configuration(error, words)
    return None if wrong is None else (wrong, ExitCode.wrong_configuration)


def _wrong_configuration(error: BaseException, words: Sequence[str]) -> str | None:
    """Returns what is wrong with the configuration; None if the error is of another kind."""
    match error:
        case ConfigurationError():  # raised for a sweep as a whole
            return str(error)
        case HydraException() | OmegaConfBaseException():
            return explain(error)
        case ValueError() if str(error).startswith("Config group override"):  # Hydra has no class for it
            return no_option(words, conf_folder())
        case YAMLError():
            return f"a configuration file is not YAML: {' '.join(str(error).split())}"
    return None


def lost_job(error: BaseException) -> str:
    """Returns the message for the error with which a launcher reports that a job's process is gone."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        "the process of a job has ended without a result (killed, out of memory, out of time?); jobs of a cluster "
        f"that are still queued or running go on: {reason}"
    )
