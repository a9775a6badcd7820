"""Online knowledge distillation via collaborative learning."""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import Few, NetworkName, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.samples import Samples
from kdrun.data.stream import MemoryStream
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.methods.shapes import Mutual
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks


def best(logits: Tensor, labels: Tensor) -> Tensor:
    """For each sample the logits [B, K] of the network, of M in [M, B, K], with the least cross-entropy (naive)."""
    errors = torch.stack([F.cross_entropy(own, labels, reduction="none") for own in logits])
    return logits[errors.argmin(dim=0), torch.arange(len(labels), device=logits.device)]


def least(logits: Tensor, labels: Tensor) -> Tensor:
    """The least lead of each class over the label, among M networks: logits [B, K] from [M, B, K] (minimum logit).

    The label keeps 0, so its cross-entropy is at most that of any of the networks.
    """
    own = labels.expand(len(logits), -1)[:, :, None]
    return (logits - logits.gather(2, own)).amin(dim=0)


def mixed(logits: Tensor, shares: Tensor) -> Tensor:
    """The weighted sum [B, K] of the logits [M, B, K] of M networks, by weights [M]."""
    return torch.einsum("m,mbk->bk", shares.to(logits.dtype), logits)


def linear_shares(logits: Tensor, labels: Tensor, rounds: int = 5, halvings: int = 20) -> Tensor:
    """Weights [M], none negative and of sum 1, whose mix of logits [M, B, K] has the least cross-entropy (linear).

    The problem is convex. Share is moved between two networks at a time, to where the slope along that line is zero,
    found by halving; for two networks that is exact, for more it is repeated.
    """
    count = len(logits)
    shares = torch.full((count,), 1 / count, dtype=logits.dtype, device=logits.device)
    truth = F.one_hot(labels, logits.shape[2])
    for _ in range(1 if count == 2 else rounds):
        for give, take in itertools.combinations(range(count), 2):
            line, start = logits[take] - logits[give], mixed(logits, shares)
            low, high = -shares[take], shares[give].clone()
            for _ in range(halvings):
                middle = (low + high) / 2
                slope = ((F.softmax(start + middle * line, dim=1) - truth) * line).sum()
                low, high = torch.where(slope > 0, low, middle), torch.where(slope > 0, middle, high)
            moved = (low + high) / 2
            shares[take] += moved
            shares[give] -= moved
    return shares


def general_shares(errors: Tensor, ridge: float = 1e-4) -> Tensor:
    """Weights [M] of sum 1 with the least expected error, from the errors' second moments [M, M] (general).

    The smallest w' C w is at C^-1 1 / (1' C^-1 1). A ridge (a share of the mean square error) lets networks be alike;
    weights below zero become zero.
    """
    count = len(errors)
    added = ridge * errors.diagonal().mean() * torch.eye(count, dtype=errors.dtype, device=errors.device)
    ones = torch.ones(count, dtype=errors.dtype, device=errors.device)
    # A plain mix is left where every picture is right: then no error tells the networks apart
    shares = torch.linalg.solve(errors + added, ones) if errors.diagonal().mean() > 0 else ones
    shares = (shares / shares.sum()).clamp_min(0)
    return shares / shares.sum()


def error_moments(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean inner products [M, M] of the errors (probabilities minus labels) of M networks, from logits [M, N, K]."""
    apart = F.softmax(logits, dim=2) - F.one_hot(labels, logits.shape[2])
    return torch.einsum("mnk,onk->mo", apart, apart) / len(labels)


class KDCL(Mutual):
    """Train several networks side by side, all taught by one ensemble of their answers (Guo et al. 2020).

    Each network sees an augmentation of its own. How the ensemble is made is the variant: `naive` takes the answer with
    the least cross-entropy, sample by sample; `linear` mixes by the weights that are best for the batch; `minlogit`
    takes the least lead of each class over the label; `general` mixes by weights that are measured at the start of each
    epoch on pictures that nobody trains on. Those are the validation split, so validation accuracy is slightly
    favourable there: a weight for each network is chosen on it.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        variant: `naive`, `linear`, `minlogit` or `general`.
        temperature: softens the ensemble and the answers.
        weight: of the divergence from the ensemble.
        own_views: whether each network sees an augmentation of its own.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("labels",)
    knowledge = ("response",)
    plain_logits = "weighs its ensemble by the labels"
    source = "Guo, Wang, Wu, Yu, Liang, Hu, Luo: Online knowledge distillation via collaborative learning. CVPR 2020"
    survey_scheme = "online"
    survey_tables = ("Alkhulaifi 1",)

    shares: Tensor
    stream: MemoryStream
    data: Data
    held_out: Samples
    device: torch.device

    def __init__(self, *, peers: Few | list[NetworkName],
                 variant: Literal["naive", "linear", "minlogit", "general"], temperature: Positive, weight: NonNegative,
                 own_views: bool) -> None:
        super().__init__(peers=peers)
        self.variant, self.temperature, self.weight, self.own_views = variant, temperature, weight, own_views

    def setup(self, networks: Networks, data: Data) -> None:
        """Start from equal weights."""
        count = 1 + len(networks.peers)
        self.register_buffer("shares", torch.full((count,), 1 / count, device=self.device))

    def phases(self, run: Run) -> Iterator[Phase]:
        """One.

        Raises:
            ValueError: there is nothing to measure the general variant's weights on.
        """
        self.stream, self.data, self.device = run.stream, run.data, run.device
        if self.variant == "general" and not len(run.data.validation):
            raise ValueError("method.variant=general measures its weights on the validation split, and there is none; set "
                             "dataset.validation above 0")
        if self.own_views and self.stream.moves_labels:
            raise ValueError("each network sees an augmentation of its own, and crops and mirror images move the labels of "
                             "places; give method.own_views=false, or dataset.crop=0 and dataset.flip=false")
        few = torch.arange(min(8 if run.rehearsal else len(run.data.validation), len(run.data.validation)))
        self.held_out = run.data.validation[few]
        yield from super().phases(run)

    def seen_by(self, name: str, batch: Batch) -> Batch:
        """The batch in the augmentation of a network."""
        if name == "student" or not self.own_views:
            return batch
        return self.stream.batch(batch.rows, batch.epoch, batch.epochs, batch.step, f"augmentation {name}")

    def measure(self, networks: Networks) -> None:
        """Weigh the networks by their errors on held-out pictures."""
        logits = []
        for role in (networks.student, *networks.peers):
            rows, labels = self.data.task.split_rows(answers(role, self.data, self.held_out, self.device), self.held_out)
            logits.append(rows.double())
            role.train()  # answering leaves it in evaluation mode
        assert labels is not None
        self.shares.copy_(general_shares(error_moments(torch.stack(logits), labels)))

    def ensemble(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What all are taught: logits [B, K] from those [M, B, K] of the networks."""
        if self.variant == "naive":
            return best(logits, labels)
        if self.variant == "minlogit":
            return least(logits, labels)
        return mixed(logits, linear_shares(logits, labels) if self.variant == "linear" else self.shares)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the student and of each peer."""
        together = [networks.student, *networks.peers]
        if self.variant == "general" and batch.step == 0:
            self.measure(networks)
        seen = [self.seen_by(role.name, batch) for role in together]
        said = torch.stack([role(own).logits.detach() for role, own in zip(together, seen, strict=True)])
        wanted = self.ensemble(said, batch.labels)
        for role, own in zip(together, seen, strict=True):
            answer = role(own)
            yield role.name, {"ce": self.label_loss(answer, own),
                              "ensemble": self.weight * kd(wanted, answer.logits, self.temperature)}
