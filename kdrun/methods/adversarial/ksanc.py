"""Knowledge squeezed adversarial network compression."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.data.data import Data
from kdrun.methods.adversarial.anc import AdversarialCompression, Regulariser
from kdrun.methods.adversarial.discriminators import size_adapter
from kdrun.methods.base import Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


def squeezed(maps: Tensor, query: Tensor) -> Tensor:
    """The mean place of maps [B, C, H, W] by the attention that a query [B, C] pays to each: [B, C].

    Example:
        >>> maps = torch.tensor([[[[0.0, 8.0]], [[1.0, 3.0]]]])  # two channels, two places
        >>> squeezed(maps, torch.tensor([[0.0, 0.0]])), squeezed(maps, torch.tensor([[100.0, 0.0]]))
        (tensor([[4., 2.]]), tensor([[8., 3.]]))
    """
    places = maps.flatten(2)
    attention = torch.einsum("bc,bcp->bp", query, places) / places.shape[1] ** 0.5
    return torch.einsum("bp,bcp->bc", attention.softmax(dim=1), places)


class Squeeze(nn.Module):
    """Attention of a network's embedding [B, D] to the places of each of its maps.

    Args:
        size: D.
        channels: of each map.
    """

    def __init__(self, size: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.queries = nn.ModuleList([nn.Linear(size, wide) for wide in channels])

    def forward(self, output: ModelOutput) -> list[Tensor]:
        """Each map squeezed to a vector."""
        return [squeezed(maps, query(output.embedding)) for maps, query in zip(output.stages, self.queries, strict=True)]


class SqueezedCompression(AdversarialCompression):
    """Compress adversarially, with maps that attention has squeezed to vectors taught on the way (Shu et al. 2019).

    To adversarial network compression comes the squared difference of both networks' maps, stage by stage, each squeezed to
    one vector by the attention that the network's embedding pays to its places. The teacher's attention is driven by the
    task: by it, a classifier of the squeezed vectors learns what the teacher answers. It gets no gradient from the student,
    whose own attention learns with it.

    An approximation: the paper was not at hand beyond its abstract, which names intermediate supervision by knowledge that a
    task-driven attention squeezes; the form of this attention and all weights are ours. Measured on the digits (resnet8 taught
    by wrn_16_2, default recipe, three seeds): 98.9 ± 0.5 % of the test set right, without its own term 98.8 ± 0.3 %, the
    student alone, which has the labels, 98.6 ± 0.1 %.

    Args:
        squeeze_weight: of the squared difference, averaged over samples and channels, summed over stages; 0 leaves attention
            out altogether.
        logit_weight: see `AdversarialCompression`, like all below.
        gan_weight: likewise.
        dropout: likewise.
        regulariser: likewise.
        regulariser_weight: likewise.
        widths: likewise.
        discriminator_lr: likewise.
    """

    schemes = ("offline",)
    needs = ("maps", "one row a sample")
    knowledge = ("response", "feature")
    plain_logits = "has a classifier of maps learn what the teacher answers"
    source = "Shu, Li, Xie, Qu, Dai, Ma: Knowledge squeezed adversarial network compression. arXiv 1904.05100, 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1",)

    teacher_squeeze: Squeeze
    classifier: nn.Linear
    student_squeeze: Squeeze
    adapters: nn.ModuleList

    def __init__(self, *, squeeze_weight: NonNegative, logit_weight: NonNegative, gan_weight: NonNegative,
                 dropout: Proportion, regulariser: Regulariser, regulariser_weight: NonNegative, widths: list[AtLeastOne],
                 discriminator_lr: Positive) -> None:
        super().__init__(logit_weight=logit_weight, gan_weight=gan_weight, dropout=dropout, regulariser=regulariser,
                         regulariser_weight=regulariser_weight, widths=widths, discriminator_lr=discriminator_lr)
        self.squeeze_weight = squeeze_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build both attentions, the classifier, and what brings the student's vectors to the teacher's sizes."""
        super().setup(networks, data)
        if not self.squeeze_weight:
            return
        pairs = [(student[0], teacher[0]) for student, teacher in networks.paired_stages("squeezing maps")]
        own, wanted = ([pair[side] for pair in pairs] for side in (0, 1))
        place = networks.device
        self.student_squeeze = Squeeze(networks.student.shapes.embedding[0], own).to(place)
        self.teacher_squeeze = Squeeze(networks.teacher.shapes.embedding[0], wanted).to(place)
        self.classifier = nn.Linear(sum(wanted), networks.teacher.shapes.logits[0]).to(place)
        self.adapters = nn.ModuleList([size_adapter(*pair) for pair in pairs]).to(place)

    def beside(self) -> Sequence[nn.Module]:
        """All of these."""
        added = [self.student_squeeze, self.teacher_squeeze, self.classifier, self.adapters] if self.squeeze_weight else []
        return [*super().beside(), *added]

    def further(self, networks: Networks, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """The difference of squeezed maps, and the teacher's own attention."""
        if not self.squeeze_weight:
            return {}
        wanted = self.teacher_squeeze(teacher)
        apart = [F.mse_loss(adapter(own), target.detach()) for own, target, adapter in
                 zip(self.student_squeeze(student), wanted, self.adapters, strict=True)]
        return {"squeezed": self.squeeze_weight * torch.stack(apart).sum(),
                "attention": soft_cross_entropy(teacher.logits, self.classifier(torch.cat(wanted, dim=1)))}
