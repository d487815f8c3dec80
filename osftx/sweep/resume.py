"""Checks whether a sweep can be resumed in a folder, which must hold the same sweep with the same jobs."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from osftx.config.identity import Use, counting
from osftx.config.run_layout import SWEEP_CONFIG
from osftx.results.plain_files import read_yaml
from osftx.utils.files import write_text
from osftx.utils.masking import masked, seal_of, sealed

RESUME = "sweep.resume"
FOLDER = "hydra.sweep.dir"


def why_not_resumed(config: DictConfig, folder: Path) -> str | None:
    """Returns why the sweep in `folder` cannot be resumed with this configuration, and the remedy; None if it can."""
    if any(word.startswith(f"{FOLDER}=") for word in config.hydra.overrides.hydra):
        return f"is the sweep's folder already; leave {FOLDER} out"
    saved = folder / SWEEP_CONFIG
    if not saved.is_file():
        return "holds no sweep; correct the folder, or leave sweep.resume out"
    try:
        seal = seal_of(saved.read_text(encoding="utf-8"))
        there = _deciding(OmegaConf.create(read_yaml(saved)))
    except (OSError, ValueError, TypeError, LookupError, AssertionError, YAMLError) as error:
        return f"its {SWEEP_CONFIG} cannot be read ({type(error).__name__}); start the sweep anew"
    here = _deciding(OmegaConf.create(OmegaConf.to_yaml(config)))
    same_secrets = (seal or sealed(there)) == sealed(here)
    there, here = masked(there), masked(here)
    if there["overrides"] != here["overrides"]:
        return f"was made with other overrides ({' '.join(there['overrides'])}); give the same ones, or leave it out"
    if others := [key for key in here if here[key] != there.get(key)]:
        return f"was made with other settings of {', '.join(others)}; set them back, or leave it out"
    return None if same_secrets else "was made with other secrets; give the same ones, or leave it out"


def _deciding(config: Any) -> dict[str, Any]:
    """Returns what determines the jobs of a sweep: overrides, search space, and the settings that they change."""
    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    hydra = content.pop("hydra")
    overrides = hydra["overrides"]["task"]
    rest = counting({str(key): value for key, value in content.items()}, Use.SWEEP)
    sweeper = {f"hydra.sweeper.{key}": hydra["sweeper"].get(key) for key in ("_target_", "params")}
    deciding = {
        "overrides": [word for word in overrides if word.split("=")[0] not in (RESUME, "dry_run")],
        **sweeper,
        **rest,
    }
    return deciding


def mask_settings(folder: Path) -> None:
    """Masks the secrets in the settings of the sweep that Hydra has written into its folder."""
    saved = folder / SWEEP_CONFIG
    try:
        settings = OmegaConf.load(saved)
        content = OmegaConf.to_container(settings)
    except (OSError, ValueError, YAMLError):
        return
    if (shown := masked(content)) != content:
        seal = sealed(_deciding(settings))
        write_text(saved, (f"{seal}\n" if seal else "") + OmegaConf.to_yaml(OmegaConf.create(shown)))
