"""Leap, and Reptile beside it."""

import copy
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Bounds, Positive, Turns
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.data.small_tasks import SmallTasks
from kdrun.evaluation import metrics
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.models.roles import Frozen, Networks, Role, frozen

AtLeastTwo = Annotated[int, Bounds(least=2)]


def segment(before: Tensor, after: Tensor, slope: Tensor, rise: Tensor, *, norm: bool = True) -> Tensor:
    """What one step of a training adds to the gradient that shortens its path, with respect to where it began.

    Source: Flennerhag, Moreno, Lawrence, Damianou, Transferring knowledge across learning processes, ICLR 2019, equation 7 and
    the authors' code, which stabilises it: a loss that rose counts as one that fell as much.

    Args:
        before: the weights [P].
        after: the weights after the step.
        slope: the gradient of the loss before it.
        rise: of the loss, a scalar.
        norm: whether the path's length counts (d1); or its energy (d2).

    Example:
        >>> one = [torch.tensor([value]) for value in (1.0, 0.8, 2.0)]
        >>> segment(*one, torch.tensor(-0.36)), segment(*one, torch.tensor(-0.36), norm=False)
        (tensor([2.2340]), tensor([0.9200]))
        >>> segment(*one, torch.tensor(0.2))  # the loss rose
        tensor([2.1213])
    """
    fall = -rise.abs()
    added = before - after - fall * slope
    return added / torch.sqrt((after - before).square().sum() + fall.square()) if norm else added


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All their numbers in one row."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class Leap(Method):
    """Learn first weights from which trainings on small tasks take short paths, then learn all classes (Flennerhag 2019).

    A task has a few of the seen classes, drawn and numbered anew. From the present first weights it is trained by SGD; the path
    that its weights and its loss take has a length, and the first weights descend the mean of that over some tasks. The head is
    shared: a task uses the first of its outputs. Normalisations begin each task as they are at first.

    `curves.csv` is what it is for: on tasks of classes that were not seen, loss and accuracy on test pictures after each step,
    the mean over episodes with its 95 % interval, from these first weights and three others: random ones, those of `reptile`
    (which draws the first weights to where trainings ended, on the same tasks) and those of a network trained on all seen
    classes together (`joint`, by the recipe, with a new head). Normalisation there is by the test pictures of the task, for all
    alike.

    The student of the results begins with the learned first weights, with its head as it first was, and learns all classes by
    the recipe: what comes out beside the baseline says whether they help where data are not few.

    Measured on the digits (resnet8, default settings, one seed), accuracy on tasks of unseen classes after one, three and
    ten steps: 80.5, 92.3 and 96.4 % from these first weights, 75.9, 89.0 and 96.1 % from Reptile's, 64.2, 82.5 and 94.7 %
    after joint training, 39.6, 48.8 and 76.3 % from random ones. The student that then learned all classes has 98.6 %, as
    it has alone.

    Args:
        unseen: how many classes, the last ones, are kept for the curves.
        ways: classes of a task.
        updates: of the first weights.
        tasks: trainings for each.
        steps: of a training.
        size: samples of a step.
        lr: of a training.
        meta_lr: of the updates.
        reptile_lr: of Reptile's.
        norm: whether the length of a path counts, or its energy.
        test_steps: of a training on a task of unseen classes.
        episodes: how many such tasks.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ()
    plain_logits = "learns small tasks before labels"
    label_term = None  # tasks number their classes by themselves
    source = "Flennerhag, Moreno, Lawrence, Damianou: Transferring knowledge across learning processes. ICLR 2019"
    survey_scheme = ""
    survey_tables = ("Gou section 6.8",)

    gathered: Tensor
    start: Frozen

    def __init__(self, *, unseen: AtLeastOne, ways: AtLeastTwo, updates: AtLeastOne, tasks: AtLeastOne, steps: AtLeastTwo,
                 size: AtLeastOne, lr: Positive, meta_lr: Positive, reptile_lr: Positive, norm: bool, test_steps: Turns,
                 episodes: AtLeastTwo) -> None:
        super().__init__()
        self.unseen, self.ways, self.updates, self.tasks = unseen, ways, updates, tasks
        self.steps, self.size, self.lr = steps, size, lr
        self.meta_lr, self.reptile_lr, self.norm = meta_lr, reptile_lr, norm
        self.test_steps, self.episodes = test_steps, episodes
        self.learner: Role | None = None

    def phases(self, run: Run) -> Iterator[Phase]:
        """First weights by paths, then those of the references, then all classes.

        Raises:
            ValueError: there are too few classes.
        """
        student, count = run.networks.student, len(run.data.classes)
        if min(self.unseen, count - self.unseen) < self.ways:
            raise ValueError(f"a task has method.ways={self.ways} classes, and of {count} are method.unseen={self.unseen} kept "
                             f"for tests; both these and the others have to be {self.ways} or more")
        self.seen, head = count - self.unseen, student.classifier
        first = {name: value.clone() for name, value in student.network.get_submodule(head).state_dict().items()}
        reptile, joint = run.factory.student(), run.factory.student()
        reptile.name, joint.name = "reptile", "joint"
        run.networks.peers = [reptile, joint]
        updates, self.turn, self.length = (1, 1, 2) if run.rehearsal else (self.updates, self.tasks, self.steps)
        small = SmallTasks(run.stream, range(self.seen), ways=self.ways, steps=self.length, size=self.size,
                           count=updates * self.turn)
        for name, self.learner in (("leap", student), ("reptile", reptile)):
            self.register_buffer("gathered", torch.zeros(sum(weight.numel() for weight in self.learner.parameters()),
                                                         device=run.device))
            yield Phase(name, train=[self.learner], data=small, epochs=1, evaluate=False)
        known = TaskStream(run.stream, torch.arange(count), slice(0, self.seen))
        yield Phase("joint", loss=self.together, train=[joint], data=known, evaluate=False)
        self.learner, self.start = None, frozen(student, "leap")
        for network in (student.network, joint.network):
            network.get_submodule(head).load_state_dict(first)
        yield Phase("distill", loss=self.loss, train=[student])

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """SGD at a constant rate for first weights."""
        if self.learner is None:
            return recipe.build(weights)
        rate = self.reptile_lr if self.learner.name == "reptile" else self.meta_lr
        return torch.optim.SGD([{"params": list(weights), "scheduled": False}], lr=rate)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """A task, and after the last of several an update of the first weights."""
        assert self.learner is not None
        gradient = self.walked(self.learner, batch)
        self.gathered += gradient / self.turn
        if (batch.step + 1) % self.turn == 0:
            down = (flat(self.learner.parameters()) * self.gathered.clone()).sum()
            yield "student", {"path": self.gathered.norm() + down - down.detach()}  # of that gradient, whatever its value
            self.gathered.zero_()

    def walked(self, learner: Role, batch: Batch) -> Tensor:
        """Train a copy of a network on a task; returns the gradient of its first weights."""
        copied = copy.deepcopy(learner.network).train()
        weights = list(copied.parameters())
        first = flat(weights).detach()
        gradient, before = torch.zeros_like(first), None
        for pictures, labels in zip(batch.pictures.chunk(self.length), batch.labels.chunk(self.length), strict=True):
            loss = F.cross_entropy(learner.through(pictures, copied).logits[:, :self.ways], labels)
            slopes = torch.autograd.grad(loss, weights)
            now = flat(weights).detach(), loss.detach(), flat(slopes)
            if before is not None and learner.name != "reptile":
                gradient += segment(before[0], now[0], before[2], now[1] - before[1], norm=self.norm)
            before = now
            with torch.no_grad():
                for weight, slope in zip(weights, slopes, strict=True):
                    weight.sub_(self.lr * slope)
        return first - flat(weights).detach() if learner.name == "reptile" else gradient

    def together(self, networks: Networks, batch: Batch) -> Terms:
        """All seen classes, for one of the references."""
        return {"ce": F.cross_entropy(networks.peers[1](batch).logits[:, :self.seen], batch.labels)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels of all classes."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """How trainings on tasks of unseen classes go, from each of the first weights."""
        starts = {"random": run.factory.student(), **{role.name: role for role in (*run.networks.peers, self.start)}}
        small = SmallTasks(run.stream, range(self.seen, len(run.data.classes)), ways=self.ways, steps=self.test_steps,
                           size=self.size, count=self.episodes, name="unseen tasks")
        told: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in starts}
        for number in range(self.episodes):
            task = small.task(0, number)
            batch, test = small.batch(task, 0, 1, number), queries(run, task.classes)
            for name, role in starts.items():
                told[name].append(list(self.curve(role, batch, *test)))
        rows: list[dict[str, object]] = []
        for name, curves in told.items():
            for step, measured in enumerate(zip(*curves, strict=True)):
                row: dict[str, object] = {"start": name, "step": step, "episodes": len(measured)}
                for measure, values in zip(("loss", "accuracy"), zip(*measured, strict=True), strict=True):
                    row |= {measure: statistics.fmean(values), f"{measure}_interval": metrics.half_interval(values)}
                rows.append(row)
        return {"curves": rows}

    def curve(self, role: Role, batch: Batch, pictures: Tensor, labels: Tensor) -> Iterator[tuple[float, float]]:
        """Loss and accuracy on test pictures before a training on a task and after each of its steps."""
        copied = copy.deepcopy(role.network).requires_grad_(True).train()
        optimizer = torch.optim.SGD(copied.parameters(), lr=self.lr)

        def measured() -> tuple[float, float]:
            with torch.no_grad():
                logits = role.through(pictures, copied).logits[:, :self.ways]
            return float(F.cross_entropy(logits, labels)), float((logits.argmax(dim=1) == labels).double().mean())

        yield measured()
        for shown, wanted in zip(batch.pictures.chunk(self.test_steps), batch.labels.chunk(self.test_steps), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(role.through(shown, copied).logits[:, :self.ways], wanted).backward()
            optimizer.step()
            yield measured()


def queries(run: Run, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The test pictures of some classes, at most a hundred of each, and their labels by their places among these."""
    test = run.data.test
    rows = [(test.labels == label).nonzero()[:100, 0] for label in classes.tolist()]
    labels = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(own) for own in rows]))
    return run.data.normalise(test.inputs[torch.cat(rows)]).to(run.device), labels.to(run.device)
