"""Oracle distillation, and growth of the student towards what an ensemble knows."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Few, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses.search import oracle_kd
from kdrun.methods.search.candidates import Candidates, Trial, best
from kdrun.methods.structure.made import share_of
from kdrun.models.roles import Networks, Role
from kdrun.models.student_space import Architecture, StudentSpace
from kdrun.models.supernet import Supernet, recalibrated
from kdrun.utils.policy_gradient import policy, shares
from kdrun.utils.seeding import seeded

NONE = "none"
REDRAWS = 50  # of a way that is over the budget, before the student as it is takes its place


class NasOKD(Method):
    """Match those of several teachers that are right, with a student that grows until it can (Kang, Mun and Han 2020).

    Of each sample the student learns the label and the mean softened answer of the teachers that classify it right; where none
    does, the label alone. That needs no search (`method.rounds=0`, with any student). As an ensemble knows more than a small
    student can hold, the student (`student=searchable`) is grown first: behind each of its stages come up to `slots` further
    blocks, each of a kind of `method.space` or none, within its budget. All ways share their weights, which learn by the same
    loss on a way that a policy draws at each step; after each round the policy learns by REINFORCE from the validation accuracy
    of some ways. The best of `finalists` further ways is trained anew. `trials.csv` has every way that was rated.

    On the digits (one seed), resnet8 grown to 83,450 parameters has 99.0 %, and 98.6 % as it is and alone; its teachers were
    resnet8 (98.3 %) and wrn_16_1.

    An approximation: the abstract and notes on the paper were at hand, whose controller is a recurrent network and whose
    further operations are parallel to layers too; temperature, weights and all numbers of the search are ours.

    Args:
        space: of the blocks, and the budget: a choice of space/ (`space@method.space=small`).
        temperature: of the softened answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term.
        slots: further blocks behind each stage, at most.
        rounds: of the search; 0 for none.
        search_share: of the recipe's epochs, for all rounds together.
        rollouts: ways that the policy learns from after each round.
        policy_rate: its learning rate.
        finalists: ways that the choice is made of.
        samples: of the training split, at most so many, by which normalisations are set before a way is rated.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    needs = ("labels",)
    knowledge = ("response",)
    plain_logits = "asks which teachers are right"
    source = "Kang, Mun, Han: Towards oracle knowledge distillation with neural architecture search. AAAI 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.9",)

    def __init__(self, *, space: dict[str, Any], temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 slots: Few, rounds: Count, search_share: Annotated[float, Bounds(above=0, most=10)], rollouts: Few,
                 policy_rate: Positive, finalists: Few, samples: AtLeastOne) -> None:
        super().__init__()
        self.space = StudentSpace.read(space)
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight
        self.slots, self.rounds, self.search_share, self.rollouts = slots, rounds, search_share, rollouts
        self.policy_rate, self.finalists, self.samples = policy_rate, finalists, samples
        self.rewarded: list[tuple[tuple[int, ...], float]] = []
        self.within: dict[Architecture, bool] = {}  # the budget
        self.trials: list[Trial] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """Round after round of the search, if there is one; then the student that was grown.

        Raises:
            ValueError: the student is none that can grow, or there is no validation split.
        """
        if self.rounds:
            yield from self.search(run)
        yield Phase()

    def search(self, run: Run) -> Iterator[Phase]:
        """Grow the student."""
        found = Architecture.read(run.factory.student_spec.settings)
        if found is None:
            raise ValueError(f"it grows a student whose blocks are settings, and {run.factory.student_spec.name} is none; give "
                             "student=searchable, or method.rounds=0 for the loss without a search")
        if run.factory.student_spec.checkpoint:
            raise ValueError("student.checkpoint has the weights of one architecture, and the student grows; leave it out")
        self.start, self.ops = found, [NONE, *self.space.kinds]
        candidates = self.candidates = Candidates(run, self.space)
        if excess := self.space.excess(candidates.cost(self.start)):
            raise ValueError(f"the student as it is has {excess} already; give a larger budget (method.space.max_params, ...), "
                             "or a smaller student")
        kinds = [[*([kind] for kind in own), *[self.space.kinds] * self.slots] for own in self.start.blocks]
        with seeded("weights", "supernet", run.seed):
            network = Supernet(self.start.family, self.start.stem, self.start.widths, self.start.strides, kinds,
                               len(run.data.classes), run.data.shape[0])
        role = run.networks.student = run.factory.role(network, "student", "supernet")
        epochs = [max(1, share_of(run, self.search_share) // self.rounds)] * self.rounds
        for number, length in enumerate(epochs, start=1):
            yield Phase("search", loss=partial(self.shared, candidates=candidates), train=[role], epochs=length,
                        total=sum(epochs), evaluate=False)
            for _ in range(self.rollouts):
                places = self.drawn(candidates)
                trial = self.rated(run, candidates, role, places, f"round {number}", number * length)
                self.rewarded.append((places, trial.score))
        finals = list(dict.fromkeys(self.drawn(candidates) for _ in range(self.finalists)))
        rated = [self.rated(run, candidates, role, places, "finalist", sum(epochs)) for places in finals]
        run.networks.student = candidates.built(self.grown(finals[best(rated)]))

    def grown(self, places: Sequence[int]) -> Architecture:
        """The student with these blocks behind its stages.

        Args:
            places: of the kinds, slot by slot, stage by stage.
        """
        chosen = [self.ops[place] for place in places]
        parts = [chosen[first:first + self.slots] for first in range(0, len(chosen), self.slots)]
        return Architecture(self.start.family, self.start.stem, self.start.widths, self.start.strides,
                            tuple((*own, *(kind for kind in more if kind != NONE))
                                  for own, more in zip(self.start.blocks, parts, strict=True)))

    def drawn(self, candidates: Candidates) -> tuple[int, ...]:
        """A way within the budget, by the policy."""
        count = self.slots * len(self.start.blocks)
        logits = [policy([(places[slot], reward) for places, reward in self.rewarded], len(self.ops), self.policy_rate,
                         self.rollouts) for slot in range(count)]
        for _ in range(REDRAWS):
            places = tuple(int(torch.multinomial(torch.tensor(shares(one)), 1, generator=self.random)) for one in logits)
            if self.fits(candidates, places):
                return places
        return (0,) * count

    def fits(self, candidates: Candidates, places: Sequence[int]) -> bool:
        """Whether a way is within the budget."""
        architecture = self.grown(places)
        if architecture not in self.within:
            self.within[architecture] = self.space.excess(candidates.cost(architecture)) is None
        return self.within[architecture]

    def shared(self, networks: Networks, batch: Batch, candidates: Candidates) -> Terms:
        """The loss on a way that the policy draws."""
        network = networks.student.network
        assert isinstance(network, Supernet)
        network.go(self.grown(self.drawn(candidates)).blocks)
        return self.loss(networks, batch)

    def rated(self, run: Run, candidates: Candidates, role: Role, places: Sequence[int], name: str, epochs: int) -> Trial:
        """A way by its validation accuracy, its normalisations set anew."""
        network, architecture = role.network, self.grown(places)
        assert isinstance(network, Supernet)
        network.go(architecture.blocks)
        few = run.data.train.limit(min(8 if run.rehearsal else self.samples, len(run.data.train)), run.seed,
                                   len(run.data.classes))
        network.eval()
        recalibrated([network], lambda: [role(batch) for batch in run.data.plain(few, run.device)])
        role.forget()
        trial = candidates.trial(name, [architecture], role, epochs)
        self.trials.append(trial)
        return trial

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and those teachers that are right."""
        student = networks.student(batch)
        teachers = [teacher(batch).logits for teacher in networks.teachers]
        soft = oracle_kd(teachers, student.logits, batch.labels, self.temperature)
        return {"ce": self.ce_weight * self.label_loss(student, batch), "kd": self.kd_weight * soft}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's; its fused kernels do not take weights that have no gradient in a step, as those off the way."""
        optimizer = recipe.build(weights)
        for group in optimizer.param_groups:
            group["fused"] = False
        return optimizer

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Every way that was rated."""
        return {"trials": self.candidates.rows(self.trials)} if self.rounds else {}
