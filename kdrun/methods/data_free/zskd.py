"""Zero-shot knowledge distillation by data impressions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.samples import Samples
from kdrun.data.stream import MemoryStream
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import unit_rows
from kdrun.models.generator import Canvas
from kdrun.models.roles import Networks, Role
from kdrun.utils.seeding import seeded


def similarity(weights: Tensor) -> Tensor:
    """How alike the classes look to a classifier: cosines [K, K] of its weights [K, D]; biases do not count."""
    rows = unit_rows(weights)
    return rows @ rows.T


def concentration(similar: Tensor, scale: float) -> Tensor:
    """The Dirichlet concentration of every class, a row each, from similarities [K, K].

    A row is brought to 0..1 first and scaled last: the release rescales after scaling, and loses the scale again.
    """
    low, high = similar.amin(dim=1, keepdim=True), similar.amax(dim=1, keepdim=True)
    return scale * (similar - low) / (high - low).clamp_min(1e-12) + 1e-4


def draw_targets(similar: Tensor, scales: Sequence[float], count: int) -> Tensor:
    """`count` answers [count, K] that a teacher might give, the classes in turn, the scales one after the other.

    Args:
        similar: similarities [K, K].
        scales: of the concentration; each has an equal share.
        count: how many.
    """
    classes = len(similar)
    rows = torch.arange(count)
    share = (rows * len(scales)) // count
    # in float64: the smaller a concentration, the more of its draws are too small to be told from zero
    strengths = torch.stack([concentration(similar.double(), scale) for scale in scales])  # [scales, K, K]
    drawn = torch.distributions.Dirichlet(strengths[share, rows % classes]).sample()
    drawn = drawn.clamp_min(1e-6)  # a tiny concentration draws exact zeros
    return (drawn / drawn.sum(dim=1, keepdim=True)).to(similar.dtype)


def cross_entropy(wanted: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened logits [B, K] with given answers [B, K] that are softened already."""
    return -(wanted * F.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()


def rescaled(pictures: Tensor, batches: int = 1) -> Tensor:
    """Batches that lie one after the other, each brought to 0..1 by its own least and greatest pixel."""
    apart = pictures.view(batches, -1)
    low, high = apart.amin(dim=1, keepdim=True), apart.amax(dim=1, keepdim=True)
    return ((apart - low) / (high - low).clamp_min(1e-12)).view_as(pictures)


def classifier(teacher: Role, classes: int) -> nn.Linear:
    """The last linear layer with an output for each class.

    Raises:
        ValueError: there is none.
    """
    layers = [part for part in teacher.modules() if isinstance(part, nn.Linear) and part.out_features == classes]
    if not layers:
        raise ValueError(f"data impressions need a teacher that ends in a linear layer of {classes} outputs, and "
                         f"{teacher.model or teacher.name} has none")
    return layers[-1]


class ZSKD(Method):
    """Recover pictures from the teacher alone, and teach the student by them (Nayak et al. 2019).

    First, data impressions: answers are drawn from a Dirichlet distribution for each class, shaped by how alike the
    classes are in the teacher's last layer, and pictures that start as noise descend until the teacher gives these
    answers. Then the student learns the teacher's softened answers on them, augmented as the run's pictures are. No
    training picture is read; only what belongs to the teacher: its weights and the mean and spread it normalises by.
    Measured on the digits (resnet8 taught by wrn_16_2, default recipe, three seeds): 77.4 ± 2.9 % of the test set right,
    where the baseline, which has the labels, has 98.6 ± 0.1 % and the teacher 99.0 %. The authors train the student by
    Adam at 0.001, for 500 epochs; in the 40 of this recipe that leaves it at 77, 59 and 58 % of the validation set for
    79, 78 and 77 % by the recipe's optimizer, so that one is the default.

    Impressions that descend as the authors' do are better, and do not close the gap: cnn_narrow taught by cnn (98.9 %) has
    74.9 % from 9,000 of 1,500 iterations at a rate of 0.001 (72.6 % by their Adam), 65.4 % by the defaults, and 97.1 % from the
    labels (seed 1; the first 9,000 of 24,000, all of the larger concentration).

    All impressions are part of every checkpoint.

    Args:
        impressions: how many pictures to make, rounded up to whole batches.
        batch_size: pictures that descend together, and are brought to 0..1 by the least and greatest pixel of all of them.
        together: so many of these batches are made side by side, in one pass: what each becomes does not depend on it.
        iterations: how long they do.
        impression_lr: of their Adam.
        student_lr: of the student's Adam, without decay, by the recipe's schedule; null for the recipe's optimizer.
        temperature: softens the teacher on the impressions, and both networks when the student learns.
        concentrations: scales of the Dirichlet concentration, each for an equal share of the impressions.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures", "one row a sample")
    knowledge = ("response",)
    plain_logits = "draws the answers that it looks for, with a scale of their own"
    source = "Nayak, Mopuri, Shaj, Babu, Chakraborty: Zero-shot knowledge distillation in deep networks. ICML 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6", "Alkhulaifi 1")
    cautions: ClassVar = {
        "offline": "it was measured far below the student alone, which sees samples and labels: on the digits resnet8 ended at "
                   "77.4 ± 2.9 %, alone at 98.6 ± 0.1 % (three seeds)"}

    canvas: Canvas
    targets: Tensor
    images: Tensor
    soft: Tensor

    def __init__(self, *, impressions: AtLeastOne, batch_size: AtLeastOne, together: AtLeastOne,
                 iterations: AtLeastOne, impression_lr: Positive, student_lr: Positive | None, temperature: Positive,
                 concentrations: list[Positive]) -> None:
        super().__init__()
        if not concentrations:
            raise ValueError("concentrations needs at least one number")
        self.impressions, self.batch_size, self.together, self.iterations = impressions, batch_size, together, iterations
        self.impression_lr, self.student_lr = impression_lr, student_lr
        self.temperature, self.concentrations = temperature, list(concentrations)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The impressions, then the student.

        Raises:
            ValueError: the teacher has no classifier to read the likeness of classes from.
        """
        networks, data, device = run.networks, run.data, run.device
        channels, height, width = data.shape
        size = self.batch_size * self.together
        steps = 1 if run.rehearsal else -(-self.impressions // size)
        self.turns = 1 if run.rehearsal else self.iterations
        noise = run.noise([height, width, channels], batch_size=size, steps=steps, kind="uniform")
        count, classes = steps * noise.batch_size, len(data.classes)
        self.side_by_side = 1 if run.rehearsal else self.together
        similar = similarity(classifier(networks.teacher, classes).weight.detach().float().cpu())
        with seeded("impressions", run.seed):
            targets = draw_targets(similar, self.concentrations, count)
        self.register_buffer("targets", targets.to(device))
        self.register_buffer("images", torch.zeros(count, height, width, channels, device=device))
        self.register_buffer("soft", torch.zeros(count, classes, device=device))
        self.canvas = Canvas([noise.batch_size, height, width, channels]).to(device)
        self.normalise = data.normalise
        yield Phase("impressions", data=noise, epochs=1, evaluate=False)
        made = Samples(self.images.cpu(), self.soft.argmax(dim=1).cpu())
        stream = MemoryStream(made, data.task, data.normalise, batch_size=run.recipe.batch_size, crop=data.settings.crop,
                              flip=data.settings.flip, seed=run.seed, device=device)
        yield Phase("distill", loss=self.imitate, train=[networks.student], data=stream)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Of the first phase: the pictures."""
        return {"pictures": [self.canvas]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the pictures, and for the student where it has a rate of its own."""
        if player == "pictures":
            return self.canvas.optimizer(weights, self.impression_lr, (0.9, 0.999))
        return recipe.build(weights) if self.student_lr is None else torch.optim.Adam(weights, lr=self.student_lr)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """A batch of impressions, from noise to the wanted answers."""
        pixels, wanted = self.canvas.pixels, self.targets[batch.rows]
        self.canvas.restart(batch.tensor)
        for _ in range(self.turns):
            logits = networks.teacher(self.normalise(pixels)).logits
            # the sum of the batches' means, so that each has the gradient that it would have alone
            yield "pictures", {"ce": self.side_by_side * cross_entropy(wanted, logits, self.temperature)}
            with torch.no_grad():
                pixels.copy_(rescaled(pixels, self.side_by_side))
        with torch.no_grad():
            self.images[batch.rows] = pixels
            self.soft[batch.rows] = F.softmax(networks.teacher(self.normalise(pixels)).logits / self.temperature, dim=1)

    def imitate(self, networks: Networks, batch: Batch) -> Terms:
        """The student's loss in the second phase."""
        soft = cross_entropy(self.soft[batch.rows], networks.student(batch).logits, self.temperature)
        return {"kd": self.temperature**2 * soft}
