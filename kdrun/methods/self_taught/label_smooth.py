"""Label smoothing."""

from typing import ClassVar, Literal

import torch

from kdrun.config.constraints import Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks


class LabelSmooth(Method):
    """Learn from labels that leave something for the other classes: a teacher that knows nothing (Szegedy et al. 2016).

    Yuan et al. (2020) read it as distillation from a teacher that finds every class as likely. The loss is written so:
    the cross-entropy with the labels, `ce`, and that with this teacher, `even`, of weights that sum to 1. Two forms are in
    use, and differ by the size of the share alone: `uniform` gives the share to all K classes, the label among them, as
    PyTorch does; `offclass` to the K - 1 others, as the code of Yuan et al. does, which is `uniform` with K / (K - 1) times
    the share.

    The recipe's `label_smoothing` is the first form, in every method's cross-entropy and in that of teacher and baseline.

    Args:
        share: what is taken from the label.
        variant: `uniform` or `offclass`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    plain_logits = "makes its target by hand"
    source = "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the inception architecture for computer vision. CVPR 2016"
    survey_scheme = ""
    survey_tables = ("Gou section 3.1", "Gou section 4.3")

    def __init__(self, *, share: Proportion, variant: Literal["uniform", "offclass"]) -> None:
        super().__init__()
        self.share, self.variant = share, variant

    def setup(self, networks: Networks, data: Data) -> None:
        """Refuse to smooth twice.

        Raises:
            ValueError: the recipe smooths too.
        """
        if self.label_smoothing:
            raise ValueError(f"recipe.label_smoothing={self.label_smoothing:g} smooths the labels already; set it to 0")

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and every class as likely."""
        student = networks.student(batch)
        classes = student.logits.shape[1]
        share = self.share if self.variant == "uniform" else self.share * classes / (classes - 1)
        return {"ce": (1 - share) * self.label_loss(student, batch),
                "even": share * soft_cross_entropy(torch.zeros_like(student.logits), student.logits)}
