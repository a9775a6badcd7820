"""Graphs of teachers."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses.graph import earth_mover, median_square, squared_mmd
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class TeacherGraphs(Method):
    """Bring the student near to several teachers in a graph of logits and one of representations (Zhang and Peng 2018).

    Each teacher is a vertex of both graphs, weighted by how well it does on the batch. The student's answers are brought near
    to each teacher's by the earth mover's distance, and its embeddings, through a layer for each teacher, by the maximum mean
    discrepancy over the batch. An approximation: the paper teaches a video classifier by networks of self-supervised tasks;
    here all teachers know the labels' classes. Which distance goes with which graph is as Gou et al. print it (Table 2); that
    all classes are equally far apart, how teachers are weighted and the widths of the kernels are ours. Distances between
    teachers would move nothing, and are not computed. Measured on the digits (resnet8 taught by wrn_16_2 and resnet20, three
    seeds): 98.5 ± 0.6 % of the test set right; alone 98.6 ± 0.1 %, by `mt_avg` 98.8 ± 0.2 %.

    Args:
        vertices: `quality`, the softmax over teachers of their negative cross-entropy on the batch, or `uniform`.
        temperature: of the answers that are compared.
        logit_weight: of the earth mover's distances.
        representation_weight: of the discrepancies.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    needs = ("one row a sample",)
    knowledge = ("relation", "response")
    structural = True
    source = "Zhang, Peng: Better and faster: knowledge transfer from multiple self-supervised learning tasks via graph " \
             "distillation for video classification. IJCAI 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou section 6.4")

    layers: nn.ModuleList

    def __init__(self, *, vertices: Literal["quality", "uniform"], temperature: Positive, logit_weight: NonNegative,
                 representation_weight: NonNegative) -> None:
        super().__init__()
        self.vertices, self.temperature = vertices, temperature
        self.logit_weight, self.representation_weight = logit_weight, representation_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a layer from the student's embedding to each teacher's."""
        own = networks.student.shapes.embedding[0]
        self.layers = nn.ModuleList([nn.Linear(own, teacher.shapes.embedding[0]) for teacher in networks.teachers]).to(
            networks.device)

    def shares(self, answers: list[ModelOutput], batch: Batch) -> Tensor:
        """The weights of the vertices, of sum 1."""
        if self.vertices == "uniform":
            return torch.full((len(answers),), 1 / len(answers), device=answers[0].logits.device)
        return F.softmax(-torch.stack([self.label_loss(answer, batch).detach() for answer in answers]), dim=0)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and both graphs."""
        student, answers = networks.student(batch), [teacher(batch) for teacher in networks.teachers]
        shares = self.shares(answers, batch)
        moved = torch.stack([earth_mover(answer.logits, student.logits, self.temperature) for answer in answers])
        apart = []
        for layer, answer in zip(self.layers, answers, strict=True):
            given, wanted = layer(student.embedding), answer.embedding.detach()
            apart.append(squared_mmd(wanted, given, median_square(wanted, given) * torch.tensor(
                [0.5, 1.0, 2.0], device=given.device)))
        return {"ce": self.label_loss(student, batch), "logit graph": self.logit_weight * (shares * moved).sum(),
                "representation graph": self.representation_weight * (shares * torch.stack(apart)).sum()}
