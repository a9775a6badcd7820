"""An ensemble that grows, each member taught by those before."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Few, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.branches import MeanEnsemble
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.search.candidates import Candidates, Trial, best
from kdrun.methods.structure.made import share_of
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Frozen, Networks, Role, frozen
from kdrun.models.student_space import Architecture, StudentSpace


class WeightedEnsemble(MeanEnsemble):
    """Networks whose logits are averaged by weights that can be learned; at first all count alike.

    Args:
        student: the first.
        branches: the others.
    """

    def __init__(self, student: Role, branches: Sequence[Role]) -> None:
        super().__init__(student, branches)
        self.scores = nn.Parameter(torch.zeros(1 + len(branches)))

    def combined(self, answers: Sequence[ModelOutput]) -> Tensor:
        """The logits of all together, from the answer of each."""
        return torch.einsum("m,mbk->bk", self.scores.softmax(dim=0), torch.stack([answer.logits for answer in answers]))


class NasAdaNAS(Method):
    """Grow an ensemble member by member, each chosen among deeper and wider ones and taught by the ensemble before (Macko et
    al. 2019).

    The first member is the smallest of `method.space` (of its first family and kind of convolution). After it the candidates
    are a network like the last member, a deeper and a wider one, as far as the space has such and the ensemble keeps its
    budget; each learns the labels and the answers of all members so far. The one with which the ensemble is best in
    validation becomes a member. The student is the whole ensemble, whose logits are averaged. `trials.csv` has every candidate,
    with the size of the ensemble that it would make.

    The authors' members are of NASNet's cells, in ten iterations, labels smoothed by 0.1 (`recipe.label_smoothing=0.1`); number
    and length of the iterations are ours. Their mixture weights are learned in each iteration, and here at the end.

    Args:
        space: of the members, and the budget of the ensemble: a choice of space/ (`space@method.space=small`).
        iterations: how many members there are at most.
        member_share: of the recipe's epochs, for each candidate.
        teacher: of a candidate: `adaptive` is the ensemble so far, `born_again` its last member, `none` nobody.
        kd_weight: of the cross-entropy with the teacher's answers, at temperature 1.
        mixture: `uniform` averages all members alike, `learned` by weights that learn the labels at the end.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    past_teaches = False
    rebuilds_student: ClassVar[bool] = True
    needs = ("maps", "pictures")
    knowledge = ("response",)
    cautions: ClassVar = {
        "self": "on the digits, where members have 10 epochs each, ensembles of 108,262 to 141,578 parameters ended at "
                "97.6 ± 0.5 %, resnet8 alone (77,754, 40 epochs) at 98.6 ± 0.1 % (three seeds); longer ones were not tried"}
    plain_logits = "takes the answers of an ensemble of its own making"
    source = "Macko, Weill, Mazzawi, Gonzalvo: Improving neural architecture search image classifiers via ensemble learning. " \
             "arXiv 1903.06236, 2019"
    survey_scheme = "self"
    survey_tables = ("Gou section 6.9",)

    def __init__(self, *, space: dict[str, Any], iterations: Few, member_share: Positive,
                 teacher: Literal["adaptive", "born_again", "none"], kd_weight: NonNegative,
                 mixture: Literal["uniform", "learned"]) -> None:
        super().__init__()
        self.space = StudentSpace.read(space)
        self.iterations, self.member_share, self.teacher = iterations, member_share, teacher
        self.kd_weight, self.mixture = kd_weight, mixture
        self.members: list[Frozen] = []
        self.trials: list[Trial] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """Candidate after candidate, iteration after iteration.

        Raises:
            ValueError: not even the first is within the budget, or there is no validation split.
        """
        candidates, epochs = Candidates(run, self.space), share_of(run, self.member_share)
        depths, multipliers = sorted(self.space.depths), sorted(self.space.multipliers)
        self.candidates, last = candidates, (0, 0)  # which depth and which multiplier the last member has
        parts: tuple[Architecture, ...] = ()
        for number in range(self.iterations):
            deeper, wider = (last[0] + 1, last[1]), (last[0], last[1] + 1)
            names = {"like the last": last, "deeper": deeper, "wider": wider} if number else {"first": last}
            rated, found = [], []
            for name, (depth, multiplier) in names.items():
                if depth == len(depths) or multiplier == len(multipliers):
                    continue
                architecture = self.member(depths[depth], multipliers[multiplier])
                together = (architecture, *parts)
                if excess := self.space.excess(candidates.costs(together)):
                    if not number:
                        raise ValueError(f"space: the first member has {excess}; give a larger budget, or smaller "
                                         "method.space.multipliers")
                    continue
                title = f"member {number + 1} {name}"
                role = run.networks.student = candidates.built(architecture, title)
                yield Phase(title, train=[role], epochs=epochs)
                rated.append(candidates.trial(title, together, self.together(run, frozen(role)), epochs))
                found.append(((depth, multiplier), role))
            if not rated:
                break
            place = best(rated)
            (last, role), parts = found[place], rated[place].parts
            self.trials += rated
            self.members.append(frozen(role, f"member {number + 1}"))
            taught_by = self.members[-1] if self.teacher == "born_again" else frozen(self.together(run))
            run.networks.teachers = [] if self.teacher == "none" else [taught_by]
        run.networks.teachers = []
        run.networks.student = self.together(run)
        if self.mixture == "learned":
            yield Phase("mixture", loss=self.labels, train=[run.networks.student], epochs=epochs)

    def member(self, depth: int, multiplier: float) -> Architecture:
        """A member of the first family and kind, as deep in each stage."""
        usual = {name: values[0] for name, values in self.space.choices.items()}
        return self.space.architecture({**usual, "multiplier": multiplier, **{
            name: depth for name in usual if name.startswith("depth")}})

    def together(self, run: Run, *more: Frozen) -> Role:
        """The members so far and more as one network, the last of them first."""
        first, *others = reversed((*self.members, *more))
        kind = WeightedEnsemble if self.mixture == "learned" else MeanEnsemble
        ensemble = kind(first, others)
        return run.factory.role(ensemble, "student", ensemble.model)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and the ensemble so far."""
        terms = self.labels(networks, batch)
        if networks.teachers:
            student, teacher = networks.student(batch), networks.teacher(batch)
            terms["kd"] = self.kd_weight * soft_cross_entropy(teacher.logits, student.logits)
        return terms

    def labels(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student; at the end each member too."""
        done = isinstance(networks.student.network, MeanEnsemble)
        return {"student": networks.student, **({role.name: role for role in self.members} if done else {})}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Every candidate, with the ensemble that it would make."""
        return {"trials": self.candidates.rows(self.trials)}
