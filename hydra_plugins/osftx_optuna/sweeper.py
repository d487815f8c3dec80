"""The sweeper class that Hydra instantiates for `hydra/sweeper=optuna`."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from osftx.errors import ConfigurationError
from osftx.sweep.optuna.settings import OptunaSweeperConf

ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="osftx")


class OptunaSweeper(Sweeper):
    """Runs the jobs of a search, whose values Optuna chooses."""

    def __init__(self, **settings: Any) -> None:
        self.settings = OptunaSweeperConf(**settings)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra gives to a sweeper, and creates the launcher that the configuration names."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search. Raises ConfigurationError before the first job if the settings are wrong or Optuna is
        missing."""
        try:
            from osftx.sweep.optuna.search import search
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != "optuna":
                raise
            raise ConfigurationError(
                ["hydra/sweeper=optuna: Optuna is not installed; install it with pip install 'osftx[search]'"]
            ) from error
        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        params = [f"{key}={value}" for key, value in self.settings.params.items()]
        overrides = {override.get_key_element(): override for override in parser.parse_overrides([*params, *arguments])}
        search(self.settings, self.config, overrides, self.launcher, self.validate_batch_is_legal)
