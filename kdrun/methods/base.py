"""What a distillation method is: two generators, of what to train next and of what to optimise next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.stream import Stream
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks
from kdrun.tasks.base import Need, Task
from kdrun.tasks.classification import Classification

if TYPE_CHECKING:
    from kdrun.training.loop import Run

__all__ = ["Curriculum", "Method", "Mutual", "Phase", "Terms"]

Terms = dict[str, Tensor]  # named, weighted scalars: their sum is what one update descends
Knowledge = Literal["none", "response", "feature", "relation"]
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


class Method(nn.Module):
    """A way to train a student. Most methods write `loss` and nothing else.

    A method takes its numbers in `__init__`, by keyword and without defaults (they stand in its YAML file, with their
    source), and builds its own modules in `setup`, when the networks are known. Subclasses say:

        schemes: under which schemes the method makes sense.
        teachers: how many of the run's teachers it learns from: exactly one, one or many, or none where its networks
            teach one another or themselves. Then no scheme gives it one, none is trained, and none is compared with.
        grows: whether its student may be a model that is made in one go and not by steps (a decision tree).
        needs: what the method cannot do without, and not every task and network has; what does not fit is refused before
            anything is trained.
        plain_logits: for what it needs logits as they are; empty where it does nothing with them but compare them with
            those of other networks, and meets labels by `hard` alone, so that they may be standardised for it.
        past_teaches: whether the student's past is its teacher under `scheme=self`; not where it brings its own there.
        label_term: which of the terms that the student descends is its own cross-entropy with the labels: `hard` of its
            answer to the batch, times a number that does not learn, and nothing else (that of peers, branches or
            further views has another name). None where no term is that, and yet the labels are learned.
        rivals: whether two players may train the same weights, each by an optimizer of its own.
        knowledge: what is carried over.
        source: the paper, as "Authors, title, venue year".
        survey_scheme: the scheme under which the surveys file it, as they print it; empty where none does.
        cautions: by scheme, where it was measured to end below the student alone; the card has it, and a run prints it.
        rows: what it serves in the surveys: tables ("Gou 3", "Alkhulaifi 1") and sections ("Zhu section III-A").
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online", "self")
    teachers: ClassVar[Teachers] = "one"
    accepts_fitted_student: ClassVar[bool] = False
    needs: ClassVar[tuple[Need, ...]] = ()
    past_teaches: bool = True
    shares_parameters: ClassVar[bool] = False
    label_term: str | None = "ce"
    plain_logits: str = "does not say that it compares logits and no more (`plain_logits`)"
    knowledge: ClassVar[Knowledge] = "none"
    source: ClassVar[str] = ""
    survey_scheme: ClassVar[str] = ""
    rows: ClassVar[tuple[str, ...]] = ()
    cautions: ClassVar[Mapping[str, str]] = {}

    # the recipe's and the data's, set before the first phase, in bases and parts too
    label_smoothing: float = 0.0
    task: Task = Classification((), ())

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

    def setup(self, networks: Networks, data: object) -> None:
        """Build what the method adds to the networks; called from `phases`, so once for each pair it trains."""

    def phases(self, run: "Run") -> Iterator[Phase]:
        """What to train next. Code after a `yield` runs when that phase is trained."""
        self.setup(run.networks, run.data)
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Who owns an optimizer, and over which modules. No parameter has two owners, except among `rivals`."""
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

    def label_loss(self, output: ModelOutput, batch: Batch) -> Tensor:
        """What a network descends that learns from the labels of an answer alone, smoothed as the recipe says.

        Cross-entropy, where the task has none of its own.
        """
        return self.task.label_loss(output, batch, self.label_smoothing)


class Curriculum(Method):
    """A method that decides who is taught by whom, and in which order; its `base` owns the loss."""

    plain_logits = "decides who teaches whom, and has no loss of its own"
    base: Method

    def __init__(self, *, base: Method) -> None:
        super().__init__()
        if isinstance(base, Curriculum):
            raise ValueError(f"base: {type(base).__name__} is a curriculum itself, and has no loss to lend")
        self.base = base

    def setup(self, networks: Networks, data: object) -> None:
        """Set the base up anew for the pair that trains next."""
        self.base.setup(networks, data)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The base's players."""
        return self.base.players(networks)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The base's updates."""
        yield from self.base.step(networks, batch)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The base's choice."""
        return self.base.optimizer(player, weights, recipe)

    def failure(self) -> tuple[str, str] | None:
        """What the base says."""
        return self.base.failure()

    def base_phases(self, run: "Run", name: str) -> Iterator[Phase]:
        """The base's own phases for the present pair, under the name of this hop."""
        for phase in self.base.phases(run):
            phase.name = f"{name}: {phase.name}"
            yield phase


class Mutual(Method):
    """A method whose networks teach one another: the student and its peers, each by an optimizer of its own.

    Args:
        peers: how many further networks like the student, with other first weights; or the names of networks.
    """

    def __init__(self, *, peers: int | list[str]) -> None:
        super().__init__()
        if not peers:
            raise ValueError("peers: the student needs at least one")
        self.peers = peers

    def phases(self, run: "Run") -> Iterator[Phase]:
        """Bring the peers, set up, then one phase."""
        run.networks.peers = run.factory.peers(self.peers)
        self.setup(run.networks, run.data)
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student, and each peer."""
        return {"student": [networks.student, self], **{peer.name: [peer] for peer in networks.peers}}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and each peer."""
        return {"student": networks.student, **{peer.name: peer for peer in networks.peers}}
