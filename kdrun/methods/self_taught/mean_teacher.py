"""Mean teachers."""

import copy
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdrun.config.constraints import Count, NonNegative, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.paired_views import Beside
from kdrun.data.pool import BesidePool
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import ramp
from kdrun.methods.losses.views import consistency
from kdrun.models.roles import Networks, Role

VIEW = "second view"


def past_share(updates: int, most: float) -> float:
    """The share of the past in the average after so many updates: a plain mean of all weights first, then `most`."""
    return min(1 - 1 / (updates + 1), most)


class MeanTeacher(Method):
    """Answer one view of a picture as the running mean of one's own weights answers another (Tarvainen and Valpola 2017).

    The pictures need no label for that: where the data set has some without (`dataset.labelled=80`), each batch has a part of
    them, and as in the authors' code the cross-entropy of the labelled ones is divided by the size of the whole batch. Where
    all have labels it is self-distillation, and the run says so. Views are independent augmentations with Gaussian noise.
    The mean teacher normalises by the statistics of its own batches; it starts as a copy of the student, not from weights of
    its own as in the release. It is the product, `student`; the last weights are the further product `last weights`.

    Measured on digits with 80 labels (resnet8, three seeds): 93.2 ± 1.1 % of the test set right, the student alone
    91.1 ± 1.4 %. With the authors' share of unlabelled pictures it ended below the student alone: the labels' gradient is so
    much smaller there, and 500 updates are few.

    Args:
        pool_ratio: samples without labels for each labelled one of a batch.
        weight: of the squared difference of probabilities, averaged over samples and classes, once it is grown.
        ramp_epochs: over which it grows, from exp(-5) of it.
        decay: the largest share of the past in the mean.
        noise: the standard deviation of what is added to normalised pictures.
        second_head: the weight of the squared difference of a second head's logits, which alone learns to agree with the
            teacher, from the classifier's; null for one head.
        statistics: the mean's normalisations keep their `own` statistics, or a copy of the `student`'s.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "labels")
    knowledge = ("response",)
    plain_logits = "answers by a mean of weights, which is what is saved"
    source = "Tarvainen, Valpola: Mean teachers are better role models: Weight-averaged consistency targets improve " \
             "semi-supervised deep learning results. NeurIPS 2017"
    survey_scheme = ""
    survey_tables = ("Gou section 5",)

    updates: Tensor
    mean: Role
    head: nn.Module | None

    def __init__(self, *, pool_ratio: Count, weight: NonNegative, ramp_epochs: NonNegative, decay: Proportion,
                 noise: NonNegative, second_head: NonNegative | None, statistics: Literal["own", "student"]) -> None:
        super().__init__()
        self.pool_ratio, self.weight, self.ramp_epochs, self.decay = pool_ratio, weight, ramp_epochs, decay
        self.noise, self.second_head, self.statistics = noise, second_head, statistics

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin the mean with the student as it is."""
        self.mean = copy.deepcopy(networks.student).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        shapes = networks.student.shapes
        self.head = None if self.second_head is None else \
            nn.Linear(shapes.embedding[0], shapes.logits[0]).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, on two views of each picture."""
        self.setup(run.networks, run.data)
        stream = Beside(run.stream, VIEW)
        if run.data.pool is None or not self.pool_ratio:
            self.note("all samples have labels, so this is self-distillation; dataset.labelled=80 would keep those of so many")
            yield Phase(data=stream)
        else:
            yield Phase(data=BesidePool(stream, run.pool(self.pool_ratio * run.stream.size, len(run.stream)), VIEW))

    def noisy(self, *pictures: Tensor) -> Tensor:
        """Pictures of both kinds together, with noise."""
        together = torch.cat(pictures)
        drawn = torch.randn(together.shape, generator=self.random).to(together.device)
        return together + self.noise * drawn

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The student's update, then the mean's."""
        yield "student", self.loss(networks, batch)
        self.average(networks.student)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and the mean's answers to the other view."""
        parts = [batch] if batch.pool is None else [batch, batch.pool]
        answer = networks.student(self.noisy(*(part.pictures for part in parts)))
        other = self.noisy(*(part.views[VIEW] for part in parts))  # type: ignore[arg-type]  # pictures, as `needs` says
        with torch.no_grad():
            self.mean.network.train()  # it sees noise as the student does, and normalises by its own batches
            target = self.mean(other, fresh=True).logits
            self.mean.forget()
        labelled = answer.replace(logits=answer.logits[:len(batch)])
        agreeing = answer.logits if self.head is None else self.head(answer.embedding)
        terms = {"ce": len(batch) / len(answer.logits) * self.label_loss(labelled, batch),
                 "consistency": self.weight * ramp(batch.epoch, self.ramp_epochs) * consistency(target, agreeing)}
        if self.head is not None:
            assert self.second_head is not None
            terms["heads"] = self.second_head * (answer.logits - agreeing).square().mean()
        return terms

    @torch.no_grad()
    def average(self, student: Role) -> None:
        """Take the student's present weights into the mean."""
        self.updates += 1
        share = past_share(int(self.updates), self.decay)
        mean, own = list(self.mean.parameters()), [weight.detach() for weight in student.parameters()]
        get_ema_multi_avg_fn(share)(mean, own, None)
        if self.statistics == "student":
            for kept, present in zip(self.mean.buffers(), student.buffers(), strict=True):
                kept.copy_(present)

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The mean of the weights, and the last ones."""
        return {"student": self.mean, "last weights": networks.student}
