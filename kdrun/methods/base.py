"""What a distillation method is, and what it is given: two generators, of what to train next and of what to optimise next."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.noise import Noise
from kdrun.data.pool import Pool
from kdrun.data.samples import Samples
from kdrun.data.stream import MemoryStream, Stream
from kdrun.models.factory import NetworkFactory
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks
from kdrun.tasks.base import Need, Task
from kdrun.tasks.classification import Classification
from kdrun.utils.seeding import generator, seed_of

if TYPE_CHECKING:  # what is shown is no part of the code that a result depends on
    from kdrun.utils.progress import Progress

__all__ = ["Method", "Phase", "Product", "Run", "Scheme", "Terms", "Updates"]

Terms = dict[str, Tensor]  # named, weighted scalars: their sum is what one update descends
Updates = Iterable[tuple[str, Terms]]  # players, and what each descends in one update
Knowledge = Literal["response", "feature", "relation"]
Teachers = Literal["none", "one", "many"]


@dataclass
class Phase:
    """A stretch of training between two decisions of a method.

    Attributes:
        name: what progress and history call it. Phases of the same name continue one optimizer and one schedule.
        loss: the student's loss in this phase; None for the method's own `step`.
        train: what learns in this phase; None for the method's `players`. Everything else stays as it is, batch
            statistics too.
        data: where its batches come from; None for the run's training data.
        epochs: how long; None for the recipe's epochs.
        total: over how many epochs the schedule runs, where phases of this name follow each other; None for `epochs`.
        restart: whether the schedule begins anew with this phase, where phases of this name follow each other; optimizer
            and count of epochs go on.
        constant_rate: whether the learning rate stays at its height instead of following the recipe's schedule, as a phase
            does that prepares a student for the one the schedule is meant for; a warm-up of the recipe still opens it.
        evaluate: whether the student classifies in this phase, so that its validation accuracy means something.
    """

    name: str = "distill"
    loss: Callable[[Networks, Batch], Terms] | None = None
    train: Sequence[nn.Module] | None = None
    data: Stream | None = None
    epochs: int | None = None
    total: int | None = None
    restart: bool = False
    constant_rate: bool = False
    evaluate: bool = True


@dataclass(frozen=True)
class Product:
    """Tensors that a training makes beside networks: a data set, labels, ...

    Attributes:
        tensors: by name.
        about: what each of them is, by its name: a line, which is written beside them.
    """

    tensors: Mapping[str, Tensor]
    about: Mapping[str, str]


class Method(nn.Module):
    """A way to train a student. Most methods write `loss` and nothing else.

    A method takes its numbers in `__init__`, by keyword and without defaults (they stand in its YAML file, with their
    source), and builds its own modules in `setup`, when the networks are known. Subclasses say:

        schemes: under which schemes the method makes sense.
        teachers: how many of the run's teachers it learns from: exactly one, one or many, or none where its networks
            teach one another or themselves. Then no scheme gives it one, none is trained, and none is compared with.
        partial_teachers: whether each of its teachers knows a part of the classes (the run's `teacher_classes`), and puts its
            logits in the order of these (`role.task.numbers`).
        accepts_fitted_student: whether its student may be a model that is made in one go and not by steps (a decision tree).
        needs: what the method cannot do without, and not every task and network has; what does not fit is refused before
            anything is trained.
        plain_logits: for what it needs logits as they are; empty where it does nothing with them but compare them with
            those of other networks, and meets labels by `label_loss` alone, so that they may be standardised for it.
        past_teaches: whether the student's past is its teacher under `scheme=self`; not where it brings its own there.
        label_term: which of the terms that the student descends is its own cross-entropy with the labels: `label_loss` of its
            answer to the batch, times a number that does not learn, and nothing else (that of peers, branches or
            further views has another name). None where no term is that, and yet the labels are learned.
        rebuilds_student: whether what comes out as the student is a network of its own that has the student as a part, so that
            the student alone cannot teach in turn.
        shares_parameters: whether two players may train the same weights, each by an optimizer of its own.
        knowledge: what is carried over, the main kind first; empty where nothing is.
        source: the paper, as "Authors, title, venue year".
        structural: whether that is of the structure of the network or of the data: graphs, attention, hierarchies (Zhu et
            al. 2024, section II-D), a second label beside `knowledge`.
        survey_scheme: the scheme under which the surveys file it, as they print it; empty where none does.
        cautions: by scheme, where it was measured to end below the student alone; the card has it, and a run prints it.
        survey_tables: what it serves in the surveys: tables ("Gou 3", "Alkhulaifi 1") and sections ("Zhu section III-A").
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online", "self")
    teachers: ClassVar[Teachers] = "one"
    partial_teachers: ClassVar[bool] = False
    accepts_fitted_student: ClassVar[bool] = False
    needs: ClassVar[tuple[Need, ...]] = ()
    past_teaches: bool = True
    rebuilds_student: ClassVar[bool] = False
    shares_parameters: ClassVar[bool] = False
    label_term: str | None = "ce"
    plain_logits: str = "does not say that it compares logits and no more (`plain_logits`)"
    knowledge: ClassVar[tuple[Knowledge, ...]] = ()
    source: ClassVar[str] = ""
    structural: ClassVar[bool] = False
    survey_scheme: ClassVar[str] = ""
    survey_tables: ClassVar[tuple[str, ...]] = ()
    cautions: ClassVar[Mapping[str, str]] = {}

    # the recipe's, the data's and the run's, set before the first phase, in bases and parts too
    label_smoothing: float = 0.0
    task: Task = Classification((), ())
    random: torch.Generator  # draws whatever the method chooses at random

    def __init_subclass__(cls) -> None:
        """Check what is easily written otherwise.

        Raises:
            TypeError: `knowledge` is no tuple.
        """
        super().__init_subclass__()
        if isinstance(cls.knowledge, str):
            raise TypeError(f'{cls.__name__}.knowledge is a tuple, as ("{cls.knowledge}",)')

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        """Have the run print a line before it trains anything; called from `setup` or `phases`, which the rehearsal runs."""
        if line not in self.notes:  # a chain sets up several pairs
            self.notes.append(line)

    def all_notes(self) -> list[str]:
        """The lines of this method and of those that it is made of, each with the setting that holds it in front."""
        return [f"{'.'.join(['method', *place.split('.')] if place else ['method'])}: {line}"
                for place, part in self.named_modules() if isinstance(part, Method) for line in part.notes]

    def all_needs(self) -> dict[Need, str]:
        """What this method and those that it is made of cannot do without, with the class that says so."""
        return {need: type(part).__name__ for part in self.modules() if isinstance(part, Method) for need in part.needs}

    def setup(self, networks: Networks, data: Data) -> None:
        """Build what the method adds to the networks; called from `phases`, so once for each pair it trains."""

    def phases(self, run: "Run") -> Iterator[Phase]:
        """What to train next. Code after a `yield` runs when that phase is trained."""
        self.setup(run.networks, run.data)
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Who owns an optimizer, and over which modules. No parameter has two owners, unless `shares_parameters` says so."""
        return {"student": [networks.student, self]}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """What to optimise next: a player and its terms, one update each. Code after a `yield` runs after the update."""
        yield "student", self.loss(networks, batch)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The named, weighted terms whose sum the student descends."""
        raise NotImplementedError

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """What trains a player; the recipe's optimizer unless a method's paper says otherwise."""
        return recipe.build(weights)

    def failure(self) -> tuple[str, str] | None:
        """Asked after every epoch: what makes it useless to go on, and what to try; None where nothing does."""
        return None

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The networks this training makes: each is evaluated on the test set and gets a row of the results."""
        return {"student": networks.student}

    def extra_tables(self, run: "Run") -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Further tables of this training, by name: each becomes a CSV in the run's folder."""
        return {}

    def products(self, run: "Run") -> Mapping[str, Product]:
        """What this training makes beside networks, by name: each becomes a safetensors file in the run's folder."""
        return {}

    def label_loss(self, output: ModelOutput, batch: Batch) -> Tensor:
        """What a network descends that learns from the labels of an answer alone, smoothed as the recipe says.

        Cross-entropy, where the task has none of its own.
        """
        return self.task.label_loss(output, batch, self.label_smoothing)


class Scheme(nn.Module):
    """A scheme; its modules, if it has any, are saved with the training.

    Attributes:
        name: as methods list it in `schemes`.
        trained_teacher: whether whoever teaches first is trained before the student starts.
    """

    name: ClassVar[str] = ""
    trained_teacher: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def networks(self, factory: NetworkFactory) -> Networks:
        """Choose the networks that are trained, and those that teach."""
        raise NotImplementedError

    def phases(self, run: "Run") -> Iterator[Phase]:
        """What to train before the method's own phases; code after a `yield` runs when that phase is trained."""
        return iter(())

    def players(self, players: Mapping[str, Sequence[nn.Module]], networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The method's players, and those the scheme adds."""
        return players

    def updates(self, updates: Updates, networks: Networks, batch: Batch, phase: Phase) -> Updates:
        """The method's updates of one batch in a phase, and those the scheme adds."""
        return updates

    def trained_networks(self, trained_networks: Mapping[str, nn.Module], networks: Networks) -> Mapping[str, nn.Module]:
        """The networks the training makes, and those the scheme adds."""
        return trained_networks


@dataclass
class Run:
    """One training: a method, a scheme and networks on some data, by a recipe.

    Attributes:
        title: what progress calls it: "teacher resnet20", ...
        role: what history calls it: teacher, baseline or student.
        networks: those that are trained, and those that teach.
        factory: where a method gets further networks from.
        screen: shows progress.
        folder: where checkpoints go; None for none.
        every: seconds between checkpoints.
        rehearsal: run one small step of each phase and nothing else, to find out before any training what does not fit.
        history: (role, phase, epoch, split, metric, value), an entry for each thing measured.
        began: when, by the clock that counts seconds; later than it was by the time that the run lay interrupted.
        skipped: batches that were left out for a loss or gradient that was NaN or infinite.
        started: epochs of the recipe that the scheme has trained before the method's own phases.
        threads: of the CPU, that what is trained by now was trained with.
        generator: draws whatever the method chooses at random.
    """

    title: str
    role: str
    method: Method
    scheme: Scheme
    networks: Networks
    data: Data
    build_stream: Callable[[], MemoryStream]
    recipe: Recipe
    seed: int
    device: torch.device
    factory: NetworkFactory
    screen: "Progress"
    folder: Path | None = None
    every: float = 60.0
    rehearsal: bool = False
    history: list[tuple[str, str, int, str, str, float]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    skipped: int = 0
    started: int = 0
    threads: int = field(default_factory=torch.get_num_threads)
    generator: torch.Generator = field(init=False)
    optimizers: dict[str, dict[str, torch.optim.Optimizer]] = field(default_factory=dict)
    uses_pool: bool = False  # whether the method has asked for samples without labels
    trained: dict[str, int] = field(default_factory=dict)  # epochs done by phases of this name

    def __post_init__(self) -> None:
        self.generator = generator("method", self.seed)
        for module in (*self.method.modules(), *self.scheme.modules()):  # a base or a part meets labels, and a scheme may
            if isinstance(module, Method):
                module.label_smoothing, module.task = self.recipe.label_smoothing, self.data.task
                module.random = self.generator
                if caution := module.cautions.get(self.scheme.name):
                    module.note(caution)

    @cached_property
    def stream(self) -> MemoryStream:
        """The training batches: built when first asked for, so never where a method makes its own data."""
        return self.build_stream()

    def unlabelled(self, needed: bool = True) -> Samples:
        """The training samples that have no labels.

        Args:
            needed: whether there have to be some; otherwise all training samples will do, whose labels are left alone.

        Raises:
            ValueError: all samples have labels, and some without are needed.
        """
        if self.data.pool is None and needed:
            raise ValueError("it learns from samples without labels, and here all have theirs; give dataset.labelled=80, say, "
                             "for so many to keep them")
        self.uses_pool = True
        return self.data.train if self.data.pool is None else self.data.pool

    def pool(self, batch_size: int, steps: int, rows: Tensor | None = None, name: str = "pool", needed: bool = True) -> Pool:
        """Batches of the training samples that have no labels; for a rehearsal eight samples a batch are enough.

        Args:
            batch_size: samples a batch.
            steps: batches an epoch.
            rows: which of them, some perhaps more than once; a batch's `index` counts these. None for all.
            name: of their order and augmentation; another name, other draws.
            needed: see `unlabelled`.

        Raises:
            ValueError: see `unlabelled`.
        """
        samples = self.unlabelled(needed) if rows is None else self.unlabelled(needed)[rows]
        size = min(batch_size, 8) if self.rehearsal else batch_size
        seed = seed_of(name, self.seed)
        return Pool(self.data.stream(batch_size=size, seed=seed, device=self.device, samples=samples), steps)

    @property
    def seconds(self) -> float:
        """How long it has been training, over all its sessions."""
        return time.perf_counter() - self.began

    @property
    def learners(self) -> dict[str, nn.Module]:
        """Everything that training changes: what a checkpoint holds."""
        roles = [role for role in self.networks if any(weight.requires_grad for weight in role.parameters())]
        return {**{f"{number} {role.name}": role.network for number, role in enumerate(roles)},
                "method": self.method, "scheme": self.scheme}

    @property
    def learned(self) -> Iterator[tuple[str, Tensor]]:
        """What must stay finite: weights and statistics of the networks that learn, and what the method trains."""
        for whose, module in self.learners.items():
            values = module.named_parameters() if module is self.method else module.state_dict().items()
            yield from ((f"{whose} {name}", value) for name, value in values)

    def validated(self, network: nn.Module) -> float:
        """The task's headline of a network on the validation split, by which a method chooses among several; 0 in a rehearsal.

        Raises:
            ValueError: there is no such split.
        """
        split, task = self.data.validation, self.data.task
        if not len(split):
            raise ValueError("it chooses among networks on the validation split, and there is none; set dataset.validation "
                             "above 0")
        if self.rehearsal:
            return 0.0
        return task.measures(answers(network, self.data, split, self.device), split)[task.headline] or 0.0

    def noise(self, shape: Sequence[int], *, batch_size: int, steps: int,
              kind: Literal["normal", "uniform"] = "normal") -> Noise:
        """Batches of noise in place of training data; for a rehearsal eight draws a batch are enough.

        Args:
            shape: of one draw.
            batch_size: draws a batch.
            steps: batches an epoch.
            kind: see `Noise`.
        """
        size = min(batch_size, 8) if self.rehearsal else batch_size
        return Noise(shape, batch_size=size, steps=steps, seed=self.seed, device=self.device, kind=kind)
