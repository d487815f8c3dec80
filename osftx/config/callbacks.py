"""The entries of `callbacks` in the configuration."""

from collections.abc import Mapping
from typing import Any

from osftx.config.schema import CallbackConfig

FORM = "an import path such as my_module.MyCallback, or {path: my_module.MyCallback, settings: {KEY: VALUE}}"


def read_callback(entry: Any) -> CallbackConfig:
    """Returns an entry of `callbacks` with its types. Raises ValueError where it has another form than `FORM`."""
    if isinstance(entry, CallbackConfig):
        return entry
    content = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(content, Mapping) or "path" not in content or content.keys() - {"path", "settings"}:
        raise ValueError(f"must be {FORM}")
    path, settings = content["path"], content.get("settings") or {}
    module, _, name = str(path).rpartition(".")
    if not module or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError(f"its path {path} must name a module and a class in it, such as my_module.MyCallback")
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise ValueError(f"its settings {settings} must be a mapping of names to values")
    return CallbackConfig(path, dict(settings))
