"""Information-flow modelling."""

from collections.abc import Iterator
from typing import ClassVar

import torch

from kdrun.config.constraints import Fraction, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses.relation import hkd_flow
from kdrun.models.roles import Networks, frozen


class HKDFlow(Method):
    """Match how the samples of a batch go together, layer by layer, most of all early in training (Passalis et al. 2020b).

    The affinities of a batch are followed through the layers: the divergence is taken at every stage and at the embedding,
    and that of the stages counts `early_weight` times `decay` to the power of the epoch. Layers of heterogeneous networks do
    not correspond, so first an auxiliary network of the student's depth learns from the teacher at its embedding alone, and
    then teaches the student. Channels and sizes may differ.

    The authors train for retrieval, the auxiliary first with labels and then by the divergence alone, the student by the
    divergence alone, both with Adam at 1e-3. Here both learn from labels too, in one phase each by the recipe, which a
    classifier needs; the overall weight is this project's.

    Args:
        auxiliary: the network in between, of as many stages as the student; null where the teacher has as many itself.
        weight: of the divergence, averaged over all pairs of a batch.
        early_weight: of the stages at the start, against 1 of the embedding.
        decay: of that with every epoch.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps",)
    knowledge = ("relation",)
    source = "Passalis, Tzelepi, Tefas: Heterogeneous knowledge distillation using information flow modeling. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou 2",)

    def __init__(self, *, auxiliary: NetworkName | None, weight: NonNegative, early_weight: NonNegative, decay: Fraction,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.auxiliary, self.weight, self.ce_weight = auxiliary, weight, ce_weight
        self.early_weight, self.decay = early_weight, decay

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that the stages of the student and of who teaches it pair up.

        Raises:
            ValueError: they do not.
        """
        networks.paired_stages("the flow of information", hint="method.auxiliary names a network of the student's stages")

    def prepare(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and embedding: what the auxiliary learns."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "flow": self.weight * hkd_flow(teacher.embedding, student.embedding)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The auxiliary, then the student."""
        if self.auxiliary is not None:
            student = run.networks.student
            run.networks.student = run.factory.named(self.auxiliary, "auxiliary")
            yield Phase(f"auxiliary {self.auxiliary}", loss=self.prepare)
            run.networks.teachers = [frozen(run.networks.student)]
            run.networks.student = student
        self.setup(run.networks, run.data)
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, the embedding, and the stages."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        stages = [hkd_flow(wanted.flatten(1), given.flatten(1))
                  for wanted, given in zip(teacher.stages, student.stages, strict=True)]
        early = self.early_weight * self.decay**batch.epoch
        return self.prepare(networks, batch) | {"early flow": self.weight * early * torch.stack(stages).sum()}
