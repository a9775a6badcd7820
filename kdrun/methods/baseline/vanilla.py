"""Training alone."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.synthesis import discriminator_of, discriminator_optimizer, fooled, judged
from kdrun.models.fitted import FittedModel
from kdrun.models.roles import Networks
from kdrun.models.synthesis import PictureDiscriminator, pictures


class Vanilla(Method):
    """Cross-entropy with the labels: how the teacher and the baseline are trained, and what every method must beat.

    Where the task has another label loss it is that. A generator of pictures has none: it is trained against a
    discriminator, an update of each in turn, as a GAN (Goodfellow et al. 2014).
    """

    past_teaches = False
    knowledge = ()
    accepts_fitted_student = True
    source = "no distillation"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self) -> None:
        super().__init__()
        self.discriminator: PictureDiscriminator | None = None

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the discriminator, where the task has one."""
        if data.task.adversarial:
            self.discriminator = discriminator_of(data.task).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, by the labels or against a discriminator; none for a model that is made in one go."""
        self.setup(run.networks, run.data)
        student = run.networks.student.network
        if isinstance(student, FittedModel):
            data = run.data
            student.fit(data.whole(data.train, run.device), data.train.labels.to(run.device))
        else:
            yield Phase("train")

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The network, and the discriminator where there is one."""
        return {"student": [networks.student]} | ({} if self.discriminator is None else {"discriminator": [self.discriminator]})

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's; the discriminator has the task's."""
        return discriminator_optimizer(self.task, weights) if player == "discriminator" else recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The network by the labels; or the discriminator, then the network by the same pass."""
        if self.discriminator is None:
            yield from super().step(networks, batch)
            return
        made = pictures(networks.student(batch))
        yield "discriminator", judged(self.discriminator, made, batch, self.task)
        yield "student", {"adversarial": fooled(self.discriminator, made, batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The cross-entropy of the student."""
        return {"ce": self.label_loss(networks.student(batch), batch)}


class Trajectory(Vanilla):
    """The same training, to the same bytes, that keeps its weights on the way (the anchors of route-constrained learning).

    Args:
        count: how many states to keep, at equal distances; the last is the end.
        epochs: of the whole training.
    """

    def __init__(self, *, count: int, epochs: int) -> None:
        super().__init__()
        self.count, self.epochs = count, epochs
        self.states: list[dict[str, Tensor]] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """The parts of one phase: optimizer and schedule go on from each to the next."""
        self.setup(run.networks, run.data)
        ends = [round(self.epochs * part / self.count) for part in range(self.count + 1)]
        self.states = []
        for start, end in itertools.pairwise(ends):
            yield Phase("train", epochs=end - start, total=self.epochs)
            self.states.append(copy.deepcopy(run.networks.student.network.state_dict()))
