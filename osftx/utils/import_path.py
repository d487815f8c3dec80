"""Finds and imports the modules that a user names."""

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec


def search_path() -> list[str]:
    """Returns the folders in which Python searches modules, with the working folder first unless it is among them."""
    here = os.getcwd()
    return list(sys.path) if {"", here} & set(sys.path) else [here, *sys.path]


def module_is_found(name: str) -> bool:
    """Returns whether Python finds the module `name`, without importing it or the packages that contain it."""
    first, *others = name.split(".")
    spec = PathFinder.find_spec(first, search_path()) or _found_otherwise(first)
    for part in others:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    return spec is not None


def _found_otherwise(name: str) -> ModuleSpec | None:
    """Returns the spec of a top-level module from all finders, or None.

    Packages in development may be installed so that only a finder of their own knows where they are.
    """
    try:
        return find_spec(name)
    except ValueError:  # for modules without a spec, such as __main__
        return None


def imported(path: str) -> object:
    """Returns the object at `path`, such as `package.module.name`.

    Raises ImportError if there is no such module, AttributeError if the module has no such name.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise ImportError(f"{path!r} names no module; write MODULE.NAME")
    sys.path[:] = search_path()
    return getattr(import_module(module), name)
