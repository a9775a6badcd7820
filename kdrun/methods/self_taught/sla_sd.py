"""Self-supervised label augmentation with self-distillation."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.views import Views, aggregated, joint_labels, view_count, views_of
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role


class Aggregate(nn.Module):
    """The joint head's answer, averaged over all views of a picture: as many passes as there are views.

    Args:
        student: whose trunk it is.
        joint: from embeddings to logits of class and view together.
        kind: of views.
    """

    def __init__(self, student: Role, joint: nn.Module, kind: Views) -> None:
        super().__init__()
        self.network, self.joint, self.kind = student.network, joint, kind
        self.model = f"{student.model}, {view_count(kind)} views"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"network": self.network, "joint": self.joint}

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        answer = self.network(views_of(pictures, self.kind))
        return ModelOutput(aggregated(self.joint(answer.embedding), view_count(self.kind)), answer.embedding[:len(pictures)])


class SLA(Method):
    """Learn class and transformation together, and teach the plain classifier what all views say together (Lee et al. 2020).

    Each picture is seen in M views, turned or with its colours in another order. A second head on the student's embedding
    tells all K * M pairs of class and view apart. Its mean answer over the views, each asked about the classes in its own
    view, is the better answer; the student's classifier learns it from the picture as it is, beside the labels. The second
    head is dropped; with it, as one more product, `aggregated` takes M passes a picture. Batches are M times as large.

    Cited by Gou et al. as the preprint of 2019. Some digits look like others when turned (a six is a nine upside down, a
    zero is a zero), which costs the joint head and is no fault. Measured on the digits (resnet8, default recipe, three
    seeds): 98.7 ± 0.1 % of the test set right and 98.8 ± 0.1 % by all views, the student alone 98.6 ± 0.1 %.

    Args:
        views: of a picture, by the names of the authors' code.
        joint_weight: of the cross-entropy of class and view; the number of views for what the authors call the large loss.
        temperature: softens both answers.
        kd_weight: of the soft term, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("response",)
    plain_logits = "trains a second head by the labels"
    source = "Lee, Hwang, Shin: Self-supervised label augmentation via input transformations. ICML 2020"
    survey_scheme = "self"
    survey_tables = ("Gou section 4.3",)

    joint: nn.Module

    def __init__(self, *, views: Views, joint_weight: NonNegative, temperature: Positive, kd_weight: NonNegative) -> None:
        super().__init__()
        self.views, self.joint_weight, self.temperature, self.kd_weight = views, joint_weight, temperature, kd_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the joint head."""
        shapes = networks.student.shapes
        self.joint = nn.Linear(shapes.embedding[0], shapes.logits[0] * view_count(self.views)).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One."""
        self.setup(run.networks, run.data)
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, labels with views, and what all views say together."""
        views = view_count(self.views)
        answer = networks.student(views_of(batch.pictures, self.views))
        plain, joint = answer.replace(logits=answer.logits[:len(batch)]), self.joint(answer.embedding)
        return {"ce": self.label_loss(plain, batch),
                "joint": self.joint_weight * F.cross_entropy(joint, joint_labels(batch.labels, views)),
                "kd": self.kd_weight * kd(aggregated(joint, views), plain.logits, self.temperature)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and all its views together."""
        return {"student": networks.student, "aggregated": Aggregate(networks.student, self.joint, self.views)}
