"""Label distillation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config import registry
from kdrun.config.constraints import AtLeastOne, Epochs, Fraction, NetworkName, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.samples import Samples
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.dataset.made_data import LearningSet, MadeData, real_pictures
from kdrun.methods.losses.condensation import ridge
from kdrun.methods.unrolled import SGD, Unrolled
from kdrun.models.factory import NetworkSpec
from kdrun.models.roles import Networks, Role

SHARE = 0.01  # of the newest ridge regression in the classifier that is kept: authors


def inverted(samples: Samples) -> Samples:
    """The same pictures with black and white exchanged."""
    return replace(samples, inputs=(255 if samples.inputs.dtype == torch.uint8 else 1) - samples.inputs)


def probabilities(labels: Tensor) -> Tensor:
    """Labels [N, K] with what lies outside 0 to 1 cut off, and rows of sum 1."""
    return F.normalize(labels.clamp(0, 1), p=1, dim=1)


def soft(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of logits [B, K] with probabilities [B, K], with gradients to both."""
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


class Labels(nn.Module):
    """Labels that are learned: all classes alike to begin with.

    Args:
        count: of pictures.
        classes: how many.
    """

    def __init__(self, count: int, classes: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.full((count, classes), 1 / classes))


class Patience(nn.Module):
    """Tells when a network has learned all it will: when the mean error of its last steps has not fallen for as many.

    Args:
        steps: how many.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("errors", torch.zeros(steps, dtype=torch.float64))
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("lowest", torch.tensor(torch.inf, dtype=torch.float64))
        self.register_buffer("since", torch.zeros((), dtype=torch.int64))

    errors: Tensor
    done: Tensor
    lowest: Tensor
    since: Tensor

    def over(self, error: float) -> bool:
        """Note the error of a step; whether it was the last, after which all begins anew."""
        self.errors[int(self.done) % self.steps] = error
        self.done += 1
        if self.done < self.steps:
            return False
        total = self.errors.sum()
        if total < self.lowest:
            self.lowest.copy_(total)
            self.since.zero_()
        elif self.since < self.steps:
            self.since += 1
        else:
            self.done.zero_()
            self.since.zero_()
            self.lowest.fill_(torch.inf)
            return True
        return False


class LabelDistill(MadeData):
    """Keep a few real pictures and learn labels for them that train a network as all data would (Bohdal et al. 2020).

    A network learns from the pictures by the present labels, while these descend its cross-entropy on other training pictures
    after one more step: with `rr` that step is a ridge regression from the network's embedding to the labels, a small part of
    which enters the classifier; with `or2` it is one of SGD on the whole network, and the gradient is of second order. Labels
    stay probabilities. When its error has long not fallen the network begins anew, so that labels do not fit one network.

    References: the same pictures by their `true` labels and by `smoothed` ones, and as many `others`, by theirs. See
    `MadeData`: all learn by the recipe, where the authors train by the same procedure as the labels were learned with, for
    as many steps as networks lasted, and choose labels among epochs on a validation split; here the last ones are taken.

    Measured on the digits (`rr`, five pictures of each class, resnet8, one seed): learned labels end at 73.2 % of the test
    set right, below true ones of the same pictures (88.8 %) and smoothed ones (90.3 %). They were learned with 1,200
    updates, the authors take many times as many, and by another network than the student. With labels_lr=0.02 it was 59.9
    %; with patience=200 or mode=or2 the likeliest class was the true one no more often.

    Args:
        mode: `rr` or `or2`.
        per_class: pictures of each class.
        base: whether they are `train`ing pictures as they are, or `inverted`: pictures of another kind than those to learn.
        network: what learns from them meanwhile.
        epochs: of learning labels.
        inner: of the pictures at each step.
        labels_lr: of the labels' Adam.
        network_lr: of the network's Adam.
        penalty: `rr`: of the ridge regression.
        scale_lr: `rr`: of the factor of the classifier.
        inner_lr: `or2`: of the step.
        patience: steps over which the error is averaged, and for which it may not fall.
        smoothing: of the reference's labels.
        networks: further ones that learn from what was made, by name.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ()
    cautions: ClassVar[Mapping[str, str]] = {
        "self": "measured on digits its learned labels of 50 pictures gave 73 % of the test set right, the true labels of the "
                "same pictures 89 %"}
    source = "Bohdal, Yang, Hospedales: Flexible dataset distillation: learn labels instead of images. arXiv:2006.08572, 2020"
    survey_scheme = ""
    survey_tables = ("Gou section 1",)

    labels: Labels
    learner: Role
    scale: nn.ParameterList
    patient: Patience
    classifier: Tensor
    restarts: Tensor
    learned_by: torch.optim.Optimizer

    def __init__(self, *, mode: Literal["rr", "or2"], per_class: AtLeastOne, base: Literal["train", "inverted"],
                 network: NetworkName, epochs: Epochs, inner: AtLeastOne, labels_lr: Positive, network_lr: Positive,
                 penalty: Positive, scale_lr: Positive, inner_lr: Positive, patience: AtLeastOne, smoothing: Fraction,
                 networks: list[NetworkName]) -> None:
        super().__init__(networks=networks)
        self.mode, self.per_class, self.base, self.network = mode, per_class, base, network
        self.epochs, self.inner, self.labels_lr, self.network_lr = epochs, inner, labels_lr, network_lr
        self.penalty, self.scale_lr, self.inner_lr = penalty, scale_lr, inner_lr
        self.patience, self.smoothing = patience, smoothing

    def chosen(self, run: Run, turn: int) -> Samples:
        """The base pictures; another turn, others."""
        samples, classes = run.data.train, len(run.data.classes)
        rows = real_pictures(samples, (turn + 1) * self.per_class, classes, run.seed)
        own = samples[rows.unflatten(0, (classes, -1))[:, turn * self.per_class:].flatten()]
        return inverted(own) if self.base == "inverted" else own

    def make(self, run: Run) -> Iterator[Phase]:
        """Learn the labels."""
        self.run, self.spec = run, NetworkSpec.read(registry.network(self.network))
        pictures, classes = self.chosen(run, 0), len(run.data.classes)
        self.shown = run.data.normalise(pictures.inputs).to(run.device)
        self.labels, self.patient = Labels(len(pictures), classes).to(run.device), Patience(self.patience).to(run.device)
        self.learner = run.factory.build(self.spec, "labelling network 0")
        wide = self.learner.shapes.embedding[0]
        self.scale = nn.ParameterList([torch.ones((), device=run.device)] if self.mode == "rr" else [])
        self.register_buffer("classifier", torch.zeros(wide + 1, classes, device=run.device))
        self.register_buffer("restarts", torch.zeros((), dtype=torch.int64, device=run.device))
        yield Phase("labels", epochs=self.epochs, evaluate=False)
        self.labels.requires_grad_(False)
        self.learner.requires_grad_(False)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The labels, and the network that learns from them."""
        return {"labels": [self.labels], "learner": [self.learner, self.scale]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam at constant rates for both."""
        if player == "labels":
            return torch.optim.Adam([{"params": list(weights), "scheduled": False}], lr=self.labels_lr)
        if player == "learner":
            factors = {id(factor) for factor in self.scale}
            groups = [{"params": [weight for weight in weights if id(weight) not in factors], "lr": self.network_lr},
                      {"params": list(self.scale), "lr": self.scale_lr}]
            self.learned_by = torch.optim.Adam([{**group, "scheduled": False} for group in groups if group["params"]])
            return self.learned_by
        return recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Labels by the target batch after one more step, then the network by the labels."""
        count = len(self.shown)
        rows = torch.randperm(count, generator=self.random)[:self.inner].to(self.shown.device)
        shown, before = self.shown[rows], self.labels.table.detach()[rows]
        if self.mode == "rr":
            mixed = self.mixed(shown, self.labels.table[rows])
            logits = self.features(batch.pictures) @ (self.scale[0].detach() * mixed)
        else:
            ahead = Unrolled({"network": self.learner.network})
            ahead.step(soft(ahead("network", shown).logits, self.labels.table[rows]), SGD(self.inner_lr))
            logits = ahead("network", batch.pictures).logits
        yield "labels", {"target": F.cross_entropy(logits, batch.labels)}
        with torch.no_grad():
            self.labels.table.copy_(probabilities(self.labels.table))
        if self.mode == "rr":
            again = self.mixed(shown, before)  # of the labels as they were
            answer = self.features(shown) @ (self.scale[0] * again)
            yield "learner", {"base": soft(answer, self.labels.table.detach()[rows])}
            self.classifier.copy_(mixed.detach())
        else:
            yield "learner", {"base": soft(self.learner(shown, fresh=True).logits, before)}
        if self.patient.over(float((logits.argmax(dim=1) != batch.labels).double().mean())):
            self.restart()

    def features(self, pictures: Tensor) -> Tensor:
        """Embeddings with a one at their end [B, D + 1]."""
        return F.pad(self.learner(pictures, fresh=True).embedding, (0, 1), value=1.0)

    def mixed(self, shown: Tensor, labels: Tensor) -> Tensor:
        """The classifier [D + 1, K] after one more ridge regression."""
        return (1 - SHARE) * self.classifier + SHARE * ridge(self.features(shown), labels, self.penalty)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin with new weights of the network and an optimizer that knows nothing of those before."""
        self.restarts += 1
        fresh = self.run.factory.build(self.spec, f"labelling network {int(self.restarts)}")
        self.learner.load_state_dict(fresh.state_dict())
        for factor in self.scale:
            factor.fill_(1.0)
        self.classifier.zero_()
        self.learned_by.state.clear()

    def made(self, run: Run) -> LearningSet:
        """The pictures and their learned labels."""
        return LearningSet(self.chosen(run, 0), self.labels.table.detach().clone().cpu())

    def references(self, run: Run) -> Mapping[str, LearningSet]:
        """True and smoothed labels of the same pictures, and other pictures."""
        own, classes = self.chosen(run, 0), len(run.data.classes)
        smoothed = (1 - self.smoothing) * F.one_hot(own.labels, classes) + self.smoothing / classes
        return {"true": LearningSet(own), "smoothed": LearningSet(own, smoothed), "others": LearningSet(self.chosen(run, 1))}
