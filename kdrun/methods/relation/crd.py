"""Contrastive representation distillation."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses import kd, unit_rows
from kdrun.methods.losses.ordering import crd
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class Drawer:
    """Draws rows of the training split: of a sample's own class, or of all the others.

    Args:
        labels: [N] of the training split.

    Raises:
        ValueError: all of them are equal.
    """

    def __init__(self, labels: Tensor) -> None:
        self.order = labels.argsort(stable=True)  # rows class by class
        self.count = labels.bincount()
        self.start = self.count.cumsum(0) - self.count
        if int((self.count > 0).sum()) < 2:
            raise ValueError("contrastive distillation needs training samples of at least two classes")

    def negatives(self, labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """For labels [B], rows [B, count] of other classes; without repetition where there are enough of them."""
        total, draws = len(self.order), []
        for label in labels.tolist():
            own, pool = int(self.count[label]), total - int(self.count[label])
            places = torch.randint(pool, (count,), generator=generator) if count > pool \
                else torch.randperm(pool, generator=generator)[:count]
            draws.append(places + own * (places >= self.start[label]))  # leap over the block of the own class
        return self.order[torch.stack(draws)]

    def relatives(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """For labels [B], a row [B] of the same class."""
        places = (torch.rand(len(labels), generator=generator, dtype=torch.float64) * self.count[labels]).long()
        return self.order[self.start[labels] + places]


class CRD(ScaledWeights):
    """Tell the teacher's embedding of the same picture from those of other classes (Tian et al. 2020).

    Student and teacher each have a linear embedding, both trained, and a memory of every training sample's last
    embedding, a running mean. The student's present embedding is compared with the teacher's memory and the other way
    round. As in the authors' code, the normalisation of each critic is set once, from the first batch.

    The authors' weight is for the 100 classes of CIFAR-100 (public code takes 0.2 for the 10 of CIFAR-10), and goes with the
    number of classes here. Taken as it is for 10 it drowns the labels: 95.3 ± 1.5 % on the digits (resnet8 taught by wrn_16_2,
    three seeds), 98.7 ± 0.5 % scaled, where the baseline has 98.6 ± 0.1 %.

    Args:
        weight: of the contrast of both sides.
        reference: for how many classes `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers, for the form that the authors call CRD+KD.
        temperature: of the softened answers.
        features: of the embeddings.
        negatives: for each sample; where there are fewer of other classes, they repeat.
        sharpness: the temperature that similarities are divided by.
        momentum: of the memories.
        positive: `exact` compares with the same sample, `relax` with one of its class.
    """

    needs = ("one row a sample", "sample labels")
    knowledge = ("feature", "relation")
    source = "Tian, Krishnan, Isola: Contrastive representation distillation. ICLR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou 4",)

    student_memory: Tensor
    teacher_memory: Tensor
    student_scale: Tensor
    teacher_scale: Tensor

    def __init__(self, *, weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling, ce_weight: NonNegative,
                 kd_weight: NonNegative, temperature: Positive, features: AtLeastOne, negatives: AtLeastOne,
                 sharpness: Positive, momentum: Proportion, positive: Literal["exact", "relax"]) -> None:
        super().__init__()
        self.weight, self.ce_weight, self.kd_weight, self.temperature = weight, ce_weight, kd_weight, temperature
        self.features, self.negatives, self.sharpness, self.momentum = features, negatives, sharpness, momentum
        self.positive, self.reference, self.scaling = positive, reference, scaling

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the embeddings and the memories.

        Raises:
            ValueError: the training split has one class only.
        """
        self.rescale(networks.student.shapes.logits[0])
        self.drawer = Drawer(data.train.labels.cpu())
        place = networks.device
        self.student_embedding = nn.Linear(networks.student.shapes.embedding[0], self.features).to(place)
        self.teacher_embedding = nn.Linear(networks.teacher.shapes.embedding[0], self.features).to(place)
        spread = (3 / self.features) ** 0.5  # uniform numbers up to this make rows about as long as 1
        for side in ("student", "teacher"):
            memory = torch.empty(len(data.train), self.features).uniform_(-spread, spread)
            self.register_buffer(f"{side}_memory", memory.to(place))
            self.register_buffer(f"{side}_scale", torch.zeros((), device=place))  # 0: not set yet

    def scores(self, vectors: Tensor, memory: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
        """Critic values [B, 1 + K] of vectors [B, D] for rows [B, 1 + K] of a memory [N, D]; sets an unset scale."""
        # against the whole memory: gathering B*(1+K) rows of it first would take K/N times as much of everything
        similar = ((vectors @ memory.T) / self.sharpness).gather(1, rows).exp()
        scale.copy_(torch.where(scale > 0, scale, similar.detach().mean() * len(memory)))
        return similar / scale

    def embedded(self, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """Student's and teacher's embeddings [B, D], of length one."""
        return (unit_rows(self.student_embedding(networks.student(batch).embedding)),
                unit_rows(self.teacher_embedding(networks.teacher(batch).embedding.detach())))

    def contrasts(self, student: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        """Both sides: each embedding [B, D] against rows [B, 1 + K] of the other's memory."""
        total = len(self.student_memory)
        return crd(self.scores(student, self.teacher_memory, rows, self.student_scale), total) \
            + crd(self.scores(teacher, self.student_memory, rows, self.teacher_scale), total)

    @torch.no_grad()
    def remember(self, memory: Tensor, index: Tensor, vectors: Tensor) -> None:
        """Move the rows [B] of a memory towards these vectors [B, D]."""
        memory[index] = unit_rows(self.momentum * memory[index] + (1 - self.momentum) * vectors.detach())

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """One update; then what was seen is remembered, so that no sample is compared with itself of this step."""
        output, vectors = networks.student(batch), self.embedded(networks, batch)
        labels = batch.labels.cpu()
        first = batch.rows[:, None] if self.positive == "exact" \
            else self.drawer.relatives(labels, self.random)[:, None].to(batch.x.device)
        others = self.drawer.negatives(labels, self.negatives, self.random).to(batch.x.device)
        terms = {"ce": self.ce_weight * self.label_loss(output, batch),
                 "crd": self.scale * self.weight * self.contrasts(*vectors, torch.cat([first, others], dim=1))}
        if self.kd_weight:
            terms["kd"] = self.kd_weight * kd(networks.teacher(batch).logits, output.logits, self.temperature)
        yield "student", terms
        self.remember(self.student_memory, batch.rows, vectors[0])
        self.remember(self.teacher_memory, batch.rows, vectors[1])
