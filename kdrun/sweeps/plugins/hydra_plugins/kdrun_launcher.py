"""The launcher that Hydra calls: it hands the jobs of a sweep to whatever `launch` names.

Hydra takes plugins from the namespace `hydra_plugins` alone, and imports all of them whenever it starts: keep this light.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

__all__ = ["KdrunLauncher"]


class KdrunLauncher(Launcher):
    """Runs the jobs of a sweep where the configuration's `launch` says."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what a job needs to be composed and run."""
        from kdrun.config.instantiation import instantiate  # Hydra loads its plugins at every start
        from kdrun.sweeps.launchers.base import Sweep  # Hydra loads its plugins at every start

        self.sweep = Sweep(hydra_context, task_function, config)
        settings: Any = OmegaConf.to_container(config.launch, resolve=True)
        self.launcher = instantiate(settings, "launcher")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; the answers come in their order."""
        from kdrun.sweeps.launchers.base import Job  # Hydra loads its plugins at every start

        jobs = [Job(initial_job_idx + place, tuple(words)) for place, words in enumerate(job_overrides)]
        scores = self.launcher.run(self.sweep, jobs)
        return [JobReturn(overrides=list(job.words), status=JobStatus.COMPLETED, _return_value=scores[job.number])
                for job in jobs]


ConfigStore.instance().store(group="hydra/launcher", name="kdrun", provider="kdrun",
                             node={"_target_": f"{__name__}.{KdrunLauncher.__name__}"})
