"""Global distillation with samples without labels."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, Epochs, NonNegative, Positive, Proportion
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.data.data import Data
from kdrun.data.pool import BesidePool
from kdrun.data.stream import Stream
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.lifelong.rehearsal import Budget, Choice, Classifier, Rehearsal
from kdrun.methods.losses import kd
from kdrun.methods.losses.incremental import global_targets, uniformity
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, frozen
from kdrun.utils.seeding import generator


class GD(Rehearsal):
    """Learn from the past, from an expert of the new task and from both at once on samples without labels (Lee et al. 2019).

    When a task comes, a copy of the student first becomes its expert: by the labels of new samples, and with equal
    probabilities for all others. Then the student learns the labels of new and kept samples, the past's answers on the
    old classes and the expert's on the new ones, and, for samples without labels, the answers of both as one over all
    classes. At last its classifier alone is tuned by the same terms, in which the labels of each class weigh as much as those
    of any other. Samples without labels are drawn anew for each task, as many as there are labelled ones, or all there are: a
    share at random, the rest those that the past is surest of.

    The paper finds them in other pictures, few of which show a class that is to be learned. Here they are the samples of the
    data set whose labels are withheld (`dataset.labelled`), of all classes and so of later ones too. `external=none` goes
    without, as the paper's first table does. See `Rehearsal` for what is kept, and `Lifelong` for tasks, tests and references.
    When the classifier is tuned, batch statistics stay as they are.

    On the digits (resnet8, five tasks of two classes, 100 kept samples in all, three seeds) the average accuracy over all
    classes at the end is, with 500 labels and the others as the pool, 95.6 ± 0.2 %, of `joint` 98.1 ± 0.3 %; without a pool and
    with all labels 93.3 ± 1.7 %, of `joint` 98.6 ± 0.1 %; of `finetune` 16.4 ± 1.9 and 19.7 ± 0.2 %.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        external: where samples without labels come from: the `pool`, or `none`.
        random_share: of those that are drawn at random.
        temperature: of the past's and of the expert's answers.
        global_temperature: of both as one.
        weight: of all three.
        confidence_weight: of the equal probabilities.
        expert_epochs: how long an expert is trained.
        tune_share: of the recipe's epochs in which the classifier alone is tuned.
        tune_rate: the learning rate of that, as a share of the recipe's.
        exemplars: how many samples are kept.
        budget: whether of all classes so far together (`total`) or of each (`per_class`).
        choice: which: by `herding` or at `random`.
        classifier: of the student: its `head`, or the `means`.
        finetune: whether to train the reference.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    source = ("Lee, Lee, Shin, Lee: Overcoming catastrophic forgetting with unlabeled data in the wild. ICCV 2019")
    survey_scheme = ""
    survey_tables = ("Gou section 6.8", "Zhu section III-E")

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 external: Literal["pool", "none"], random_share: Proportion, temperature: Positive,
                 global_temperature: Positive, weight: NonNegative, confidence_weight: NonNegative, expert_epochs: Epochs,
                 tune_share: Proportion, tune_rate: Positive, exemplars: AtLeastOne, budget: Budget, choice: Choice,
                 classifier: Classifier, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, exemplars=exemplars, budget=budget, choice=choice,
                         classifier=classifier, finetune=finetune)
        self.external, self.random_share, self.temperature = external, random_share, temperature
        self.global_temperature, self.weight, self.confidence_weight = global_temperature, weight, confidence_weight
        self.expert_epochs, self.tune_share, self.tune_rate = expert_epochs, tune_share, tune_rate
        self.shares: Tensor | None = None  # the weight of each class's labels, [K so far], while the classifier is tuned
        self.drawn: Stream | None = None   # of the present task

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin with nothing drawn."""
        super().setup(networks, data)
        self.shares = self.drawn = None

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """The expert of the new task."""
        networks = run.networks
        self.drawn = self.beside(run, stream)
        student, networks.student = networks.student, copy.deepcopy(networks.student)
        yield Phase(f"task {self.number + 1} expert", loss=self.first_loss, train=[networks.student], data=self.drawn,
                    epochs=self.expert_epochs, evaluate=False)
        networks.teachers.append(frozen(networks.student, "expert"))
        networks.student = student

    def batches(self, run: Run, stream: TaskStream) -> Stream:
        """New samples and kept ones, and others without labels beside them."""
        if not self.number:
            self.drawn = self.beside(run, stream)
        assert self.drawn is not None
        return self.drawn

    def beside(self, run: Run, stream: TaskStream) -> Stream:
        """Those batches for the present task."""
        joined = self.joined(run, stream)
        if self.external == "none":
            return joined
        rows = self.found(run, joined.samples + sum(map(len, self.kept)))
        return BesidePool(joined, run.pool(joined.size, len(joined), rows, f"pool of task {self.number + 1}"))

    def found(self, run: Run, count: int) -> Tensor:
        """Which samples without labels a task is learned with, of about so many."""
        pool = run.unlabelled()
        count, old = min(count, len(pool)), self.now.start
        at_random = round(self.random_share * count) if old else count
        mine = torch.zeros(len(pool), dtype=torch.bool)
        mine[torch.randperm(len(pool), generator=generator("external", run.seed, self.number))[:at_random]] = True
        if at_random < count and not run.rehearsal:
            logits = predict(run.networks.teacher, run.data, pool, run.device)[:, self.order.cpu()[:old]]
            mine[logits.topk(min(len(pool), (count - at_random) // old), dim=0).indices.flatten()] = True
        return mine.nonzero()[:, 0] if mine.any() else torch.arange(1)

    def tuned(self, run: Run) -> int:
        """For how many epochs the classifier alone is tuned."""
        return min(round(self.tune_share * run.recipe.epochs), run.recipe.epochs - 1)

    def epochs(self, run: Run) -> int | None:
        """The recipe's, less those of the tuning."""
        return run.recipe.epochs - self.tuned(run) if self.number else None

    def after(self, run: Run) -> Iterator[Phase]:
        """Tune the classifier, and keep samples."""
        student = run.networks.student
        if self.number and self.tuned(run):
            turns = self.turns.cpu()[run.data.train.labels]
            counts = torch.stack([(turns == turn).sum() for turn in range(self.now.stop)])
            counts[:len(self.kept)] = torch.tensor([len(rows) for rows in self.kept])
            self.shares = (counts.sum() / (counts * len(counts))).to(run.device)
            yield Phase(f"task {self.number + 1} classifier", loss=self.loss, data=self.drawn, epochs=self.tuned(run),
                        train=[student.network.get_submodule(student.classifier)])
            self.shares = None
        yield from super().after(run)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's; at a rate of its own where the classifier is tuned."""
        return (recipe if self.shares is None else replace(recipe, lr=self.tune_rate * recipe.lr)).build(weights)

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """New labels in the task's own classes, and equal probabilities for kept samples and those without labels."""
        logits = self.asked(networks.student, whole(batch)).logits[:, self.now]
        terms = {"ce": F.cross_entropy(logits[:self.new], batch.labels[:self.new] - self.now.start,
                                       label_smoothing=self.label_smoothing)}
        if len(logits) > self.new:
            terms["confidence"] = self.confidence_weight * uniformity(logits[self.new:])
        return terms

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, the past on old classes, the expert on new ones, and both as one for samples without labels."""
        everything, labelled, old, seen = whole(batch), len(batch), self.now.start, self.now.stop
        student = self.asked(networks.student, everything).logits[:, :seen]
        past, expert = (self.asked(teacher, everything).logits.detach() for teacher in networks.teachers)
        past, expert, count = past[:, :old], expert[:, self.now], len(student)
        each = F.cross_entropy(student[:labelled], batch.labels, reduction="none", label_smoothing=self.label_smoothing)
        weighed = each if self.shares is None else each * self.shares[batch.labels]
        terms = {"ce": weighed.sum() / count,
                 "past": self.weight * old / seen * kd(past, student[:, :old], self.temperature),
                 "expert": self.weight * (1 - old / seen) * kd(expert, student[:, self.now], self.temperature)}
        if count > labelled:
            warmth = self.global_temperature
            wanted = global_targets((past[labelled:] / warmth).softmax(dim=1), (expert[labelled:] / warmth).softmax(dim=1))
            apart = F.kl_div(F.log_softmax(student[labelled:] / warmth, dim=1), wanted, reduction="sum")
            terms["global"] = self.weight * warmth**2 * apart / count
        return terms


def whole(batch: Batch) -> Batch:
    """A batch and the one of the pool beside it as one, without labels."""
    return batch if batch.pool is None else Batch(torch.cat([batch.tensor, batch.pool.tensor]))
