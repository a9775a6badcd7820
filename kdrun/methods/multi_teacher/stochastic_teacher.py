"""A teacher of many sub-networks."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch

from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.shapes import Curriculum
from kdrun.models.roles import Networks, frozen
from kdrun.models.stochastic import StochasticBlock


class StochasticTeacher(Curriculum):
    """Teach each batch by another sub-network of one teacher, made by leaving out residual blocks (Lee et al. 2019).

    The teacher is trained with stochastic depth, so that its sub-networks answer too; in each step of the student every
    block is left out by chance, as probably as in the teacher's training, and what is left teaches by the base method,
    whatever that compares. Where every block is kept this is the base method.

    An approximation: the paper was not at hand beyond its abstract, so the probabilities (those of stochastic depth) and
    the base's weights are not checked against it. It is of deep teachers: of few blocks, each that is left out is missed, the
    more so where the teacher had few steps to learn without it.

    Args:
        base: the method of each step; Hinton's, or one that compares maps, as `method/base=at`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures",)
    knowledge = ("response", "feature")
    source = "Lee, Nguyen, Shim: Stochasticity and skip connections improve knowledge transfer. AAAI 2019"
    survey_scheme = "online"
    survey_tables = ("Gou 3",)
    cautions: ClassVar = {
        "offline": "it was measured below the student alone where the teacher is shallow and had few steps: on 200 digits "
                   "resnet8 taught by a wrn_16_2 of survival 0.8 ended at 91.7 ± 0.8 %, by one of 0.5 at 71.9 ± 8.7 %, alone "
                   "at 95.1 ± 0.1 % (three seeds)"}

    def __init__(self, *, base: Method) -> None:
        super().__init__(base=base)
        self.blocks: list[StochasticBlock] = []  # of the teacher; not a ModuleList, for it is in no checkpoint

    def phases(self, run: Run) -> Iterator[Phase]:
        """The base's, by a copy of the teacher, whose answers nobody remembers.

        Raises:
            ValueError: the teacher has no block that can be left out.
        """
        sampled = frozen(run.networks.teacher)
        sampled.compiled = False  # it is another network in every step
        self.blocks = [block for block in sampled.modules() if isinstance(block, StochasticBlock)]
        if not self.blocks:
            raise ValueError(f"the teacher {sampled.model} has no blocks that can be left out; take one of stochastic depth, "
                             "as teacher=wrn_16_2_stochastic")
        run.networks.teachers = [sampled]
        for phase in self.base.phases(run):
            if phase.loss is not None:
                phase.loss = self.sampling(phase.loss)
            yield phase

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The base's updates, by a sub-network that is drawn before."""
        self.draw()
        yield from super().step(networks, batch)

    def sampling(self, loss: Callable[[Networks, Batch], Terms]) -> Callable[[Networks, Batch], Terms]:
        """A loss by a sub-network that is drawn before."""
        def drawn(networks: Networks, batch: Batch) -> Terms:
            self.draw()
            return loss(networks, batch)

        return drawn

    def draw(self) -> None:
        """Leave out blocks anew."""
        chances = torch.rand(len(self.blocks), generator=self.random).tolist()
        for block, chance in zip(self.blocks, chances, strict=True):
            block.dropped = chance >= block.survival
