"""Training alone."""

import copy
import itertools
from collections.abc import Iterator

from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.models.fitted import FittedModel
from kdrun.models.roles import Networks


class Vanilla(Method):
    """Cross-entropy with the labels: how the teacher and the baseline are trained, and what every method must beat."""

    past_teaches = False
    knowledge = ()
    accepts_fitted_student = True
    source = "no distillation"
    survey_scheme = ""
    survey_tables = ()

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, by the labels; none for a model that is made in one go."""
        student = run.networks.student.network
        if isinstance(student, FittedModel):
            data = run.data
            student.fit(data.whole(data.train, run.device), data.train.labels.to(run.device))
        else:
            yield Phase("train")

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The cross-entropy of the student."""
        return {"ce": self.label_loss(networks.student(batch), batch)}


class Trajectory(Vanilla):
    """The same training, to the same bytes, that keeps its weights on the way (the anchors of route-constrained learning).

    Args:
        count: how many states to keep, at equal distances; the last is the end.
        epochs: of the whole training.
    """

    def __init__(self, *, count: int, epochs: int) -> None:
        super().__init__()
        self.count, self.epochs = count, epochs
        self.states: list[dict[str, Tensor]] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """The parts of one phase: optimizer and schedule go on from each to the next."""
        ends = [round(self.epochs * part / self.count) for part in range(self.count + 1)]
        self.states = []
        for start, end in itertools.pairwise(ends):
            yield Phase("train", epochs=end - start, total=self.epochs)
            self.states.append(copy.deepcopy(run.networks.student.network.state_dict()))
