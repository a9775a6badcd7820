"""Bare loops, written by hand: the least that a step of a method can cost with these networks and this loss.

Nothing of kdrun is in them but the networks: no roles, no terms by name, no schedule, no checks, no history. What the
engine takes beyond these loops is what kdrun itself costs.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.methods.scaling import factor

__all__ = ["FLOORS", "Bare", "Step"]

Step = Callable[[Tensor, Tensor, Tensor], None]  # pictures, labels, rows of the training split


@dataclass
class Bare:
    """What a bare loop has to do with.

    Attributes:
        student: in training mode.
        teacher: frozen, in evaluation mode; None where nobody teaches.
        peers: in training mode.
        numbers: of the method, as configured.
        labels: [N] of the training split.
        shape: of a picture: (channels, height, width).
        recipe: gives the optimizer its numbers.
        precision: to autocast to; None for none.
    """

    student: nn.Module
    teacher: nn.Module
    peers: Sequence[nn.Module]
    numbers: dict[str, Any]
    labels: Tensor
    shape: tuple[int, ...]
    recipe: Recipe
    precision: torch.dtype | None = None

    def ask(self, network: nn.Module, pictures: Tensor, learns: bool = True) -> Any:
        """A network's answer."""
        networks = torch.autocast(pictures.device.type, self.precision) if self.precision else nullcontext()
        with networks, nullcontext() if learns else torch.no_grad():
            return network(pictures)

    def sgd(self, *modules: nn.Module) -> torch.optim.Optimizer:
        """The optimizer."""
        weights = [weight for module in modules for weight in module.parameters()]
        return torch.optim.SGD(weights, lr=self.recipe.lr, momentum=self.recipe.momentum,
                               weight_decay=self.recipe.weight_decay, fused=True)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One update."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Hinton's soft term of logits [B, K]."""
    return temperature**2 * F.kl_div(F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1),
                                     reduction="batchmean", log_target=True)


def vanilla(bare: Bare) -> list[Step]:
    """Labels alone."""
    optimizer = bare.sgd(bare.student)
    return [lambda x, y, _: descend(optimizer, F.cross_entropy(bare.ask(bare.student, x).logits.float(), y))]


def kd(bare: Bare) -> list[Step]:
    """Labels and softened answers."""
    optimizer, n = bare.sgd(bare.student), bare.numbers

    def step(x: Tensor, y: Tensor, _: Tensor) -> None:
        teacher, student = bare.ask(bare.teacher, x, learns=False).logits.float(), bare.ask(bare.student, x).logits.float()
        descend(optimizer, n["ce_weight"] * F.cross_entropy(student, y)
                + n["kd_weight"] * divergence(teacher, student, n["temperature"]))

    return [step]


def fitnets(bare: Bare) -> list[Step]:
    """The hint by a regressor; then labels and softened answers."""
    n, student, teacher = bare.numbers, bare.student, bare.teacher
    guided, hinted = n["guided_stage"], n["hint_stage"]
    with torch.no_grad():
        place = bare.labels.device
        picture = torch.zeros(1, *bare.shape, device=place)
        small, large = student.eval()(picture).stages[guided - 1], teacher(picture).stages[hinted - 1]
    student.train()
    regressor = nn.Sequential(nn.Conv2d(small.shape[1], large.shape[1], 1), nn.BatchNorm2d(large.shape[1]), nn.ReLU()).to(place)
    learners: list[Any] = [student.stem, *list(student.stages)[:guided]]  # type: ignore[arg-type]
    first, second = bare.sgd(*learners, regressor), bare.sgd(student)

    def hint(x: Tensor, y: Tensor, _: Tensor) -> None:
        wanted = bare.ask(teacher, x, learns=False).stages[hinted - 1].float()
        given = regressor(bare.ask(student, x).stages[guided - 1].float())
        descend(first, (given - wanted).square().sum(dim=1).mean() / 2)

    def distill(x: Tensor, y: Tensor, _: Tensor) -> None:
        answer = bare.ask(teacher, x, learns=False).logits.float()
        logits = bare.ask(student, x).logits.float()
        soft = -(F.softmax(answer / n["temperature"], 1) * F.log_softmax(logits / n["temperature"], 1)).sum(1).mean()
        descend(second, n["ce_weight"] * F.cross_entropy(logits, y) + n["kd_start"] * soft)

    return [hint, distill]


def at(bare: Bare) -> list[Step]:
    """Labels and the attention of each stage, by squared activations."""
    optimizer, n = bare.sgd(bare.student), bare.numbers
    with torch.no_grad():
        picture = torch.zeros(2, *bare.shape, device=bare.labels.device)
        first = min(bare.teacher(picture).stages[0][0, 0].numel(), bare.student.eval()(picture).stages[0][0, 0].numel())
    bare.student.train()
    weight = n["weight"] * factor(first, n["reference"], n["scaling"])

    def attention(maps: Tensor) -> Tensor:
        return F.normalize(maps.float().pow(2).mean(1).flatten(1))

    def step(x: Tensor, y: Tensor, _: Tensor) -> None:
        teacher, student = bare.ask(bare.teacher, x, learns=False), bare.ask(bare.student, x)
        loss = n["ce_weight"] * F.cross_entropy(student.logits.float(), y)
        for ours, theirs in zip(student.stages, teacher.stages, strict=True):
            loss = loss + weight * (attention(ours) - attention(theirs)).square().mean()
        descend(optimizer, loss)

    return [step]


def rkd(bare: Bare) -> list[Step]:
    """Labels, and the distances and angles among the embeddings of a batch."""
    optimizer, n = bare.sgd(bare.student), bare.numbers

    def distances(vectors: Tensor) -> Tensor:
        squares = vectors.square().sum(1)
        apart = (squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T).clamp_min(1e-12).sqrt()
        apart = apart * (1 - torch.eye(len(vectors), device=vectors.device))
        return apart / apart[apart > 1e-6].mean()

    def angles(vectors: Tensor) -> Tensor:
        edges = F.normalize(vectors[None] - vectors[:, None], dim=2)
        return torch.bmm(edges, edges.transpose(1, 2))

    def step(x: Tensor, y: Tensor, _: Tensor) -> None:
        with torch.no_grad():
            theirs = bare.ask(bare.teacher, x, learns=False).embedding.float()
            wanted = distances(theirs), angles(theirs)
        student = bare.ask(bare.student, x)
        ours = student.embedding.float()
        descend(optimizer, n["ce_weight"] * F.cross_entropy(student.logits.float(), y)
                + n["distance_weight"] * F.smooth_l1_loss(distances(ours), wanted[0])
                + n["angle_weight"] * F.smooth_l1_loss(angles(ours), wanted[1]))

    return [step]


def crd(bare: Bare) -> list[Step]:
    """Labels and the contrast with memories of all samples, in the form that is cheapest on this many negatives."""
    n, student, teacher = bare.numbers, bare.student, bare.teacher
    place, total = bare.labels.device, len(bare.labels)
    sizes = [network.head.in_features for network in (student, teacher)]  # type: ignore[union-attr]
    embeds = [nn.Linear(size, n["features"]).to(place) for size in sizes]  # type: ignore[arg-type]
    memories = [torch.rand(total, n["features"], device=place) - 0.5 for _ in sizes]
    scales: list[Tensor] = []
    optimizer = bare.sgd(student, *embeds)
    others = {label: (bare.labels != label).nonzero()[:, 0] for label in bare.labels.unique().tolist()}
    noise = n["negatives"] / total
    weight = n["weight"] * factor(len(others), n["reference"], n["scaling"])

    def drawn(label: int) -> Tensor:
        pool = others[label]
        places = torch.randint(len(pool), (n["negatives"],)) if n["negatives"] > len(pool) \
            else torch.randperm(len(pool))[:n["negatives"]]
        return pool[places.to(place)]

    def contrast(vectors: Tensor, memory: Tensor, rows: Tensor, side: int) -> Tensor:
        scores = (vectors @ memory.T / n["sharpness"]).gather(1, rows).exp()
        if len(scales) <= side:
            scales.append(scores.detach().mean() * total)
        scores = scores / scales[side]
        near = (scores[:, 0] / (scores[:, 0] + noise + 1e-7)).log()
        far = (noise / (scores[:, 1:] + noise + 1e-7)).log().sum(1)
        return -(near + far).mean()

    def step(x: Tensor, y: Tensor, index: Tensor) -> None:
        theirs, ours = bare.ask(teacher, x, learns=False), bare.ask(student, x)
        small = F.normalize(embeds[0](ours.embedding.float()))
        large = F.normalize(embeds[1](theirs.embedding.float()))
        rows = torch.cat([index[:, None], torch.stack([drawn(label) for label in y.tolist()])], 1)
        loss = contrast(small, memories[1], rows, 0) + contrast(large, memories[0], rows, 1)
        descend(optimizer, n["ce_weight"] * F.cross_entropy(ours.logits.float(), y) + weight * loss)
        with torch.no_grad():
            for memory, vectors in zip(memories, (small, large), strict=True):
                memory[index] = F.normalize(n["momentum"] * memory[index] + (1 - n["momentum"]) * vectors)

    return [step]


def dml(bare: Bare) -> list[Step]:
    """Labels and each other's answers: the student and its peers, from one pass of each."""
    factory, n = [bare.student, *bare.peers], bare.numbers
    optimizers = [bare.sgd(network) for network in factory]

    def step(x: Tensor, y: Tensor, _: Tensor) -> None:
        answers = [bare.ask(network, x).logits.float() for network in factory]
        constants = [logits.detach() for logits in answers]
        for own, (logits, optimizer) in enumerate(zip(answers, optimizers, strict=True)):
            soft = [divergence(other, logits, n["temperature"]) for place, other in enumerate(constants) if place != own]
            descend(optimizer, F.cross_entropy(logits, y) + n["weight"] * sum(soft[1:], soft[0]) / len(soft))

    return [step]


FLOORS: dict[str, Callable[[Bare], list[Step]]] = {
    "vanilla": vanilla, "kd": kd, "fitnets": fitnets, "at": at, "rkd": rkd, "crd": crd, "dml": dml}
"""By the key of the method; a step for each phase that the method's own settings lead to."""
