"""Data-free amalgamation of several teachers by two stacks of generators."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.data_free.dafl import activation, balance, one_hot
from kdrun.methods.data_free.generated import Generated
from kdrun.methods.losses import kl, soft_cross_entropy
from kdrun.methods.losses.amalgamation import joined_logits
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class Filter(nn.Module):
    """What one teacher gets to see of a map: channels weighed by what the whole map is like, brought into the teacher's form.

    Args:
        channels: of the map.
        wanted: (channels, height, width) of the teacher's.
    """

    def __init__(self, channels: int, wanted: torch.Size) -> None:
        super().__init__()
        self.size = wanted[1:]
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.Sigmoid())
        self.last = nn.Conv2d(channels, wanted[0], 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, C, H, W] as those of the teacher are after an activation."""
        weighed = maps * self.gate(maps.mean(dim=(2, 3)))[:, :, None, None]
        return F.relu(self.last(F.interpolate(weighed, self.size)))


class DualGAN(Generated):
    """Learn the classes of several teachers from generated pictures and maps alone, block by block (Ye et al. 2020).

    No training picture is read. First a generator learns as DAFL's does, from the teachers' logits side by side, and has the
    later stages of every teacher see in its inner maps, filtered for that teacher, what the teachers see in the picture.
    Then the student, the second generator of the paper, learns stage by stage: each stage's map, filtered for each teacher,
    has to make the rest of this teacher answer as it answers the picture, while the stages before rest. At last the whole
    student matches the logits side by side.

    A reduced form: there is no public code, and this follows a description of the paper. There, classes are several a
    picture, told by a threshold, with a term that keeps answers sparse, which is constant where they sum to one as here;
    stages learn from the first generator's maps too; the student's branches are filters of what the stages before the
    last give, where here one head answers for all teachers. All numbers are ours, and what it reaches was not measured.

    Args:
        noise: numbers that a picture is made of.
        width: channels of the generator's first maps.
        batch_size: pictures a step.
        steps: steps an epoch.
        generator_epochs: of the generator.
        block_epochs: of each stage of the student before the last.
        generator_lr: of the Adam of generator and filters.
        student_lr: of the student's Adam; null for the recipe's optimizer.
        one_hot_weight: of the certainty.
        activation_weight: of the strength of the teachers' embeddings, their mean.
        balance_weight: of the balance of classes.
        inner_weight: of what the teachers see in the generator's inner maps.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    partial_teachers = True
    knowledge = ("response", "feature")
    plain_logits = "trains its generator by how sure the teachers are"
    source = "Ye, Ji, Wang, Gao, Song: Data-free knowledge amalgamation via group-stack dual-GAN. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6",)

    inner: nn.ModuleList
    filters: nn.ModuleList

    def __init__(self, *, noise: AtLeastOne, width: AtLeastOne, batch_size: AtLeastOne, steps: AtLeastOne,
                 generator_epochs: Epochs, block_epochs: Epochs, generator_lr: Positive, student_lr: Positive | None,
                 one_hot_weight: NonNegative, activation_weight: NonNegative, balance_weight: NonNegative,
                 inner_weight: NonNegative) -> None:
        super().__init__(noise=noise, width=width, batch_size=batch_size, steps=steps, generator_lr=generator_lr,
                         student_lr=student_lr, ending="tanh")
        self.generator_epochs, self.block_epochs, self.block = generator_epochs, block_epochs, 0
        self.one_hot_weight, self.activation_weight = one_hot_weight, activation_weight
        self.balance_weight, self.inner_weight = balance_weight, inner_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the generator, and filters for its inner maps and for the student's stages before the last.

        Raises:
            ValueError: networks of unlike numbers of stages, or of one.
        """
        super().setup(networks, data)
        shapes = [role.shapes.stages for role in networks.teachers]
        own = networks.student.shapes.stages
        if len(own) < 2 or any(len(stages) != len(own) for stages in shapes):
            told = ", ".join(str(len(stages)) for stages in shapes)
            raise ValueError(f"it goes stage by stage, and the student has {len(own)} stages and the teachers {told}; take "
                             "networks of as many stages, two at least")
        self.depth = len(own)
        # the first map of the generator stands for what comes before a teacher's last stage, the second for one earlier
        self.starts = [stage for stage in (self.depth - 1, self.depth - 2) if stage]
        self.inner = nn.ModuleList([nn.ModuleList([Filter(self.width, stages[start - 1]) for stages in shapes])
                                    for start in self.starts])
        self.filters = nn.ModuleList([nn.ModuleList([Filter(own[stage][0], stages[stage]) for stages in shapes])
                                      for stage in range(self.depth - 1)])
        self.to(networks.device)
        self.numbers, self.classes = [role.task.numbers for role in networks.teachers], networks.student.shapes.logits[0]

    def phases(self, run: Run) -> Iterator[Phase]:
        """The generator, the student's stages, and the whole student."""
        self.setup(run.networks, run.data)
        noise, student = run.noise([self.noise], batch_size=self.batch_size, steps=self.steps), run.networks.student
        yield Phase("generator", data=noise, epochs=self.generator_epochs, evaluate=False)
        before: list[nn.Module] = []
        for stage, filters in enumerate(self.filters):
            self.block = stage
            parts = student.until(stage + 1)
            new = [part for part in parts if all(part is not known for known in before)]
            yield Phase(f"stage {stage + 1}", data=noise, epochs=self.block_epochs, train=[*new, filters],
                        loss=self.block_loss, evaluate=False)
            before = parts
        yield Phase(data=noise, loss=self.imitate, train=[student])

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Of the first phase: the generator with the filters of its maps."""
        return {"generator": [self.generator, *([self.inner] if self.inner_weight else [])]}

    def joined(self, answers: Sequence[ModelOutput]) -> Tensor:
        """The teachers' logits side by side [B, K]."""
        return joined_logits([answer.logits for answer in answers], self.numbers, self.classes)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The generator by the teachers' answers to its pictures and inner maps."""
        *maps, pictures = self.generator.stack(batch.tensor)
        answers = [teacher(pictures) for teacher in networks.teachers]
        logits = self.joined(answers)
        terms = {"one_hot": self.one_hot_weight * one_hot(logits),
                 "activation": self.activation_weight * torch.stack([activation(one.embedding) for one in answers]).mean(),
                 "balance": self.balance_weight * balance(logits, "log10")}
        if self.inner_weight:
            seen = [self.joined([teacher.onward(own(part), start) for own, teacher in
                                 zip(filters, networks.teachers, strict=True)])  # type: ignore[call-overload]
                    for part, start, filters in zip(maps, self.starts, self.inner, strict=False)]
            terms["inner"] = self.inner_weight * torch.stack([soft_cross_entropy(logits, one) for one in seen]).mean()
        yield "generator", terms

    def made(self, noise: Tensor) -> Tensor:
        """Pictures of the generator, which has learnt."""
        with torch.no_grad():
            return self.generator.eval()(noise)

    def block_loss(self, networks: Networks, batch: Batch) -> Terms:
        """What the rest of each teacher says to the map of the present stage."""
        pictures, filters = self.made(batch.tensor), self.filters[self.block]
        maps = networks.student(pictures).stages[self.block]
        assert isinstance(filters, nn.ModuleList)
        return {"stage": torch.stack([soft_cross_entropy(teacher(pictures).logits,
                                                         teacher.onward(own(maps), self.block + 1).logits)
                                      for own, teacher in zip(filters, networks.teachers, strict=True)]).sum()}

    def imitate(self, networks: Networks, batch: Batch) -> Terms:
        """The teachers' logits side by side."""
        pictures = self.made(batch.tensor)
        return {"kd": kl(self.joined([teacher(pictures) for teacher in networks.teachers]),
                         networks.student(pictures).logits)}
