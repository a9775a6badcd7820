"""Pooled outputs distillation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, Epochs, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import KeptStream, TaskStream
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.clustering import kmeans
from kdrun.methods.lifelong.rehearsal import Budget, Choice, Classifier, Rehearsal, embeddings
from kdrun.methods.losses import unit_rows
from kdrun.methods.losses.incremental import cosine_distance, margin_nca, pod
from kdrun.models.cosine import CosineHead
from kdrun.models.reclassified import head_of, reclassify
from kdrun.models.roles import Networks
from kdrun.utils.seeding import generator

ROUNDS = 100  # of clustering, at most


class PODNet(Rehearsal):
    """Keep pooled maps and embeddings as they were, and classify by several proxies a class (Douillard et al. 2020).

    The past's maps before each activation are squared, summed along their width and along their height, and compared as
    vectors of unit length (POD-spatial); embeddings are compared in their direction (POD-flat). Both weigh more the more
    classes there are to a new one. The classifier compares the embedding, read before the last activation, with ten proxies
    of each class; proxies of new classes begin at the centres of clusters of what the past makes of their samples, and
    those of old classes stay as they are. The label loss is a margin loss over proxies (NCA), in the paper's form: in the
    release the margin is taken from all similarities, where it cancels, and the hinge is of the mean or left out.
    After each task but the first the classifier alone is tuned on as many kept samples of every class. See `Rehearsal` for
    what is kept, and `Lifelong` for tasks, tests and references; `finetune` has such a classifier too, and learns by
    cross-entropy.

    On the digits (resnet8, five tasks of two classes, ten kept samples of each, three seeds) the average accuracy over all
    classes at the end is 94.5 ± 1.5 %, as much by means, 20.0 ± 0.1 % of `finetune` and 98.6 ± 0.1 % of `joint`; 6.4 points are
    forgotten. Where the margin moves the scale too, the scale falls below zero and the student learns nothing (0.2 %).

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        proxies: of each class.
        scale: of the cosines at first.
        margin: of the label loss.
        spatial_weight: of the pooled maps, times the root of classes so far to a new one.
        flat_weight: of the embedding, likewise.
        tune_epochs: of the classifier alone.
        tune_rate: its learning rate, as a share of the recipe's, which stays at that.
        exemplars: how many samples are kept.
        budget: whether of all classes so far together (`total`) or of each (`per_class`).
        choice: which: by `herding` or at `random`.
        classifier: of the student: its `head`, or the `means`.
        finetune: whether to train the reference.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps", "pictures", "one row a sample", "sample labels")
    knowledge = ("feature",)
    source = ("Douillard, Cord, Ollion, Robert, Valle: PODNet: Pooled outputs distillation for small-tasks incremental "
              "learning. ECCV 2020")
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 proxies: AtLeastOne, scale: Positive, margin: NonNegative, spatial_weight: NonNegative,
                 flat_weight: NonNegative, tune_epochs: Epochs, tune_rate: Positive, exemplars: AtLeastOne, budget: Budget,
                 choice: Choice, classifier: Classifier, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, exemplars=exemplars, budget=budget, choice=choice,
                         classifier=classifier, finetune=finetune)
        self.proxies, self.scale, self.margin = proxies, scale, margin
        self.spatial_weight, self.flat_weight = spatial_weight, flat_weight
        self.tune_epochs, self.tune_rate, self.tuning = tune_epochs, tune_rate, False

    def setup(self, networks: Networks, data: Data) -> None:
        """Put the classifier of proxies in the place of the student's.

        Raises:
            ValueError: a class has fewer samples than proxies, or the first task has one class alone.
        """
        super().setup(networks, data)
        classes = len(data.classes)
        fewest = int(torch.bincount(data.train.labels, minlength=classes).min())
        if fewest < self.proxies:
            raise ValueError(f"method.proxies is {self.proxies}, and a class has {fewest} training pictures, at whose clusters "
                             f"they begin; wanted at most {fewest}")
        if self.now.stop < 2:
            raise ValueError(f"method.split is {self.split}: its margins need a first task of two classes or more")
        width = networks.student.shapes.embedding[0]
        head = CosineHead(width, classes, self.scale, learned=True, proxies=self.proxies)
        reclassify(networks.student, head, signed=True)

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """Proxies of old classes learn no more, those of new ones begin at centres of clusters."""
        head, labels = head_of(run.networks.student, CosineHead), run.data.train.labels
        head.keep_still(self.order[:self.now.start])
        length = head.weight.detach()[head.rows(self.order[:self.now.start])].norm(dim=1).mean()
        for label in [] if run.rehearsal else self.order[self.now].tolist():
            seen = unit_rows(embeddings(run, (labels == label).nonzero()[:, 0]))
            _, centres = kmeans(seen, self.proxies, ROUNDS, generator("proxies", run.seed, label))
            begun = length * unit_rows(centres).to(length)
            head.weight.data[head.rows(torch.tensor([label], device=length.device))] = begun
        yield from ()

    def after(self, run: Run) -> Iterator[Phase]:
        """Keep samples, and tune the classifier on them."""
        self.keep(run)
        if not self.number or not self.tune_epochs:
            return
        head = head_of(run.networks.student, CosineHead)
        head.keep_still(None)
        self.tuning = True
        yield Phase(f"task {self.number + 1} classifier", loss=self.first_loss, train=[head],
                    data=KeptStream(run.stream, self.turns, torch.cat(self.kept)), epochs=self.tune_epochs, constant_rate=True)
        self.tuning = False

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's; at a rate of its own where the classifier is tuned."""
        return (replace(recipe, lr=self.tune_rate * recipe.lr) if self.tuning else recipe).build(weights)

    @property
    def share(self) -> float:
        """The root of classes so far to a new one."""
        return math.sqrt(self.now.stop / (self.now.stop - self.now.start))

    def nca(self, networks: Networks, logits: Tensor, batch: Batch) -> Tensor:
        """The label loss of logits in the order of learning."""
        scale = head_of(networks.student, CosineHead).scale
        return margin_nca(logits[:, :self.now.stop] / scale, batch.labels, scale, self.margin)

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"nca": self.nca(networks, self.asked(networks.student, batch).logits, batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and the past's maps and embedding."""
        student, past = self.asked(networks.student, batch), networks.teacher(batch)
        maps = [pod(before, now) for before, now in zip(past.preacts, student.preacts, strict=True)]
        return {"nca": self.nca(networks, student.logits, batch),
                "spatial": self.share * self.spatial_weight * torch.stack(maps).mean(),
                "flat": self.share * self.flat_weight * cosine_distance(past.embedding, student.embedding)}
