"""Finds methods by their names in the configuration: built in, by entry point, or by import path.

A separate package registers a method with an entry point,

    [project.entry-points."osftx.methods"]
    my_method = "my_package.my_module:MyMethod"

after which `phases.<name>.method=my_method` uses it. Without a package, `method=my_module.MyMethod` names the class in
a module that Python finds from the folder in which osftx was started.
"""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from osftx.errors import ConfigurationError
from osftx.methods.base import Method
from osftx.utils.import_path import imported

BUILT_IN = {"osft": "osftx.methods.osft.method.Osft", "sft": "osftx.methods.sft.method.Sft"}
ENTRY_POINTS = "osftx.methods"


def built_in() -> Iterable[Method]:
    """Returns the methods of the osftx package."""
    return map(method_named, BUILT_IN)


@cache
def method_named(name: str) -> Method:
    """Returns the method with this name. Raises ConfigurationError if there is none, or if it cannot be imported."""
    kind = _class_of(name)
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigurationError([f"method={name}: is no subclass of osftx.methods.base.Method; correct the path"])
    return kind()


def _class_of(name: str) -> object:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].rpartition(".")
        return getattr(import_module(module), attribute)
    registered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    try:
        if name in registered:
            return registered[name].load()
        if "." in name:
            return imported(name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            [f"method={name}: cannot be imported ({error}); correct the name or install it"]
        ) from error
    known = ", ".join([*BUILT_IN, *sorted(registered)])
    raise ConfigurationError([f"method={name}: no such method; use one of {known}, or an import path MODULE.CLASS"])
