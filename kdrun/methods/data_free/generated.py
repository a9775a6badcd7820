"""What the methods share whose pictures a generator makes."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run
from kdrun.models.generator import Ending, Generator
from kdrun.models.roles import Networks
from kdrun.utils.seeding import generator


class Generated(Method):
    """A generator that learns beside the student, from noise: the training pictures are never read.

    Args:
        noise: numbers that a picture is made of.
        width: of the generator.
        batch_size: of noise.
        steps: batches an epoch.
        generator_lr: of the generator's Adam; follows the recipe's schedule.
        student_lr: of the student's Adam, without decay, likewise; None for the recipe's optimizer.
        ending: of the generator.
        eps: of the generator's inner normalisations.
        draws: of noise for each place in a batch; the batch's noise is [B, noise] for one, [B, draws, noise] for more.
    """

    needs = ("pictures", "one row a sample")

    generator: Generator

    def __init__(self, *, noise: int, width: int, batch_size: int, steps: int, generator_lr: float,
                 student_lr: float | None, ending: Ending, eps: float = 1e-5, draws: int = 1) -> None:
        super().__init__()
        self.noise, self.width, self.batch_size, self.steps = noise, width, batch_size, steps
        self.generator_lr, self.student_lr = generator_lr, student_lr
        self.ending, self.eps, self.draws = ending, eps, draws

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the generator."""
        self.generator = self.new_generator(networks, data)

    def new_generator(self, networks: Networks, data: Data, classes: int = 0) -> Generator:
        """One with first weights; of so many classes, or of none."""
        return Generator(noise=self.noise, shape=data.shape, width=self.width, ending=self.ending, eps=self.eps,
                         classes=classes).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One phase, of noise."""
        self.setup(run.networks, run.data)
        shape = [self.noise] if self.draws == 1 else [self.draws, self.noise]
        yield Phase(data=run.noise(shape, batch_size=self.batch_size, steps=self.steps))

    def failure(self) -> tuple[str, str] | None:
        """A generator is dead when it makes the same picture of whatever noise, or NaN."""
        place = next(self.generator.parameters()).device
        noise = torch.randn(16, self.noise, generator=generator("ailing")).to(place)
        asked: list[Tensor] = [torch.zeros(16, dtype=torch.int64, device=place)] if self.generator.classes else []
        self.generator.eval()  # the loop sets it to learn again
        with torch.no_grad():
            pictures = self.generator(noise, *asked)
        remedy = "try a smaller method.generator_lr or recipe.clip=5"
        if not bool(torch.isfinite(pictures).all()):
            return "the generator's pictures hold NaN or infinity", remedy
        if float(pictures.std(dim=0).max()) <= 1e-4 * float(pictures.std()):
            return "the generator is dead, it makes the same picture of whatever noise", remedy
        return None

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The generator and the student."""
        return {"generator": [self.generator], "student": [networks.student]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the generator, and for the student where the method has a rate for it."""
        lr = {"generator": self.generator_lr, "student": self.student_lr}.get(player)
        return recipe.build(weights) if lr is None else torch.optim.Adam(weights, lr=lr)
