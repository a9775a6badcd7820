"""Cross-sample similarities as rankings."""

from typing import Annotated, Literal

from kdrun.config.constraints import Bounds, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.ordering import darkrank_hard, darkrank_soft, ranking_scores
from kdrun.models.roles import Networks

MOST = 6  # candidates whose orders are compared one by one: 720 a query


class DarkRank(Method):
    """Rank the samples of a batch by their likeness to each other sample as the teacher does (Chen et al. 2018).

    A candidate's score falls with its distance from the query, between embeddings of length one. `hard` makes the teacher's
    ranking probable, `soft` compares the probabilities of all orders of the candidates that the teacher puts first. Embeddings
    may differ in size.

    Every sample of a batch is a query, where the authors' code, for re-identification, takes the half that it draws in pairs.
    Their labels come in by classification, verification and triplets; here by the label loss of the task alone.

    The authors' weight is for losses of metric learning. Beside a cross-entropy it drowns the labels: 87.2 ± 0.9 % on the
    digits (resnet8 taught by wrn_16_2, three seeds), 98.7 ± 0.2 % with the default, where the baseline has 98.6 ± 0.1 %.

    Args:
        form: `soft` or `hard`.
        length: how many of the teacher's first candidates count; null for all, with `hard`.
        scale: of a score, -scale * distance**power.
        power: likewise.
        weight: of the loss.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = ("relation",)
    source = "Chen, Wang, Zhang: DarkRank: accelerating deep metric learning via cross sample similarities transfer. AAAI 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou 2",)

    def __init__(self, *, form: Literal["soft", "hard"], length: Annotated[int, Bounds(least=2)] | None, scale: Positive,
                 power: Annotated[float, Bounds(least=1)], weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        if form == "soft" and (length is None or length > MOST):
            raise ValueError(f"length is {'null' if length is None else length}, and form=soft compares all orders of so many "
                             f"candidates; wanted at most {MOST}, or form=hard")
        self.form, self.length, self.scale, self.power = form, length, scale, power
        self.weight, self.ce_weight = weight, ce_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and rankings."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        wanted, given = (ranking_scores(output.embedding, self.scale, self.power) for output in (teacher, student))
        loss = darkrank_hard(wanted, given, self.length) if self.form == "hard" or self.length is None \
            else darkrank_soft(wanted, given, self.length)
        return {"ce": self.ce_weight * self.label_loss(student, batch), "rank": self.weight * loss}
