"""Cross-modal transfer from the frames of a film."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Count, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks


def panned(pictures: Tensor, count: int, reach: int) -> Tensor:
    """A film of pictures: frames of the original size that move over each from left to right.

    Args:
        pictures: [B, C, H, W].
        count: frames of each.
        reach: how many pixels the first frame lies to the left and the last to the right; beyond the picture its border goes
            on.

    Returns:
        [B, count, C, H, W].
    """
    wide, width = F.pad(pictures, (reach, reach, 0, 0), mode="replicate"), pictures.shape[-1]
    starts = [round(2 * reach * frame / max(count - 1, 1)) for frame in range(count)] if count > 1 else [reach]
    return torch.stack([wide[..., start:start + width] for start in starts], dim=1)


class FramesToSequence(Method):
    """Match what a teacher of another modality says of a film, the largest logit of all its frames (Albanie et al. 2018).

    The paper's teacher sees the frames of a talking face, its student hears the voice. The target is the softmax of logits of
    which each is the maximum over the frames, by the cross-entropy at one temperature for both; no labels are used. Here a film
    is made of the picture that the teacher sees: frames that move over it from left to right, each with noise of its own. So
    teachers have to see pictures; what the student sees does not matter.

    The frames are an approximation, and so is that nothing multiplies the loss: it is not known whether the authors' layer has
    the squared temperature.

    On the digits (an LSTM of 32 on spectrograms, taught by wrn_16_2, seed 1 alone) the student has 95.7 %, by labels alone
    94.9 %; unpaired (`dataset.paired=false`) 15.7 %, as it learns of the teacher alone.

    Args:
        frames: of a film; 1 for the picture itself.
        reach: how many pixels the first and the last frame lie beside the picture.
        noise: standard deviation of the noise on each frame, in standard deviations of the pictures.
        temperature: softens both answers.
        weight: of the loss.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("one row a sample",)
    label_term = None
    knowledge = ("response",)
    source = "Albanie, Nagrani, Vedaldi, Zisserman: Emotion recognition in speech using cross-modal transfer in the wild. " \
             "ACM Multimedia 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou 4",)

    def __init__(self, *, frames: AtLeastOne, reach: Count, noise: NonNegative, temperature: Positive,
                 weight: Positive) -> None:
        super().__init__()
        self.frames, self.reach, self.noise, self.temperature, self.weight = frames, reach, noise, temperature, weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Ask whether the teacher sees pictures.

        Raises:
            ValueError: it sees something else.
        """
        if networks.teacher.task.inputs != "pictures":
            raise ValueError(f"it makes a film of what the teacher sees, which has to be pictures, not "
                             f"{networks.teacher.task.inputs}; choose another dataset.teacher_sees")

    def target(self, networks: Networks, batch: Batch) -> Tensor:
        """The largest logit of each class over the frames [B, K]."""
        teacher = networks.teacher
        pictures = teacher.inputs(batch)
        assert isinstance(pictures, Tensor)
        film = panned(pictures, self.frames, self.reach).flatten(0, 1)
        if self.noise:
            film = film + self.noise * torch.randn(film.shape, generator=self.random).to(film)
        shown = Batch(film, views={} if teacher.view is None else {teacher.view: film})
        return teacher(shown).logits.unflatten(0, (-1, self.frames)).amax(dim=1)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The softened answers."""
        wanted = self.target(networks, batch)
        return {"soft": self.weight * soft_cross_entropy(wanted, networks.student(batch).logits, self.temperature)}
