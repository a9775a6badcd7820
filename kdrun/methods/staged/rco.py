"""Route-constrained optimisation."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from kdrun.config.constraints import Few, Positive
from kdrun.evaluation.metrics import kl_divergence
from kdrun.methods.base import Method, Phase, Run, Teachers
from kdrun.methods.shapes import Curriculum
from kdrun.models.prediction import predict
from kdrun.models.roles import Frozen


def latest_within(hardness: Sequence[float], most: float) -> int:
    """The place of the hardest anchor that is not too hard, at least 1.

    Args:
        hardness: how far the student is from each anchor, the one it was just taught by first.
        most: how many times further than from that one an anchor may be.
    """
    fitting = [place for place, far in enumerate(hardness) if far <= most * hardness[0]]
    return max([1, *fitting])


class RCO(Curriculum):
    """Lead the student along the way that its teacher came, from anchor to anchor (Jin et al. 2019).

    Anchors are the teacher at equally distant moments of its training, the last one trained. The student keeps its
    weights from anchor to anchor and the schedule starts anew with each; together they take as many epochs as any other
    method, so a training of fewer epochs than anchors has fewer anchors. One anchor is the base method.

    `equal` visits every anchor. `greedy` goes to the latest one whose divergence from the student, on the validation split,
    is at most `max_hardness` times that of the anchor it was taught by; the last one takes the epochs that are left. This is
    an approximation: the paper compares the same two divergences, but its threshold is known here as the number 0.8 alone.
    A later anchor's divergence is hardly ever smaller, so 0.8 is read as the least share that the present one may be of it.

    Args:
        base: the method by which each anchor teaches; the paper's is Hinton's, or a hint.
        anchors: how many.
        strategy: `equal` or `greedy`.
        max_hardness: of `greedy`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "one"
    knowledge = ("response",)
    source = "Jin, Peng, Wu, Liu, Liu, Liang, Yan, Hu: Knowledge distillation via route constrained optimization. ICCV 2019"
    survey_scheme = "online"
    survey_tables = ("Gou section 3.2", "Alkhulaifi 1")

    def __init__(self, *, base: Method, anchors: Few, strategy: Literal["equal", "greedy"],
                 max_hardness: Positive) -> None:
        super().__init__(base=base)
        self.anchors, self.strategy, self.max_hardness = anchors, strategy, max_hardness

    def phases(self, run: Run) -> Iterator[Phase]:
        """Anchor after anchor.

        Raises:
            ValueError: greedy, and there is no validation split.
        """
        if self.strategy == "greedy" and not len(run.data.validation):
            raise ValueError("method.strategy=greedy measures on the validation split, and there is none; set "
                             "dataset.validation above 0")
        lengths = run.recipe.parts(self.anchors)
        route = run.factory.trajectory(len(lengths))
        place, left = 0, run.recipe.epochs
        while place < len(route):
            run.networks.teachers = [route[place]]
            length = left if place == len(route) - 1 else lengths[place]
            for phase in self.base_phases(run, "student"):
                if phase.epochs is None:
                    phase.epochs, phase.total = length, run.recipe.epochs
                phase.restart = True
                yield phase
            left -= length
            place += self.stride(run, route[place:])

    def stride(self, run: Run, ahead: Sequence[Frozen]) -> int:
        """How many anchors further to go from the first of these."""
        if self.strategy == "equal" or len(ahead) < 2:
            return 1
        student, *anchors = (predict(role, run.data, run.data.validation, run.device)
                             for role in (run.networks.student, *ahead))
        return latest_within([kl_divergence(anchor, student) for anchor in anchors], self.max_hardness)
