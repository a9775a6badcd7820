"""Data-free distillation from records of activations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.data_free.inverted import Inverted
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks

Form = Literal["top_layer", "all_layers", "all_layers_dropout", "spectral_all_layers", "spectral_layer_pairs"]
Share = Annotated[float, Bounds(above=0, most=1)]
MOST_UNITS = 6000  # whose graph has its eigenvectors computed: minutes and gigabytes beyond


@dataclass(frozen=True)
class Record:
    """What is kept of the activations of some units: a normal distribution for each class.

    Attributes:
        means: [K, n].
        spreads: standard deviations [K, n].
        roots: [K, n, n], L of a covariance L L'; None where one has no such root, and units are drawn one by one.
    """

    means: Tensor
    spreads: Tensor
    roots: Tensor | None

    @classmethod
    def of(cls, values: Tensor, labels: Tensor, classes: int) -> "Record":
        """Of activations [N, n] and their classes [N]."""
        own = [values[labels == number] for number in range(classes)]
        means = torch.stack([part.mean(dim=0) for part in own])
        spreads = torch.stack([part.var(dim=0, correction=0).sqrt() for part in own])
        if min(map(len, own)) <= values.shape[1]:
            return cls(means, spreads, None)  # so few samples span no more than a part of the space
        roots, failed = torch.linalg.cholesky_ex(torch.stack([part.T.cov() for part in own]))
        return cls(means, spreads, None if bool(failed.any()) else roots)

    def draw(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Activations [B, n] of these classes [B], from normal noise [B, n]."""
        if self.roots is None:
            return self.means[labels] + self.spreads[labels] * noise
        return self.means[labels] + torch.einsum("bij,bj->bi", self.roots[labels], noise)


def spectrum(activations: Tensor, share: float) -> Tensor:
    """The leading eigenvectors [n, k] of the graph of units.

    The graph is complete; an edge is the Euclidean distance between two units' activations over all samples, and the vectors
    are those of the greatest eigenvalues of its Laplacian.

    Args:
        activations: of n units for N samples, [N, n].
        share: of the vectors that are kept, at least one.
    """
    edges = torch.cdist(activations.T, activations.T)
    laplacian = torch.diag(edges.sum(dim=1)) - edges
    kept = max(1, round(share * len(edges)))
    return torch.linalg.eigh(laplacian).eigenvectors[:, -kept:]


def mismatch(wanted: list[Tensor], found: list[Tensor], averaged: bool) -> Tensor:
    """The mean squared difference of activations [B, n] of each layer; their sum, each divided by n, where `averaged`."""
    parts = [F.mse_loss(own, aim) / (aim.shape[1] if averaged else 1) for aim, own in zip(wanted, found, strict=True)]
    return torch.stack(parts).sum()


class Lopes(Inverted):
    """Rebuild pictures from records of the teacher's activations, and teach the student by them (Lopes et al. 2017).

    Whoever owns the training data records, for each class, what a trained teacher's layers answer: mean and covariance of
    each layer's activations before their non-linearity. These records are published beside the teacher, and are all that is
    read of the training pictures. Pictures then start as noise and descend until the teacher's activations are those of
    draws from the records, and the student learns the teacher's softened answers on them.

    Layers are the ends of the network's stages here, each place of each channel a unit, and the logits, softened. A record
    whose covariance is not positive definite keeps the spread of each unit alone, as the authors' code does for
    convolutions. That code multiplies noise by the covariance's root from the wrong side; here draws have the covariance.

    The spectral forms are an approximation: the authors' code has none, and what is known is that activations are compressed
    by eigenvectors of a graph of units, of all layers or of each two neighbours. Dropout of `all_layers_dropout` acts at the
    ends of stages, where the authors' acts where the teacher was trained with it.

    The authors' code divides the distance at each layer by its number of units a second time (`by_size`), so that the logits
    outweigh all stages, whose maps have thousands. Measured on the digits (resnet8 taught by wrn_16_2, default recipe): with
    all layers alike 93.0 ± 1.8 % of the test set right (three seeds) from 1,024 pictures of 50 iterations, 40 s of CPU
    time; divided, 84.4 % from 2,048 of 100 (seed 1; validation 83.3 %, for 94.4 %). The baseline, which has samples and labels,
    has 98.6 ± 0.1 %, the teacher 99.0 %. The other forms were not measured.

    Args:
        form: which activations are recorded and rebuilt: `top_layer`, the logits alone; `all_layers`; `all_layers_dropout`,
            all layers of a teacher that lacks random units, others for each picture; `spectral_all_layers`,
            coefficients of all layers together; `spectral_layer_pairs`, of each two neighbouring layers.
        batches: of pictures.
        batch_size: pictures that descend together.
        iterations: how long they do.
        picture_lr: of their Adam, in the unit of stored pictures, from 0 to 1.
        start_mean: of the noise they start from, in that unit.
        start_std: of that noise.
        keep: share of the units that stay in `all_layers_dropout`.
        by_size: whether the distance at each layer is divided by its number of units once more, as the authors do, so that the
            logits count most; otherwise all layers count alike. `top_layer` has no such division.
        spectrum: share of the eigenvectors that the spectral forms keep.
        temperature: softens the recorded logits, and both networks when the student learns.
        student_lr: of the student's Adam, without decay, by the recipe's schedule; null for the recipe's optimizer.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("feature", "response")
    plain_logits = "records logits as the teacher gives them"
    source = "Lopes, Fenu, Starner: Data-free knowledge distillation for deep neural networks. NeurIPS workshop 2017"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 2", "Gou section 6.6")
    cautions: ClassVar = {
        "offline": "it was measured below the student alone, which sees samples and labels: on the digits resnet8 ended at "
                   "93.0 ± 1.8 %, alone at 98.6 ± 0.1 % (three seeds)"}

    def __init__(self, *, form: Form, batches: AtLeastOne, batch_size: AtLeastOne, iterations: AtLeastOne,
                 picture_lr: Positive, start_mean: Proportion, start_std: Positive, keep: Share, by_size: bool,
                 spectrum: Share, temperature: Positive, student_lr: Positive | None) -> None:
        super().__init__(rounds=1, batches=batches, batch_size=batch_size, iterations=iterations, picture_lr=picture_lr,
                         momentum=0.9, student_lr=student_lr, temperature=temperature, normalised=False)
        self.form, self.start_mean, self.start_std = form, start_mean, start_std
        self.keep, self.by_size, self.share = keep, by_size, spectrum

    def setup(self, networks: Networks, data: Data) -> None:
        """Look at the teacher's layers.

        Raises:
            ValueError: it shows no stages, or more units than a graph of them can have.
        """
        shapes = networks.teacher.shapes
        sizes = [*(shape.numel() for shape in shapes.preacts), shapes.logits.numel()]
        if self.form != "top_layer" and len(sizes) == 1:
            raise ValueError(f"method.form={self.form} rebuilds stages, and the teacher {networks.teacher.model} shows none; "
                             "give method.form=top_layer")
        groups = {"spectral_all_layers": [sum(sizes)], "spectral_layer_pairs": [sum(pair) for pair in pairwise(sizes)]}
        if (most := max(groups.get(self.form, [0]))) > MOST_UNITS:
            raise ValueError(f"method.form={self.form} needs the eigenvectors of a graph of {most:,} units, and at most "
                             f"{MOST_UNITS:,} are feasible; give method.form=all_layers, or a smaller teacher")

    def phases(self, run: Run) -> Iterator[Phase]:
        """The records, the pictures and the lessons."""
        self.setup(run.networks, run.data)
        self.record(run)
        yield from super().phases(run)

    def record(self, run: Run) -> None:
        """What the owner of the training data does.

        Raises:
            ValueError: a class has no sample.
        """
        samples, classes = run.data.train, len(run.data.classes)
        if len(present := samples.labels.unique()) < classes:
            raise ValueError(f"it records every class, and the training split has samples of {len(present)} of {classes}")
        if run.rehearsal:
            samples = samples[torch.cat([(samples.labels == number).nonzero()[:2, 0] for number in range(classes)])]
        with torch.no_grad():
            found = [(self.layers(run.networks.teacher(batch.pictures, fresh=True)), batch.labels)
                     for batch in run.data.plain(samples, run.device)]
        run.networks.teacher.forget()
        layers = [torch.cat(parts) for parts in zip(*(own for own, _ in found), strict=True)]
        if self.form.startswith("spectral"):
            groups = self.groups([layer.relu() for layer in layers])
            # eigenvectors take seconds, so a rehearsal takes some units in their place
            self.bases = [torch.eye(own.shape[1], 50, device=run.device) if run.rehearsal else spectrum(own, self.share)
                          for own in groups]
            layers = [own @ basis for own, basis in zip(groups, self.bases, strict=True)]
        self.records = [Record.of(layer, torch.cat([own for _, own in found]), classes) for layer in layers]

    def groups(self, layers: list[Tensor]) -> list[Tensor]:
        """The layers [B, n] whose units make a graph, side by side."""
        return [torch.cat(part, dim=1) for part in ([layers] if self.form == "spectral_all_layers" else pairwise(layers))]

    def layers(self, answer: ModelOutput) -> list[Tensor]:
        """What is recorded of an answer: [B, n] of each layer, before its non-linearity."""
        top = answer.logits / self.temperature
        return [top] if self.form == "top_layer" else [*(maps.flatten(1) for maps in answer.preacts), top]

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Draw what a batch of pictures shall look like to the teacher, then have it descend."""
        labels = batch.rows % self.classes
        noise = [torch.randn(len(batch), record.means.shape[1], generator=self.random).to(labels.device)
                 for record in self.records]
        self.wanted = [record.draw(labels, own) for record, own in zip(self.records, noise, strict=True)]
        self.change = self.dropped(networks, len(batch)) if self.form == "all_layers_dropout" else None
        yield from super().step(networks, batch)

    def dropped(self, networks: Networks, count: int) -> Callable[[int, Tensor], Tensor]:
        """A change of the teacher that lacks the same random units as long as it is used, the others being stronger for it."""
        masks = [torch.bernoulli(torch.full((count, *shape), self.keep), generator=self.random).to(networks.device) / self.keep
                 for shape in networks.teacher.shapes.stages]
        return lambda stage, maps: maps * masks[stage - 1]

    def beginning(self, noise: Tensor) -> Tensor:
        """Grey noise."""
        return self.start_mean + self.start_std * noise

    def inversion(self, networks: Networks, pictures: Tensor, wanted: Tensor) -> Terms:
        """The distance from the drawn activations."""
        change = self.change
        layers = self.layers(networks.teacher(pictures, fresh=True) if change is None else
                             networks.teacher.changed(pictures, change))
        active = [layer.relu() for layer in layers]
        if self.form.startswith("spectral"):
            aims, active = self.wanted, [own @ basis for own, basis in zip(self.groups(active), self.bases, strict=True)]
        else:
            aims = [aim.relu() for aim in self.wanted]
        return {"records": mismatch(aims, active, averaged=self.by_size and self.form != "top_layer")}

    def imitate(self, networks: Networks, batch: Batch) -> Terms:
        """The teacher's softened answers."""
        return {"kd": soft_cross_entropy(networks.teacher(batch).logits, networks.student(batch).logits, self.temperature)}
