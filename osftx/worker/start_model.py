"""The check that the ranks have read the model of which the phase's fingerprint was computed."""

import os
from pathlib import Path

from osftx.config.phase_spec import PhaseSpec, StartFile
from osftx.utils.known_digests import FileState, KnownFile, unchanged


def check_start(spec: PhaseSpec) -> None:
    """Raises ValueError if a file of the start model is another one than when the phase was planned.

    The first rank of each node looks, after the model was loaded and again after everything was copied from it: a file
    that was not touched until then has been read as it was. A file that was touched is read again.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    home = Path(spec.model.path).resolve().parent
    for file in spec.start_files:
        try:
            same = unchanged(home / file.name, _known(file))
        except OSError as error:
            raise ValueError(f"{home / file.name}: cannot be read again ({error.strerror}); {_REMEDY}") from error
        if not same:
            raise ValueError(f"{home / file.name}: was changed after this phase was planned; {_REMEDY}")


_REMEDY = "nothing is stored. Start again when nobody writes to the model"


def _known(file: StartFile) -> KnownFile:
    return KnownFile(file.sha256, FileState(*file.state) if file.state is not None else None)
