"""What is measured: two networks, random pictures in memory, and the experiment that kdrun makes of them."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from kdrun.bench.measure import Clock
from kdrun.config import registry
from kdrun.config.registration import register
from kdrun.config.schema import Settings
from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.experiment import Experiment
from kdrun.models.configured import teacher_specs
from kdrun.utils.progress import Progress

__all__ = ["Subject", "random_pictures"]

CLASSES = 100


@cache
def random_pictures(*, count: int, side: int) -> Source:
    """Noise in the form of a data set: what it shows does not matter to the time it takes."""
    draws = torch.Generator().manual_seed(0)

    def part(number: int) -> Samples:
        return Samples(torch.randint(256, (number, side, side, 3), generator=draws, dtype=torch.uint8),
                        torch.arange(number) % CLASSES)

    return Source(part(count), part(max(count // 5, CLASSES)), tuple(map(str, range(CLASSES))))


@dataclass
class Subject:
    """What is measured, and how often.

    Attributes:
        teacher: the name of its network.
        student: likewise.
        side: of the pictures, in pixels.
        samples: pictures, a tenth of which is the validation split.
        batch_size: of a step.
        threads: of the CPU.
        rounds: how often each thing is measured, in turns with what it is compared with.
        steps: of a round.
        device: as configured.
        folder: for what is written meanwhile.
        words: further settings of every experiment.
    """

    teacher: str
    student: str
    side: int
    samples: int
    batch_size: int
    threads: int
    rounds: int
    steps: int
    device: str
    folder: Path
    words: tuple[str, ...] = ()

    def settings(self, method: str, *words: str) -> Settings:
        """A run's settings, by the recipe of most comparisons."""
        register([])
        asked = [f"method={method}", f"teacher={self.teacher}", f"student={self.student}", "recipe=standard", "recipe.epochs=1",
                 "recipe.init_epochs=1", f"recipe.batch_size={self.batch_size}", f"threads={self.threads}",
                 f"device={self.device}", f"outputs={self.folder}", *self.words, *words]
        with initialize_config_dir(str(registry.shipped()), version_base="1.3", job_name="kdrun"):
            cfg = compose("config", overrides=asked, return_hydra_config=True)
        settings = Settings.read(cfg, cfg.hydra.runtime.choices)
        data = {"_target_": f"{__name__}.random_pictures", "count": self.samples, "side": self.side, "name": "noise",
                "validation": 0.1, "split_seed": 0, "train_limit": None, "crop": 4, "flip": True, "mean": None, "std": None}
        return Settings({**settings.values, "dataset": data}, settings.choices)

    @cached_property
    def plain(self) -> Experiment:
        """A student trained by its labels; all other experiments share its data."""
        return Experiment.prepare(self.settings("vanilla"), Progress(None))

    def experiment(self, method: str, *words: str) -> Experiment:
        """An experiment that is ready to run.

        Raises:
            ConfigError: something does not fit together.
        """
        settings = self.settings(method, *words)
        made = replace(self.plain, settings=settings, teacher_specs=teacher_specs(settings, self.plain.data), trained={},
                       extra_tables={}, memories=[])
        made.rehearse()
        return made

    @cached_property
    def batches(self) -> list[Batch]:
        """A few batches, made beforehand."""
        stream = self.plain.data.stream(batch_size=self.batch_size, seed=1, device=self.plain.device)
        return [batch for batch, _ in zip(stream.epoch(0, 1), range(8), strict=False)]

    @property
    def clock(self) -> Clock:
        """What time counts."""
        return Clock(self.plain.device, self.threads)

    @property
    def pair(self) -> str:
        """Both networks, for people."""
        return f"{self.teacher} to {self.student}"

