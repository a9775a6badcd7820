"""What methods share that train a generator of pictures against a discriminator."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.methods.base import Terms
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student, r1_penalty
from kdrun.models.synthesis import PictureDiscriminator
from kdrun.tasks.base import Task

__all__ = ["discriminator_of", "discriminator_optimizer", "fooled", "judged"]


def discriminator_of(task: Task) -> PictureDiscriminator:
    """A new discriminator for the pictures of a task, as the settings of its data say."""
    return PictureDiscriminator(task.info["picture"], len(task.classes), task.info["discriminator_width"])


def discriminator_optimizer(task: Task, weights: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """What trains it: Adam with the betas that GANs are trained by (Heusel et al. 2017), at a constant rate."""
    constant = [{"params": list(weights), "scheduled": False}]
    return torch.optim.Adam(constant, lr=task.info["discriminator_lr"], betas=(0.5, 0.9))


def judged(discriminator: PictureDiscriminator, made: Tensor, batch: Batch, task: Task) -> Terms:
    """What a discriminator descends: logistic losses on the batch's real pictures and on made ones, and R1.

    Args:
        discriminator: that learns.
        made: pictures [B, C, H, W] of the classes of the batch; nothing is learned by who made them.
        batch: of image synthesis.
        task: whose data have the weight of R1 in their settings, see `r1_penalty`; 0 for none.
    """
    penalty = task.info["discriminator_penalty"]
    real, wanted = batch.targets["picture"].detach().requires_grad_(penalty > 0), batch.targets["class"]
    for_real, for_made = discriminator(real, wanted), discriminator(made.detach(), wanted)
    terms = dict(zip(("real", "made"), gan_discriminator(for_real, for_made), strict=True))
    return terms | ({"penalty": penalty * r1_penalty(for_real, real)} if penalty else {})


def fooled(discriminator: PictureDiscriminator, made: Tensor, batch: Batch) -> Tensor:
    """What a generator descends: that its pictures [B, C, H, W] of the classes of a batch are taken for real."""
    return gan_student(discriminator(made, batch.targets["class"]))
