"""Knowledge adaptation by an autoencoder of the teacher's map, and the affinities of its places."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from kdrun.config.constraints import AtLeastOne, Bounds, Epochs, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.feature.ft import layers
from kdrun.methods.losses.dense import place_affinity
from kdrun.methods.losses.feature import ft
from kdrun.models.roles import Networks


def adapter(before: int, after: int) -> nn.Sequential:
    """What brings a student's map to the channels of a code."""
    return nn.Sequential(nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class KTAAD(Method):
    """Compress the teacher's last map by an autoencoder, and teach the student the code and its affinities (He et al. 2019).

    First the autoencoder learns to rebuild the teacher's map from a code of few values (their absolute size is penalised),
    without labels and without the student, at a constant rate. Then it stays as it is; one adapter of the student's last map
    learns the code, each sample's brought to length one, and another the cosines of all its places with one another. Made
    for segmentation; nothing in it depends on that.

    An approximation where the paper's text was not at hand: three convolutions to the code and three back, leaky and without
    strides, since maps are small here; the affinities' difference is squared and averaged. (torchdistill normalises over
    places instead of channels, and compares outer products of each channel.)

    Args:
        code_share: channels of the code over those of the teacher's map.
        autoencoder_epochs: of the first phase.
        sparsity: of the mean absolute value of the code, in that phase.
        adapt_weight: of the mean absolute difference of the codes.
        affinity_weight: of the mean squared difference of the affinities.
        places: how many places of a side the affinities look at, at most; larger maps are averaged down.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)  # the autoencoder is of a teacher that is trained
    needs = ("maps",)
    knowledge = ("feature", "relation")
    source = "He, Shen, Tian, Gong, Sun, Yan: Knowledge adaptation for efficient semantic segmentation. CVPR 2019"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 2",)

    encoder: nn.Sequential
    decoder: nn.Sequential

    def __init__(self, *, code_share: Annotated[float, Bounds(above=0, most=1)], autoencoder_epochs: Epochs,
                 sparsity: NonNegative, adapt_weight: NonNegative, affinity_weight: NonNegative,
                 places: AtLeastOne) -> None:
        super().__init__()
        self.code_share, self.autoencoder_epochs, self.sparsity = code_share, autoencoder_epochs, sparsity
        self.adapt_weight, self.affinity_weight, self.places = adapt_weight, affinity_weight, places

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the autoencoder and the two adapters."""
        own, given = networks.student.shapes.stages[-1][0], networks.teacher.shapes.stages[-1][0]
        few = max(1, round(self.code_share * given))
        self.encoder = layers(nn.Conv2d, [given, given, few, few]).to(networks.device)
        self.decoder = layers(nn.ConvTranspose2d, [few, few, given, given]).to(networks.device)
        self.adapters = nn.ModuleList([adapter(own, few) for _ in range(2)]).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The autoencoder, then the student."""
        self.setup(run.networks, run.data)
        yield Phase("autoencoder", loss=self.rebuild, train=[self.encoder, self.decoder], epochs=self.autoencoder_epochs,
                    constant_rate=True, evaluate=False)
        self.encoder.requires_grad_(False)
        self.decoder = nn.Sequential()
        yield Phase()

    def rebuild(self, networks: Networks, batch: Batch) -> Terms:
        """How well the teacher's map comes back out of its code, and how large that is."""
        maps = networks.teacher(batch).stages[-1].detach()
        code = self.encoder(maps)
        return {"rebuild": F.mse_loss(self.decoder(code), maps), "sparsity": self.sparsity * code.abs().mean()}

    def pooled(self, maps: Tensor) -> Tensor:
        """Maps of at most so many places a side."""
        height, width = maps.shape[-2:]
        if max(height, width) <= self.places:
            return maps
        return adaptive_avg_pool2d(maps, (min(height, self.places), min(width, self.places)))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, the code and the affinities of its places."""
        student, code = networks.student(batch), self.encoder(networks.teacher(batch).stages[-1].detach())
        adapted, affine = (own(student.stages[-1]) for own in self.adapters)
        return {"ce": self.label_loss(student, batch), "adapt": self.adapt_weight * ft(code, adapted),
                "affinity": self.affinity_weight * place_affinity(self.pooled(code), self.pooled(affine))}
