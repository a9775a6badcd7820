"""A unified classifier, learned incrementally via rebalancing."""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

from kdrun.config.constraints import AtLeastOne, Count, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.lifelong.rehearsal import Budget, Choice, Classifier, Rehearsal
from kdrun.methods.losses.incremental import cosine_distance, margin_ranking
from kdrun.models.cosine import CosineHead
from kdrun.models.reclassified import head_of, reclassify
from kdrun.models.roles import Networks


class LUCIR(Rehearsal):
    """Classify by cosines, keep the directions of embeddings, and keep old classes apart from new ones (Hou et al. 2019).

    The classifier is one of cosines with a learned scale, and the embedding is read before the last activation. Of old
    classes the vectors stay as they are. The past says in which direction the embedding of each sample is to lie, the more
    weighty the more old classes there are to a new one, and kept samples are to be nearer to their class than to the
    nearest new ones by a margin. The release can tune the classifier on balanced samples afterwards, which the paper does
    not count to the method and this does not. See `Rehearsal` for what is kept, and `Lifelong` for tasks, tests and
    references; `finetune` has a classifier of cosines too.

    On the digits (resnet8, five tasks of two classes, ten kept samples of each, three seeds) the average accuracy over all
    classes at the end is 90.5 ± 0.8 %, 91.1 ± 2.2 % by means, 19.9 ± 0.1 % of `finetune` and 98.6 ± 0.1 % of `joint`; 1.1
    points are forgotten, and it is the newest classes that lack accuracy.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        scale: of the cosines at first.
        weight: of the directions, times the root of old classes to a new one.
        ranking_weight: of the margins.
        margin: that old classes are kept from new ones by.
        nearest: how many new classes a kept sample is kept from.
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
    source = "Hou, Pan, Loy, Wang, Lin: Learning a unified classifier incrementally via rebalancing. CVPR 2019"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 scale: Positive, weight: NonNegative, ranking_weight: NonNegative, margin: NonNegative, nearest: AtLeastOne,
                 exemplars: AtLeastOne, budget: Budget, choice: Choice, classifier: Classifier, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, exemplars=exemplars, budget=budget, choice=choice,
                         classifier=classifier, finetune=finetune)
        self.scale, self.weight, self.ranking_weight = scale, weight, ranking_weight
        self.margin, self.nearest = margin, nearest

    def setup(self, networks: Networks, data: Data) -> None:
        """Put the classifier of cosines in the place of the student's."""
        super().setup(networks, data)
        width, classes = networks.student.shapes.embedding[0], len(data.classes)
        reclassify(networks.student, CosineHead(width, classes, self.scale, learned=True), signed=True)

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """Vectors of old classes learn no more."""
        head_of(run.networks.student, CosineHead).keep_still(self.order[:self.now.start])
        yield from ()

    @property
    def directions(self) -> float:
        """The weight of the directions in this task."""
        old = self.now.start
        return self.weight * math.sqrt(old / (self.now.stop - old))

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_term_of(self.asked(networks.student, batch), batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, the past's directions, and margins from new classes."""
        student, past = self.asked(networks.student, batch), networks.teacher(batch)
        cosines = student.logits[:, :self.now.stop] / head_of(networks.student, CosineHead).scale
        apart = margin_ranking(cosines, batch.labels, self.now.start, self.nearest, self.margin)
        return {"ce": self.label_term_of(student, batch),
                "directions": self.directions * cosine_distance(past.embedding, student.embedding),
                "ranking": self.ranking_weight * apart}
