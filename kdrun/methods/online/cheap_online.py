"""Online distillation of networks of cheap convolutions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Few, NetworkName, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kl
from kdrun.models.roles import Networks, Role


class Fusion(nn.Module):
    """Answers from the last maps of several networks at once: side by side, normalised, activated, pooled, classified.

    Args:
        channels: of all maps together.
        classes: how many classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.normal, self.head = nn.BatchNorm2d(channels), nn.Linear(channels, classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """From maps [B, C, H, W] before their activation to logits [B, K]."""
        return self.head(F.relu(self.normal(torch.cat(list(maps), dim=1))).mean(dim=(2, 3)))


class CheapOnline(Method):
    """Teach networks of cheap convolutions by a teacher that is built of them while they learn (Xie et al. 2019).

    Several networks like the student, of cheap convolutions (`student=resnet_cheap`, `student.conv`), learn side by side. In
    the authors' code the teacher is `fused`: a classifier of the last maps of all of them. In their abstract it is a network
    of standard convolutions, `standard`. Either way all learn by one optimizer from the labels, and the teacher's softened
    answers are no constants: they are drawn towards the students' (`detach` makes them constants). The product is the network
    that is best on the validation split (in the authors' code on the test set); the fused classifier is no part of it.

    In the authors' blocks no normalisation stands between a cheap convolution and the 1x1 that follows, the 1x1 has the stride,
    and the last activation comes before the residual sum; here the blocks are those of `kdrun.models.convolutions`. On the
    digits resnet8 of depthwise convolutions has 97.8 ± 0.2 %, and 97.3 ± 0.7 % alone (three seeds).

    Args:
        peers: how many networks beside the student.
        teacher: `fused` or `standard`.
        standard: the name of the network of standard convolutions.
        temperature: softens all answers.
        weight: of the divergence, of each student, times the squared temperature.
        reduction: of the divergence over a batch: `batchmean`, or `mean` over classes as well (authors' code).
        detach: whether the teacher's answers are constants to the students' loss.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps", "one row a sample")
    knowledge = ("response",)
    plain_logits = "builds a teacher of the students' maps, whose logits meet the labels"
    source = "Xie, Lin, Zhang, Luo: Training convolutional neural networks with cheap convolutions and online distillation. " \
             "arXiv 1909.13063, 2019"
    survey_scheme = "online"
    survey_tables = ("Gou section 4.2",)

    fusion: Fusion

    def __init__(self, *, peers: Few, teacher: Literal["fused", "standard"], standard: NetworkName, temperature: Positive,
                 weight: NonNegative, reduction: Literal["batchmean", "mean"], detach: bool) -> None:
        super().__init__()
        self.count, self.teacher, self.standard = peers, teacher, standard
        self.temperature, self.weight, self.reduction, self.detach = temperature, weight, reduction, detach

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the fused classifier."""
        if self.teacher == "fused":
            maps = [role.shapes.preacts[-1] for role in (networks.student, *networks.peers)]
            self.fusion = Fusion(sum(one[0] for one in maps), len(data.classes)).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """All side by side; then the best becomes the student.

        Raises:
            ValueError: there is no validation split to choose it by.
        """
        networks = run.networks
        networks.peers = run.factory.peers(self.count)
        if self.teacher == "standard":
            networks.peers.append(run.factory.named(self.standard, "standard teacher"))
        self.setup(networks, run.data)
        yield Phase()
        students = self.students(networks)
        scores = [run.validated(role) for role in students]
        best = students[scores.index(max(scores))]
        if best is not networks.student:
            networks.student.network, best.network = best.network, networks.student.network
            networks.student.forget()
            best.forget()

    def students(self, networks: Networks) -> list[Role]:
        """Those of cheap convolutions."""
        return [networks.student, *networks.peers[:self.count]]

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """One: all learn by one optimizer."""
        return {"student": [networks.student, *networks.peers, self]}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for all, and the teacher for each student."""
        own, *others = answers = [role(batch) for role in self.students(networks)]
        taught = own.replace(logits=self.fusion([answer.preacts[-1] for answer in answers])) if self.teacher == "fused" \
            else networks.peers[-1](batch)
        apart = torch.stack([kl(taught.logits, answer.logits, self.temperature, train_teacher=not self.detach)
                             for answer in answers]).sum()
        weight = self.weight / (own.logits.shape[1] if self.reduction == "mean" else 1)
        return {"ce": self.label_loss(own, batch), "ce teacher": self.label_loss(taught, batch),
                "ce peers": torch.stack([self.label_loss(answer, batch) for answer in others]).sum(),
                "kd": weight * self.temperature**2 * apart}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, each network like it, and the standard teacher."""
        return {"student": networks.student, **{peer.name: peer for peer in networks.peers}}
