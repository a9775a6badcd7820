"""What methods share that keep samples of the classes they have learned."""

import copy
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream, herding
from kdrun.data.data import Data
from kdrun.data.stream import Stream
from kdrun.methods.base import Phase, Run
from kdrun.methods.lifelong.lifelong import Lifelong
from kdrun.methods.losses import unit_rows
from kdrun.models.cosine import CosineHead
from kdrun.models.output import ModelOutput
from kdrun.models.reclassified import reclassify
from kdrun.models.roles import Networks, Role
from kdrun.utils.seeding import generator

Budget = Literal["total", "per_class"]
Choice = Literal["herding", "random"]
Classifier = Literal["head", "means"]


class Rehearsal(Lifelong):
    """Learn each task from its samples and from those that are kept of earlier ones, all classes so far in one head.

    When a task is learned, samples of its classes are kept in the order of herding (or of a draw); where all classes share
    a fixed number, those of older ones are cut to the first. Two classifiers are tested after each task: the network's own
    head, and the nearest mean of the kept samples' unit embeddings, which the network as it is then gives to pictures
    without augmentation. The one of them that is the student is stored and goes to the results table, the other is
    in `tasks.csv` and `lifelong.csv` beside it, as `head` or `nearest_mean`. New and kept samples are mixed in each batch in
    the proportion of their numbers.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        exemplars: how many samples are kept.
        budget: whether of all classes so far together (`total`) or of each (`per_class`).
        choice: which: by `herding` or at `random`.
        classifier: of the student: its `head`, or the `means`.
        finetune: whether to train the reference that learns from new samples and labels alone.
    """

    heads = "class"
    rebuilds_student = True  # by another classifier

    def __init__(self, *, split: int | list[int], class_order: Literal["label", "seed"] | list[int], exemplars: int,
                 budget: Budget, choice: Choice, classifier: Classifier, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, finetune=finetune)
        self.exemplars, self.budget, self.choice, self.classifier = exemplars, budget, choice, classifier
        self.kept: list[Tensor] = []  # rows of the training split of each class learned so far, the best first
        self.means: Tensor | None = None  # of their unit embeddings, [K, D] by label; None while a task is learned

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin with nothing kept.

        Raises:
            ValueError: fewer samples are to be kept in all than there are classes.
        """
        self.kept, self.means = [], None
        if self.budget == "total" and self.exemplars < len(data.classes):
            raise ValueError(f"method.exemplars is {self.exemplars}, and there are {len(data.classes)} classes that share "
                             "them; wanted one for each at least, or method.budget=per_class")

    def batches(self, run: Run, stream: TaskStream) -> Stream:
        """New samples, and kept ones among them."""
        return self.joined(run, stream)

    def joined(self, run: Run, stream: TaskStream) -> TaskStream:
        """The stream of a task with what is kept."""
        self.means = None
        if self.kept:
            stream = TaskStream(run.stream, self.turns, self.now, torch.cat(self.kept), mixed=True)
        self.new = stream.new
        return stream

    def after(self, run: Run) -> Iterator[Phase]:
        """Keep samples of the new classes."""
        self.keep(run)
        yield from ()

    def keep(self, run: Run) -> None:
        """Choose samples of classes that have none so far, cut the others, and find the means."""
        seen = self.now.stop
        most = self.exemplars // seen if self.budget == "total" else self.exemplars
        labels = run.data.train.labels
        for turn in range(len(self.kept), seen):
            rows = (labels == int(self.order[turn])).nonzero()[:, 0]
            self.kept.append(rows[self.chosen(run, turn, rows)])
        self.kept = [rows[:most] for rows in self.kept]
        if not run.rehearsal:
            means = [unit_rows(embeddings(run, rows)).mean(dim=0) for rows in self.kept]
            missing = len(self.order) - seen
            self.means = torch.stack([*means, *[torch.zeros_like(means[0])] * missing])[self.turns.cpu()]

    def chosen(self, run: Run, turn: int, rows: Tensor) -> Tensor:
        """Which of the samples of a class are kept, in order: more than ever needed, so that they can be cut."""
        most = self.exemplars // self.now.stop if self.budget == "total" else self.exemplars
        if self.choice == "random":
            return torch.randperm(len(rows), generator=generator("exemplars", run.seed, turn))[:most]
        return torch.arange(len(rows))[:most] if run.rehearsal else herding(embeddings(run, rows), most)

    def by_means(self, student: Role) -> Role:
        """A copy of the student that classifies by the nearest mean: of unit vectors, the one of the highest cosine."""
        assert self.means is not None
        twin = copy.deepcopy(student)
        head = CosineHead(self.means.shape[1], len(self.means), 1.0)
        head.weight.data.copy_(self.means)
        reclassify(twin, head)
        return twin.eval()

    def tested(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student by both classifiers."""
        other, means = networks.student, self.by_means(networks.student)
        return {"student": means, "head": other} if self.classifier == "means" else {"student": other, "nearest_mean": means}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, by the means of what is kept once there are some; and the reference."""
        found = dict(super().trained_networks(networks))
        if self.classifier == "means" and self.means is not None:
            found["student"] = self.by_means(networks.student)
        return found

    def label_term_of(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The cross-entropy of new and kept samples over all classes so far."""
        return F.cross_entropy(output.logits[:, :self.now.stop], batch.labels, label_smoothing=self.label_smoothing)


@torch.no_grad()
def embeddings(run: Run, rows: Tensor) -> Tensor:
    """What the student makes of samples of the training split without augmentation, [N, D] on the CPU."""
    student = run.networks.student.eval()
    found = [student(batch).embedding.float().cpu() for batch in run.data.plain(run.data.train[rows], run.device)]
    student.forget()
    return torch.cat(found)
