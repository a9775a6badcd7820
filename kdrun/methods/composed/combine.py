"""Several methods at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.shapes import Curriculum, Mutual
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class Combine(Method):
    """Learn by two or three methods at once, from the weighted sum of what they ask for.

    The student's own cross-entropy with the labels is counted once: the term that a part says is this (`label_term`) is
    left out, whatever its weight there, and one cross-entropy of the student, times `ce_weight`, stands for all. Every
    other term, that of peers, branches and further views with the labels too, keeps the weight it has in its part, times
    that of the part. A part that has no such term, and yet meets the labels, is refused. What a part trains beforehand
    (the hint of FitNets) comes first, part by part; then all learn together. Whatever else a part owns, such as critics or
    memories, goes on as it does alone.

    Args:
        first: a method.
        second: another.
        third: one more, or null.
        first_weight: of the terms of the first, other than its own cross-entropy.
        second_weight: likewise.
        third_weight: likewise.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = ()
    source = "a sum of the losses of several papers, as each of them invites"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, first: Method, second: Method, third: Method | None, first_weight: NonNegative,
                 second_weight: NonNegative, third_weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.first, self.second, self.third = first, second, third
        weights = {"first": first_weight, "second": second_weight, "third": third_weight}
        self.weights, self.ce_weight = weights, ce_weight
        self.past_teaches = any(part.past_teaches and part.teachers != "none" for part in self.parts.values())
        for slot, part in self.parts.items():
            if isinstance(part, Curriculum):
                raise ValueError(f"{slot}: {type(part).__name__} decides who is taught when, and cannot be a part of a sum; "
                                 "give it the sum as its base instead")
            if part.label_term is None:
                raise ValueError(entangled(slot, part))
        if sum(isinstance(part, Mutual) for part in self.parts.values()) > 1:
            raise ValueError("only one part of a sum can bring peers")

    @property
    def parts(self) -> dict[str, Method]:
        """The methods, by the place they have."""
        placed = {"first": self.first, "second": self.second, "third": self.third}
        return {slot: part for slot, part in placed.items() if part is not None}

    def phases(self, run: Run) -> Iterator[Phase]:
        """What each part trains beforehand, then all together.

        Raises:
            ValueError: a part has no phase in which others can join, or more than one, or two make their own data.
        """
        joint, waiting = Phase(), []
        for slot, part in self.parts.items():
            if run.rehearsal:
                part.label_loss = Noted(part.label_loss)  # type: ignore[method-assign]
            phases, name = part.phases(run), f"{slot}: {type(part).__name__}"
            for phase in phases:
                if phase.loss is None:
                    break
                phase.name = f"{slot}: {phase.name}"
                yield phase
            else:
                raise ValueError(f"{name} has no phase in which other methods can join")
            if phase.train is not None or phase.epochs is not None:
                raise ValueError(f"{name} trains in a way of its own, and other methods cannot join")
            if phase.data is not None and joint.data is not None:
                raise ValueError(f"{name} makes its own batches, and so does a part before it")
            joint.data = phase.data or joint.data
            waiting.append((name, phases))
        yield joint
        for name, phases in waiting:
            if next(phases, None) is not None:
                raise ValueError(f"{name} has several phases in which other methods would join")

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student with what the parts add to it, and the further players of each."""
        players: dict[str, list[nn.Module]] = {"student": [networks.student]}
        for slot, part in self.parts.items():
            for player, modules in part.players(networks).items():
                players.setdefault(own(slot, player), []).extend(modules)
        return players

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's for the student, a part's choice for a player of its own."""
        slot, _, name = player.partition(" ")
        return self.parts[slot].optimizer(name, weights, recipe) if slot in self.parts else recipe.build(weights)

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Those of all parts; a student that a part rebuilds is the student."""
        parts = sorted(self.parts.values(), key=lambda part: part.rebuilds_student)
        return {name: network for part in parts for name, network in part.trained_networks(networks).items()}

    def failure(self) -> tuple[str, str] | None:
        """What any part says."""
        return next(filter(None, (part.failure() for part in self.parts.values())), None)

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Those of all parts."""
        return {f"{slot}_{name}": rows for slot, part in self.parts.items() for name, rows in part.extra_tables(run).items()}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """One update of the student by all parts; what else each of them updates, before or after as it would alone."""
        terms: Terms = {}
        if batch.has_labels:
            terms["ce"] = self.ce_weight * self.label_loss(networks.student(batch), batch)
        waiting = []
        for slot, part in self.parts.items():
            if isinstance(part.label_loss, Noted):
                part.label_loss.answers.clear()  # what phases before have asked
            updates = part.step(networks, batch)
            for player, asked in updates:
                if player == "student":
                    if isinstance(part.label_loss, Noted) and part.label_loss.mixed(part, asked, networks):
                        raise ValueError(entangled(slot, part))
                    terms |= self.weighted(slot, asked)
                    break
                yield own(slot, player), asked
            waiting.append((slot, updates))
        yield "student", terms
        for slot, updates in waiting:
            for player, asked in updates:
                again = player == "student"
                yield own(slot, player), self.weighted(slot, asked) if again else asked

    def weighted(self, slot: str, terms: Terms) -> Terms:
        """The terms of a part without its own cross-entropy."""
        own = self.parts[slot].label_term
        return {f"{slot} {name}": self.weights[slot] * term for name, term in terms.items() if name != own}


class Noted:
    """`label_loss` of a method, which notes what it answers and scales each answer by a variable of its own, at 1.

    A term is one of these answers times a number, and nothing else, if its derivative by that answer's variable is the
    term itself, and nothing but the student's weights moves it.
    """

    def __init__(self, hard: Callable[[ModelOutput, Batch], Tensor]) -> None:
        self.label_loss = hard
        self.answers: list[tuple[Tensor, Tensor]] = []  # the variable, and the scaled cross-entropy

    def __call__(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The cross-entropy, scaled."""
        value = self.label_loss(output, batch)
        scale = torch.ones_like(value, requires_grad=True)
        self.answers.append((scale, scale * value))
        return self.answers[-1][1]

    def mixed(self, method: Method, terms: Terms, networks: Networks) -> bool:
        """Whether the student's own cross-entropy of this step is elsewhere than alone in the term that is said to be it."""
        answers, self.answers = self.answers, []
        mine = {id(weight) for weight in networks.student.parameters()}
        others = [weight for module in (method, *networks.peers, *networks.teachers) for weight in module.parameters()
                  if weight.requires_grad and id(weight) not in mine]
        term = terms.get(method.label_term or "")
        if term is None:
            return any(not moved(value, others) for _, value in answers)
        if not term.any():
            return False  # it has no weight
        shares = [slope for slope in gradients(term, [scale for scale, _ in answers]) if slope.any()]
        return len(shares) != 1 or not torch.isclose(shares[0], term.detach(), rtol=1e-4) or moved(term, others)


def moved(term: Tensor, by: Sequence[Tensor]) -> bool:
    """Whether any of these moves a scalar."""
    return any(bool(slope.any()) for slope in gradients(term, by))


def gradients(term: Tensor, of: Sequence[Tensor]) -> Sequence[Tensor]:
    """The derivative of a scalar by each of these; zeros where it does not depend on one."""
    if not term.requires_grad or not of:
        return [torch.zeros_like(one) for one in of]
    return torch.autograd.grad(term, of, retain_graph=True, allow_unused=True, materialize_grads=True)


def entangled(slot: str, part: Method) -> str:
    """Why a part cannot be summed: where it meets the labels, nobody knows which term is the student's alone."""
    return (f"{slot}: {type(part).__name__} has no term that is its student's own cross-entropy with the labels times a "
            "number, and nothing else (`label_term`), so that labels would count twice; take another method")


def own(slot: str, player: str) -> str:
    """What a player of a part is called; all share the student."""
    return player if player == "student" else f"{slot} {player}"
