"""What methods share that learn the classes one task after the other."""

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream, accuracies, forgetting, split
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, frozen


class Lifelong(Method):
    """A phase for each task, in which the student as it was before is the teacher.

    A task is a group of consecutive classes, and its head is their part of the logits. Nothing but what a method keeps
    says anything about earlier tasks. After each task the student is tested on all tasks so far, with the task told (the
    task's classes compete) and untold (all classes so far compete): `tasks.csv` is that matrix, `lifelong.csv` its
    average at the end and what was forgotten. Beside it stand two references: `finetune`, which learns the same tasks
    from the same batches by the labels alone, from the student's weights after the first task; and `joint`, the run's
    baseline, which had all classes at once. The accuracy of the results table is that with the task untold.

    Args:
        split: how many tasks, or how many classes each has.
        finetune: whether to train that reference, at the cost of one more network in all tasks but the first.
    """

    needs = ("pictures", "one row a sample", "sample labels")

    plain_logits = "meets labels and answers in the heads of single tasks"
    heads = "task"
    label_term = None  # labels are met in the heads of one task

    def __init__(self, *, split: int | list[int], finetune: bool) -> None:
        super().__init__()
        self.split, self.finetune = split, finetune
        self.tasks: list[slice] = []
        self.number = 0  # of the task that is learned now, from 0
        self.new = 0     # samples of that task in a batch; kept ones come after them
        self.answers: dict[str, list[Tensor]] = {}  # to the test set after each task, by learner

    @property
    def now(self) -> slice:
        """The classes of the present task."""
        return self.tasks[self.number]

    def phases(self, run: Run) -> Iterator[Phase]:
        """Task after task."""
        networks = run.networks
        self.tasks, self.answers = split(len(run.data.classes), self.split), {"student": [], "finetune": []}
        streams = [TaskStream(run.stream, task) for task in self.tasks]
        for self.number, stream in enumerate(streams):
            self.new = stream.size
            if self.number:
                networks.teachers = [frozen(networks.student, f"after task {self.number}")]
                if self.finetune and not networks.peers:
                    networks.peers = [copy.deepcopy(networks.student)]
                    networks.peers[0].name = "finetune"
                yield from self.before(run, stream)
            yield Phase(f"task {self.number + 1}", data=self.batches(run, stream))
            if not run.rehearsal:
                self.examine(run)

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """What is trained first when a new task comes."""
        return iter(())

    def batches(self, run: Run, stream: TaskStream) -> TaskStream:
        """What a task is learned from."""
        return stream

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student, and the reference beside it."""
        return {"student": [networks.student, self]} | {peer.name: [peer] for peer in networks.peers}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The student's update, and the reference's by the new labels alone."""
        yield "student", self.loss(networks, batch) if self.number else {"ce": self.fresh(networks.student(batch), batch)}
        for peer in networks.peers:
            yield peer.name, {"ce": self.fresh(peer(batch if len(batch) == self.new else batch.tensor[:self.new]), batch)}

    def fresh(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The cross-entropy of the present task's samples: over its own head, or over all classes so far."""
        head = self.now if self.heads == "task" else slice(0, self.now.stop)
        logits, labels = output.logits[:self.new, head], batch.labels[:self.new] - head.start
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def examine(self, run: Run) -> None:
        """Keep what each learner answers to the test set."""
        for role in (run.networks.student, *run.networks.peers):
            self.answers[role.name].append(predict(role, run.data, run.data.test, run.device))
        if self.number == 0:  # up to here the reference is the student
            self.answers["finetune"] = list(self.answers["student"])

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student and the reference."""
        return {"student": networks.student, **{peer.name: peer for peer in networks.peers}}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The matrix of accuracies, and its summary."""
        labels, count = run.data.test.labels, len(self.tasks)
        answers = {name: told for name, told in self.answers.items() if len(told) == count}
        joint = run.factory.train(run.factory.student_spec, "baseline") if run.factory.train else None
        matrix, summary = [], []
        for told in (True, False):
            rows = {name: [accuracies(logits, labels, self.tasks[:after], told) for after, logits in enumerate(kept, 1)]
                    for name, kept in answers.items()}
            if joint is not None:
                rows["joint"] = [accuracies(predict(joint, run.data, run.data.test, run.device), labels, self.tasks, told)]
            for name, table in rows.items():
                matrix += [{"learner": name, "task_told": told, "after": len(row), "on": on, "accuracy": value}
                           for row in table for on, value in enumerate(row, 1)]
                summary.append({"learner": name, "task_told": told, "average_accuracy": statistics.fmean(table[-1]),
                                "forgetting": None if name == "joint" else forgetting(table)})
        return {"tasks": matrix, "lifelong": summary}
