"""Training alone."""

from collections.abc import Iterator

from kdrun.cast import Cast
from kdrun.data.batch import Batch
from kdrun.method import Method, Phase, Terms


class Vanilla(Method):
    """Cross-entropy with the labels: how the teacher and the baseline are trained, and what every method must beat."""

    knowledge = "none"
    source = "no distillation"

    def phases(self, run: object) -> Iterator[Phase]:
        """One, by the labels."""
        yield Phase("train")

    def loss(self, cast: Cast, batch: Batch) -> Terms:
        """The cross-entropy of the student."""
        return {"ce": self.hard(cast.student(batch), batch)}
