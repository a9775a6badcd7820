"""What a search works with: composing jobs, launching them, and what came of each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from kdrun.config import method_settings
from kdrun.config.schema import Settings

__all__ = ["Search", "SweepContext"]

MANY = 1_000_000  # jobs, more than any launcher runs at once


class Search(Protocol):
    """What `sweep` names. Its settings are the arguments of its class.

    Attributes:
        extra: the extra of kdrun that brings what it needs, and the package that it needs; None for nothing.
    """

    extra: ClassVar[tuple[str, str] | None]

    def run(self, context: "SweepContext", words: Sequence[str]) -> Any:
        """Run the jobs that the words of a command line ask for."""

    def problems(self, settings: Settings) -> list[str]:
        """What cannot be, given all settings: a line each."""


@dataclass
class SweepContext:
    """All that Hydra knows of a sweep.

    Attributes:
        context: loads configurations.
        task: what Hydra calls for each job.
        config: the configuration without what the sweep varies.
        launcher: runs jobs.
        params: settings to sweep over that a config gives.
        most: how many jobs a grid composes at once.
        launched: how many jobs there were so far.
    """

    context: HydraContext
    task: Any
    config: DictConfig
    launcher: Launcher
    params: dict[str, str] = field(default_factory=dict)
    most: int | None = None
    launched: int = 0

    @property
    def folder(self) -> Path:
        """Where this sweep keeps what came of its jobs."""
        return Path(self.config.hydra.sweep.dir)

    @property
    def settings(self) -> Settings:
        """The settings without what the sweep varies."""
        return Settings.read(self.config, self.config.hydra.runtime.choices)

    def settings_of(self, words: Sequence[str]) -> Settings:
        """The settings of a job with these words."""
        cfg = self.context.config_loader.load_sweep_config(self.config, list(words))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = "composed", 0
        return Settings.read(cfg, cfg.hydra.runtime.choices)

    def method_of(self, words: Sequence[str]) -> str:
        """The method of a job with these words."""
        if (method := method_settings.chosen(words)) is not None:
            return method
        return str(self.context.config_loader.load_sweep_config(self.config, list(words)).hydra.runtime.choices["method"])

    def launch(self, jobs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """Run jobs, given by their words, and return what is on record of each."""
        first = self.launched
        self.launched += len(jobs)
        answers: Sequence[JobReturn] = self.launcher.launch([list(words) for words in jobs], initial_job_idx=first)
        for answer in answers:
            answer.return_value  # noqa: B018  raises what a job raised beyond its own failures
        return [json.loads((self.folder / "jobs" / f"{first + place}.json").read_text()) for place in range(len(jobs))]

    @property
    def at_once(self) -> int:
        """How many jobs the launcher runs at once, as far as it tells."""
        slots = getattr(getattr(self.launcher, "launcher", None), "slots", None)
        return len(slots(self.launcher.sweep, MANY)) if slots is not None else 1  # type: ignore[attr-defined]
