"""Boundary supporting samples."""


import torch
from torch import Tensor

from kdrun.config.constraints import Fraction, NonNegative, Positive, Turns
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks, Role


def base_samples(teacher: Tensor, student: Tensor, labels: Tensor, most: int) -> Tensor:
    """Rows that both networks classify correctly; of too many those where they differ most (Heo et al. 2019).

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        labels: [B].
        most: how many rows at most.
    """
    right = (teacher.argmax(1) == labels) & (student.argmax(1) == labels)
    apart = (teacher.softmax(1) - student.softmax(1)).square()
    apart = apart.sum(1) - apart.gather(1, labels[:, None])[:, 0]
    rows = right.nonzero()[:, 0]
    return rows[apart[rows].argsort(descending=True, stable=True)[:most]]


def targets(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A class [B] for each answer [B, K] to walk towards: drawn by its probability among all but the likeliest."""
    others = logits.detach().double().cpu()
    others = others.scatter(1, others.argmax(1, keepdim=True), -torch.inf).softmax(1)
    return torch.multinomial(others, 1, generator=generator)[:, 0].to(logits.device)


def towards_boundary(network: Role, pictures: Tensor, labels: Tensor, goals: Tensor, *, steps: int, rate: float,
                     overshoot: float, low: Tensor, high: Tensor) -> Tensor:
    """Walk pictures to just beyond the boundary between their label and another class (Heo et al. 2019).

    Args:
        network: whose boundary.
        pictures: [B, C, H, W].
        labels: [B], what the network takes the pictures for.
        goals: [B], the class on the other side.
        steps: at most so many.
        rate: of each step, over the difference of the two logits.
        overshoot: added to that difference, so that the walk does not stop on the boundary.
        low: the least value of a channel [C, 1, 1].
        high: the largest.
    """
    for _ in range(steps):
        asked = pictures.detach().requires_grad_()
        logits = network(asked, fresh=True).logits
        lead = (logits.gather(1, labels[:, None]) - logits.gather(1, goals[:, None]))[:, 0]
        walking = logits.argmax(1) == labels
        if not bool(walking.any()):
            break
        uphill = torch.autograd.grad(-lead.sum(), asked)[0]
        length = uphill.flatten(1).norm(dim=1).clamp_min(1e-12)  # a gradient of zero moves nothing
        stride = walking.to(lead) * rate * (lead.detach() + overshoot) / length
        pictures = torch.minimum(torch.maximum(pictures + stride[:, None, None, None] * uphill, low), high)
    return pictures.detach()


class BSS(Method):
    """Let the teacher answer samples that an attack has walked to its decision boundary, too (Heo et al. 2019).

    The weight of the softened answers to plain samples falls over the training, that of the answers to boundary samples
    reaches zero before its end. The attack asks the teacher in evaluation mode, up to `steps` times a batch.

    Args:
        temperature: of both softened answers; no factor of its square.
        ce_weight: of the cross-entropy with the labels.
        kd_start: weight of the softened answers to plain samples in the first epoch.
        kd_end: what it falls to, linearly.
        boundary_weight: of the answers to boundary samples in the first epoch.
        boundary_share: of the epochs, over which that weight falls to zero.
        samples: the share of a batch that is attacked at most.
        steps: of each attack at most.
        rate: of a step.
        overshoot: see `towards_boundary`.
    """

    needs = ("pictures", "one row a sample", "labels")
    knowledge = ("response",)
    plain_logits = "walks to the decision boundary by the teacher's logits"
    source = "Heo, Lee, Yun, Choi: Knowledge distillation with adversarial samples supporting decision boundary. " \
             "AAAI 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 4.1", "Gou section 6.1")

    low: Tensor
    high: Tensor

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_start: NonNegative, kd_end: NonNegative,
                 boundary_weight: NonNegative, boundary_share: Fraction, samples: Fraction, steps: Turns,
                 rate: Positive, overshoot: Positive) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_start, self.kd_end = temperature, ce_weight, kd_start, kd_end
        self.boundary_weight, self.boundary_share, self.samples = boundary_weight, boundary_share, samples
        self.steps, self.rate, self.overshoot = steps, rate, overshoot

    def setup(self, networks: Networks, data: Data) -> None:
        """Note the range of a pixel, after normalisation."""
        place, mean, std = networks.device, data.normalise.mean, data.normalise.std
        self.register_buffer("low", (-mean / std)[:, None, None].to(place))
        self.register_buffer("high", ((1 - mean) / std)[:, None, None].to(place))

    def weights(self, epoch: int, epochs: int) -> tuple[float, float]:
        """Of the softened answers to plain and to boundary samples in an epoch."""
        fallen = epoch / (self.boundary_share * epochs) if self.boundary_share else 1.0
        return (self.kd_start + (self.kd_end - self.kd_start) * epoch / epochs,
                self.boundary_weight * max(1 - fallen, 0.0))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and both softened answers."""
        plain, boundary = self.weights(batch.epoch, batch.epochs)
        student, teacher = networks.student(batch), networks.teacher(batch)
        terms = {"ce": self.ce_weight * self.label_loss(student, batch),
                 "kd": plain * soft_cross_entropy(teacher.logits, student.logits, self.temperature),
                 "bss": torch.zeros_like(student.logits[0, 0])}
        if boundary:
            rows = base_samples(teacher.logits.detach(), student.logits.detach(), batch.labels,
                                round(self.samples * len(batch)))
            if len(rows) > 1:  # one sample has no batch statistics
                goals = targets(teacher.logits[rows], self.random)
                pictures, wanted = self.attack(networks.teacher, batch.pictures[rows], batch.labels[rows], goals)
                terms["bss"] = boundary * soft_cross_entropy(wanted, networks.student(pictures).logits, self.temperature)
        return terms

    def attack(self, teacher: Role, pictures: Tensor, labels: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
        """Boundary samples [B, C, H, W] of these pictures, and what the teacher answers them.

        A teacher that learns along is asked in evaluation mode, and its statistics see none of this.
        """
        training = teacher.training
        teacher.eval()
        walked = towards_boundary(teacher, pictures, labels, goals, steps=self.steps, rate=self.rate,
                                  overshoot=self.overshoot, low=self.low, high=self.high)
        with torch.no_grad():
            answers = teacher(walked).logits
        teacher.train(training)
        return walked, answers
