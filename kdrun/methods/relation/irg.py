"""Instance relationship graphs."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.layers import irg_transformation
from kdrun.methods.losses.relation import irg_edges
from kdrun.methods.losses.response import logit_mse
from kdrun.models.roles import Networks


class IRG(Method):
    """Match the graph of a batch: its answers, their distances, and how they move between layers (Liu et al. 2019).

    Vertices are logits, edges are squared distances among samples over the largest of the batch, a transformation is the
    squared distance of a sample's maps of consecutive stages, over the largest likewise; the largest counts as a constant,
    as in the authors' code. Channels and sizes may differ.

    With `maps` edges are those of the embeddings and of the last two stages, averaged, and transformations compare whole
    maps, as in public code on CIFAR-10. With `pooled` edges are of the embeddings alone and maps
    are averaged over their places first, as the authors have it, whose transformations lead from one map to another of the
    same stage; only maps at the ends of stages are known here, so they lead from stage to stage.

    The weights of that code are 5 for edges and transformations. On the digits (resnet8 taught by wrn_16_2, three seeds) it
    has 98.4 ± 0.3 % with them and 98.7 ± 0.1 % with the default, the baseline 98.6 ± 0.1 %.

    Args:
        form: `maps` or `pooled`, as above.
        vertex_weight: of the mean squared difference of logits.
        edge_weight: of the mean squared difference of edges.
        transformation_weight: of that of transformations, averaged over pairs of stages.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("relation",)
    structural = True
    source = "Liu, Cao, Li, Yuan, Hu, Li, Duan: Knowledge distillation via instance relationship graph. CVPR 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 5", "Gou 6", "Alkhulaifi 2", "Gou section 6.4")

    def __init__(self, *, form: Literal["maps", "pooled"], vertex_weight: NonNegative, edge_weight: NonNegative,
                 transformation_weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.form, self.ce_weight = form, ce_weight
        self.vertex_weight, self.edge_weight = vertex_weight, edge_weight
        self.transformation_weight = transformation_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that the stages pair up, and that there are two.

        Raises:
            ValueError: they do not, or there are not.
        """
        if len(networks.paired_stages("an instance relationship graph")) < 2:
            raise ValueError("transformations lead from one stage to the next, and these networks have one; choose "
                             "networks of two stages or more")

    def edges(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """The difference of edges at each of some layers, averaged."""
        return torch.stack([irg_edges(*pair) for pair in zip(teacher, student, strict=True)]).mean()

    def transformations(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """The difference of transformations between consecutive maps [B, C, H, W], averaged."""
        pairs = zip(itertools.pairwise(teacher), itertools.pairwise(student), strict=True)
        return torch.stack([irg_transformation(*pair) for pair in pairs]).mean()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, vertices, edges and transformations."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        both = (teacher, student)
        if self.form == "maps":
            layers = [[output.embedding, *output.stages[-2:]] for output in both]
            stages: list[list[Tensor]] = [list(output.stages) for output in both]
        else:
            layers = [[output.embedding] for output in both]
            stages = [[maps.mean(dim=(2, 3), keepdim=True) for maps in output.stages] for output in both]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "vertices": self.vertex_weight * logit_mse(teacher.logits, student.logits, reduction="mean"),
                "edges": self.edge_weight * self.edges(*layers),
                "transformations": self.transformation_weight * self.transformations(*stages)}
