"""What methods share that learn the classes one task after the other."""

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream, accuracies, class_order, forgetting, incremental_accuracy, split
from kdrun.data.stream import Stream
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, Role, frozen
from kdrun.tasks.base import Need


class Lifelong(Method):
    """A phase for each task, in which the student as it was before is the teacher.

    A task is a group of classes that follow each other in the order of learning, and its head is their part of the logits.
    Nothing but what a method keeps says anything about earlier tasks. After each task the student is tested on all tasks so
    far, with the task told (the task's classes compete) and untold (all classes so far compete): `tasks.csv` is that matrix,
    `lifelong.csv` its average at the end, the accuracy on all classes so far on average over the moments, and what was
    forgotten. Beside it stand two references: `finetune`, which learns the same tasks from the same batches by the labels
    alone, from the student's weights after the first task; and `joint`, the run's baseline, which had all classes at once.
    The accuracy of the results table is that with the task untold.

    A method sees the classes in the order of learning: labels of a batch are turns, and so are the columns of the logits
    that `asked` gives.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: as they are numbered, as the seed draws it, or this one.
        finetune: whether to train that reference, at the cost of one more network in all tasks but the first.
    """

    needs: ClassVar[tuple[Need, ...]] = ("pictures", "one row a sample", "sample labels")

    plain_logits = "meets labels and answers in the heads of single tasks"
    heads = "task"
    label_term = None  # labels are met in the heads of one task, or among the classes so far
    teacher_count: ClassVar[int | None] = 1  # of the snapshots that go on teaching, the last ones; None for all

    def __init__(self, *, split: int | list[int], class_order: Literal["label", "seed"] | list[int], finetune: bool) -> None:
        super().__init__()
        self.split, self.class_order, self.finetune = split, class_order, finetune
        self.tasks: list[slice] = []
        self.number = 0  # of the task that is learned now, from 0
        self.new = 0     # samples of that task in a batch; kept ones come after them
        self.answers: dict[str, list[Tensor]] = {}  # to the test set after each task, by learner

    @property
    def now(self) -> slice:
        """The classes of the present task."""
        return self.tasks[self.number]

    def phases(self, run: Run) -> Iterator[Phase]:
        """Task after task.

        Raises:
            ValueError: the test is of other classes than those that are learned.
        """
        networks, count = run.networks, len(run.data.classes)
        if int(run.data.test.labels.max()) >= count:
            raise ValueError("it is tested on the classes that it learned, and the test pictures here are of others; choose a "
                             "dataset of classification")
        self.tasks, self.answers = split(count, self.split), {}
        self.order = class_order(count, self.class_order, run.seed).to(run.device)
        self.turns = self.order.argsort()
        self.setup(networks, run.data)
        streams = [TaskStream(run.stream, self.turns, task) for task in self.tasks]
        snapshots: list[Role] = []
        for self.number, stream in enumerate(streams):
            self.new = stream.new
            if self.number:
                snapshots = [*snapshots, frozen(networks.student, f"after task {self.number}")][-(self.teacher_count or count):]
                networks.teachers = list(snapshots)
                if self.finetune and not networks.peers:
                    networks.peers = [copy.deepcopy(networks.student)]
                    networks.peers[0].name = "finetune"
                yield from self.before(run, stream)
            yield Phase(f"task {self.number + 1}", data=self.batches(run, stream), epochs=self.epochs(run))
            yield from self.after(run)
            if not run.rehearsal:
                self.examine(run)

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """What is trained first when a new task comes."""
        return iter(())

    def batches(self, run: Run, stream: TaskStream) -> Stream:
        """What a task is learned from."""
        return stream

    def epochs(self, run: Run) -> int | None:
        """How long; None for the recipe's epochs."""
        return None

    def after(self, run: Run) -> Iterator[Phase]:
        """What is trained when a task is learned, and what is kept of it."""
        return iter(())

    def asked(self, role: Role, batch: Batch) -> ModelOutput:
        """What a network answers, with its logits in the order of learning."""
        output = role(batch)
        return output if self.class_order == "label" else output.replace(logits=output.logits[:, self.order])

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student, and the reference beside it."""
        return {"student": [networks.student, self]} | {peer.name: [peer] for peer in networks.peers}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The student's update, and the reference's by the new labels alone."""
        yield "student", self.loss(networks, batch) if self.number else self.first_loss(networks, batch)
        for peer in networks.peers:
            new = batch if len(batch) == self.new else replace(batch, x=batch.tensor[:self.new])
            yield peer.name, {"ce": self.fresh(self.asked(peer, new), batch)}

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """What the student descends in the first task: the labels alone."""
        return {"ce": self.fresh(self.asked(networks.student, batch), batch)}

    def fresh(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The cross-entropy of the present task's samples: over its own head, or over all classes so far."""
        head = self.now if self.heads == "task" else slice(0, self.now.stop)
        logits, labels = output.logits[:self.new, head], batch.labels[:self.new] - head.start
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def tested(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Whatever is tested after each task, by learner."""
        return {"student": networks.student}

    def examine(self, run: Run) -> None:
        """Keep what each learner answers to the test set, in the order of learning."""
        def answered(network: nn.Module) -> Tensor:
            return predict(network, run.data, run.data.test, run.device)[:, self.order.cpu()]

        for name, network in {**self.tested(run.networks), **{peer.name: peer for peer in run.networks.peers}}.items():
            self.answers.setdefault(name, []).append(answered(network))
        if self.number == 0:  # up to here the reference is the student
            self.answers["finetune"] = list(self.answers.get("head", self.answers["student"]))

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student and the reference."""
        return {"student": networks.student, **{peer.name: peer for peer in networks.peers}}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The matrix of accuracies, and its summary."""
        labels, count = self.turns.cpu()[run.data.test.labels], len(self.tasks)
        sizes = [int(((labels >= task.start) & (labels < task.stop)).sum()) for task in self.tasks]
        answers = {name: told for name, told in self.answers.items() if len(told) == count}
        joint = run.factory.train(run.factory.student_spec, "baseline") if run.factory.train else None
        matrix, summary = [], []
        for told in (True, False):
            rows = {name: [accuracies(logits, labels, self.tasks[:after], told) for after, logits in enumerate(kept, 1)]
                    for name, kept in answers.items()}
            if joint is not None:
                together = predict(joint, run.data, run.data.test, run.device)[:, self.order.cpu()]
                rows["joint"] = [accuracies(together, labels, self.tasks, told)]
            for name, table in rows.items():
                matrix += [{"learner": name, "task_told": told, "after": len(row), "on": on, "accuracy": value}
                           for row in table for on, value in enumerate(row, 1)]
                apart = name == "joint"  # it has one moment
                summary.append({"learner": name, "task_told": told, "average_accuracy": statistics.fmean(table[-1]),
                                "incremental_accuracy": None if apart else incremental_accuracy(table, sizes),
                                "forgetting": None if apart else forgetting(table)})
        return {"tasks": matrix, "lifelong": summary}
