"""Function matching: a patient student of a consistent teacher."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.mixing import Mixing
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.roles import Networks


class FunMatch(Method):
    """Match the teacher as a function: on mixed pictures, the same for both, and without labels (Beyer et al. 2022).

    What the teacher says of a mixture of two pictures is asked anew in every step; nothing of it is kept. Two numbers of
    the paper are the data set's and the recipe's: crops that leave little of a picture (`dataset.crop`, or a list of
    augmentations where pictures are streamed), and long trainings (`recipe.epochs`: 1,000 and more on the paper's small
    data sets).

    The share of the picture itself is the larger one in the authors' code, and either one here: as batches are shuffled,
    the mixtures are the same ones as often.

    Args:
        mixup: both numbers of the Beta distribution of a batch's share, see `kdrun.data.mixing`; 0 for no mixing.
        temperature: softens both answers.
        weight: of the divergence, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures", "one row a sample")
    label_term = None
    knowledge = ("response",)
    plain_logits = ""
    source = "Beyer, Zhai, Royer, Markeeva, Anil, Kolesnikov: Knowledge distillation: a good teacher is patient and " \
             "consistent. CVPR 2022"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, mixup: NonNegative, temperature: Positive, weight: NonNegative) -> None:
        super().__init__()
        self.mixup, self.temperature, self.weight = mixup, temperature, weight
        self.mixing: Mixing | None = None

    def phases(self, run: Run) -> Iterator[Phase]:
        """One.

        Raises:
            ValueError: the recipe mixes already, or teacher and student see different pictures.
        """
        if self.mixup and (run.recipe.mixup or run.recipe.cutmix):
            raise ValueError("method.mixup mixes pictures that the recipe has mixed already; set recipe.mixup=0 and "
                             "recipe.cutmix=0, or method.mixup=0")
        if run.data.views:
            raise ValueError("it shows teacher and student the same pictures, and here the teacher sees another modality; "
                             "choose another dataset")
        self.mixing = Mixing(self.mixup, 0.0, run.seed) if self.mixup else None
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The divergence from the teacher on mixed pictures."""
        if self.mixing is not None:
            batch = replace(batch, x=self.mixing.mixed(batch.pictures, batch.epoch, batch.step)[0])
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"kd": self.weight * kd(teacher.logits, student.logits, self.temperature)}
