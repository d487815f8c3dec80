"""Rules for a user's callbacks: the form of the entries and the modules that they name. No module is imported."""

import os
from collections.abc import Iterator

from osftx.config.callbacks import read_callback
from osftx.config.schema import ExperimentConfig
from osftx.utils.import_path import module_is_found


def _callbacks(config: ExperimentConfig) -> Iterator[str]:
    for place, entry in enumerate(config.callbacks):
        try:
            callback = read_callback(entry)
        except ValueError as error:
            yield f"callbacks[{place}]={entry}: {error}; correct it, or remove it"
            continue
        module = callback.path.rpartition(".")[0]
        if not module_is_found(module):
            yield (
                f"callbacks[{place}]={callback.path}: there is no module {module} in {os.getcwd()} or elsewhere on "
                "Python's path; start the run from the folder that holds it, or add that folder to PYTHONPATH"
            )


RULES = (_callbacks,)
