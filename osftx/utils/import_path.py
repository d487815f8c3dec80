"""Objects that a user names by their import paths."""

import os
import sys
from importlib import import_module


def imported(path: str) -> object:
    """Returns the object at `path`, `module.name` or `package.module.name`.

    The module is looked for on Python's search path and in the working directory, which a console script does not have
    on that path. Raises ImportError where there is no such module, AttributeError where it has no such name.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise ImportError(f"{path!r} names no module; write MODULE.NAME")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    return getattr(import_module(module), name)
