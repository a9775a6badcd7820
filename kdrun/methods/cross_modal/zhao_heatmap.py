"""Heatmaps of keypoints from another modality."""

from typing import ClassVar

from kdrun.config.constraints import Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.dense import heatmap_divergence
from kdrun.models.roles import Networks


class HeatmapsAcrossModalities(Method):
    """Match the heatmaps of keypoints of a teacher that sees another modality, without labels (Zhao et al. 2018).

    The paper's teacher finds the joints of people in pictures of a camera; its student sees two maps of radio waves, one
    horizontal and one vertical. Each cell of the teacher's heatmaps is the confidence that the keypoint is there, and the
    student's, through a sigmoid, learns it by the binary cross-entropy, summed over keypoints and cells. What is descended
    and reported is that less the teacher's entropy, so that 0 is the best there is.

    An approximation: the modality that stands for radio (`dataset.student_sees=projections`, the means of a scene's columns and
    rows), and that each sample is one moment, where the paper's network reads several. The teacher of this project has linear
    heatmaps, which are confidences once they are held between 0 and 1. It says where each keypoint is even where there is none,
    as it never learned otherwise: whether one is there is a label, which the student must not see.

    On these projections it ended at 36.4 % PCK@0.05 over three seeds (spread 0.5), the student alone at 34.7 (1.0), and where
    it was shown the heatmaps of other scenes (`dataset.paired=false`) at 7.8 (2.0).

    Args:
        weight: of the loss.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("heatmaps",)
    label_term = None
    plain_logits = "matches heatmaps as they are"
    knowledge = ("response",)
    source = "Zhao, Li, Abu Alsheikh, Tian, Zhao, Torralba, Katabi: Through-wall human pose estimation using radio signals. " \
             "CVPR 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.3", "Gou 4")

    def __init__(self, *, weight: Positive) -> None:
        super().__init__()
        self.weight = weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The heatmaps of all keypoints."""
        wanted, own = networks.teacher(batch).dense, networks.student(batch).dense
        assert wanted is not None, "an answer to a batch of a dense task"
        assert own is not None, "an answer to a batch of a dense task"
        if wanted.shape != own.shape:
            raise ValueError(f"the teacher's heatmaps are {list(wanted.shape[1:])} and the student's {list(own.shape[1:])}; "
                             "it compares them cell by cell")
        return {"heatmaps": self.weight * heatmap_divergence(wanted, own)}
