"""Adaptive knowledge amalgamation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Epochs, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses.amalgamation import restricted, surest, unit_norms
from kdrun.methods.losses.arithmetic import row_mean, same_size
from kdrun.methods.multi_teacher.amalgamation import same_stages, student_samples
from kdrun.models.roles import Networks, Role, frozen


class Distillers(nn.Module):
    """Layers 1x1 that bring each stage of two networks into a space of half the teaching one's channels.

    Args:
        learner: shapes of the learning network's stages.
        teacher: of the teaching one's.
    """

    def __init__(self, learner: Sequence[torch.Size], teacher: Sequence[torch.Size]) -> None:
        super().__init__()
        halves = [max(1, shape[0] // 2) for shape in teacher]
        self.learner, self.teacher = (nn.ModuleList([
            nn.Conv2d(shape[0], half, 1, bias=False) for shape, half in zip(shapes, halves, strict=True)])
            for shapes in (learner, teacher))

    def forward(self, learner: Sequence[Tensor], teacher: Sequence[Tensor], rows: Tensor) -> Tensor:
        """The mean squared difference of these rows, summed over stages; 0 where there are none."""
        found = []
        for own, other, first, second in zip(self.learner, self.teacher, learner, teacher, strict=True):
            given, wanted = same_size(own(first[rows]), other(second[rows].detach()))
            found.append(row_mean((given - wanted).square()))
        return torch.stack(found).sum()

    def unit_norms(self) -> Tensor:
        """How far the rows of the teaching side are from length one, summed over stages."""
        return torch.stack([unit_norms(layer.weight) for layer in self.teacher]).sum()  # type: ignore[arg-type]


class AdaptiveAmalgam(Method):
    """Learn the classes of several teachers in two steps, by component networks between (Shen et al. 2019, ICCV).

    Teachers of the same classes form a group. First a component network, like the student but of the group's classes, learns
    each sample from the one of its teachers that is surest of it; then the student learns from all components. Both match
    logits by their squared difference, and maps stage by stage in a space that both sides are brought into by a layer 1x1,
    whose rows on the teaching side have to keep length one lest the space shrink to nothing. No label is read.

    The paper customizes a student for some attributes out of many tasks; here a task is a part of the classes. The authors'
    code adds the penalty of the rows once for each tapped layer, six times, which `norm_weight` would be here.

    Args:
        component_epochs: in which the components learn.
        map_weight: of the maps.
        logit_weight: of the logits.
        norm_weight: of the penalty of rows whose length is not one.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    partial_teachers = True
    needs = ("rows", "one row a sample", "sample labels", "maps")
    knowledge = ("response", "feature")
    source = "Shen, Xue, Wang, Song, Sun, Song: Customizing student networks from heterogeneous teachers via adaptive " \
             "knowledge amalgamation. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 3", "Gou section 6.2")
    cautions: ClassVar = {
        "offline": "it reads no label, and was measured below the student alone, which reads them all: taught by two wrn_16_2 "
                   "of five digits each resnet8 ended at 94.1 ± 2.9 %, alone at 98.6 ± 0.1 %; the logits of both side by side "
                   "are right on 93.7 ± 3.0 % (three seeds)"}

    distillers: nn.ModuleList
    between: dict[tuple[str, str], nn.Module]  # the same, by who learns and from whom

    def __init__(self, *, component_epochs: Epochs, map_weight: NonNegative, logit_weight: NonNegative,
                 norm_weight: NonNegative) -> None:
        super().__init__()
        self.component_epochs, self.map_weight = component_epochs, map_weight
        self.logit_weight, self.norm_weight = logit_weight, norm_weight
        self.lessons: list[tuple[Role, list[list[Role]]]] = []  # who learns at present, and from which groups

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the layers between those that learn at present and each of those they learn from."""
        pairs = [(learner, teacher) for learner, groups in self.lessons for group in groups for teacher in group]
        self.distillers = nn.ModuleList([Distillers(learner.shapes.stages, teacher.shapes.stages)
                                         for learner, teacher in pairs]).to(networks.device)
        self.between = {(learner.name, teacher.name): layers
                        for (learner, teacher), layers in zip(pairs, self.distillers, strict=True)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The components, each from its group of teachers; then the student from them."""
        networks = run.networks
        same_stages([networks.student, *networks.teachers])
        groups: dict[tuple[int, ...], list[Role]] = {}
        for teacher in networks.teachers:
            groups.setdefault(teacher.task.numbers, []).append(teacher)
        taught = list(groups.values())
        if self.component_epochs:
            spec = replace(run.factory.student_spec, checkpoint=None, start=False)
            networks.peers = [run.factory.build(replace(spec, classes=part), f"component {number}")
                              for number, part in enumerate(groups, start=1)]
            self.lessons = [(component, [group]) for component, group in zip(networks.peers, taught, strict=True)]
            self.setup(networks, run.data)
            yield Phase("components", data=student_samples(run), epochs=self.component_epochs, evaluate=False)
            networks.peers = [frozen(component) for component in networks.peers]
            taught = [[component] for component in networks.peers]
        self.lessons = [(networks.student, taught)]
        self.setup(networks, run.data)
        yield Phase(data=student_samples(run))

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Those that learn at present, each with its layers."""
        return {learner.name: [learner, *(layers for (name, _), layers in self.between.items() if name == learner.name)]
                for learner, _ in self.lessons}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of each component, or of the student."""
        for learner, groups in self.lessons:
            logits, maps, norms = [], [], []
            for group in groups:
                answers = [teacher(batch) for teacher in group]
                chosen = surest([answer.logits for answer in answers])
                for number, (teacher, answer) in enumerate(zip(group, answers, strict=True)):
                    given, layers = learner(batch), self.between[learner.name, teacher.name]
                    rows = (chosen == number).nonzero()[:, 0]
                    assert isinstance(layers, Distillers)
                    places = [learner.task.numbers.index(label) for label in teacher.task.numbers]
                    apart = restricted(given.logits, places)[rows] - answer.logits[rows]
                    share = len(rows) / len(batch)
                    logits.append(share * row_mean(apart.square()))
                    maps.append(share * layers(given.stages, answer.stages, rows))
                    norms.append(layers.unit_norms())
            yield learner.name, {"logits": self.logit_weight * torch.stack(logits).sum(),
                                 "maps": self.map_weight * torch.stack(maps).sum(),
                                 "norms": self.norm_weight * torch.stack(norms).sum()}
