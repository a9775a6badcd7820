"""The sweeper that Hydra calls: it leaves the choice of jobs to whatever `sweep` names.

Hydra takes plugins from the namespace `hydra_plugins` alone, and imports all of them whenever it starts: keep this light.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

__all__ = ["KdrunSweeper"]


class KdrunSweeper(Sweeper):
    """Chooses the jobs of a sweep as the configuration's `sweep` says.

    Args:
        params: settings to sweep over that a config gives, as Hydra's own sweeper takes them.
        max_batch_size: how many jobs a grid composes at once, likewise.
    """

    def __init__(self, params: dict[str, str] | None, max_batch_size: int | None) -> None:
        self.params, self.max_batch_size = params, max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what jobs need to be composed and run."""
        from kdrun.config.instantiation import instantiate  # Hydra loads its plugins at every start
        from kdrun.sweeps.search.context import SweepContext  # Hydra loads its plugins at every start

        launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function,
                                                           config=config)
        self.context = SweepContext(hydra_context, task_function, config, launcher, dict(self.params or {}),
                                    self.max_batch_size)
        node: Any = OmegaConf.to_container(config.sweep, resolve=True)
        self.search = instantiate(node, "search")

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs; returns what Hydra's callbacks get."""
        return self.search.run(self.context, arguments)


ConfigStore.instance().store(group="hydra/sweeper", name="kdrun", provider="kdrun",
                             node={"_target_": f"{__name__}.{KdrunSweeper.__name__}", "params": None, "max_batch_size": None})
