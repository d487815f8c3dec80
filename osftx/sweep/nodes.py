"""Brings the nodes of a sweep together once, before the first job, for all of its jobs."""

import os
import sys

from omegaconf import DictConfig, OmegaConf

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, ExitCode, TrainingError
from osftx.launch.cluster import Cluster
from osftx.launch.leader import SETTINGS_OF_A_NODE
from osftx.launch.outer_launcher import outer_launcher, placed
from osftx.sweep.parallel import one_at_a_time
from osftx.utils.console import leave


def meet_for_sweep(config: DictConfig, cluster: Cluster) -> None:
    """Brings the nodes together, if there are several. It returns only on the first node, which runs the sweep.

    On the other nodes it ends the program when the sweep has ended, with the exit code of the first node. It also ends
    the program if the nodes cannot meet. `config` is Hydra's configuration of the sweep.
    """
    words = list(config.hydra.overrides.task)
    try:
        given = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DistributedConfig), config.distributed))
        assert isinstance(given, DistributedConfig)
        distributed = placed(given, outer_launcher(os.environ), words)
        if distributed.nnodes > 1 and not one_at_a_time(config):
            leave(
                f"distributed.nnodes={distributed.nnodes}: the jobs of such a sweep run one after the other; leave "
                "hydra/launcher out",
                ExitCode.wrong_configuration,
            )
        asked = [word for word in words if word.lstrip("+").partition("=")[0] not in SETTINGS_OF_A_NODE]
        ended = cluster.meet(distributed, {"command": asked}, bool(OmegaConf.select(config, "model.trust_remote_code")))
    except (ConfigurationError, TrainingError) as error:
        leave(str(error), error.exit_code)
    if ended is not None:
        if ended.code:
            leave(ended.message, ended.code)
        sys.exit(ExitCode.done)
