"""Losses of a discriminator, which tells a teacher from a student, and of the student that wants to be taken for the teacher.

A discriminator's logits, of any shape with samples first, are above 0 for what it takes for the teacher's. Of no sample at
all every loss is 0, with a gradient of 0. Who calls these sees to it that each side moves its own weights alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import row_mean

__all__ = ["gan_discriminator", "gan_student", "lsgan_discriminator", "lsgan_student", "r1_penalty"]


def gan_discriminator(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of a discriminator: the teacher is real, the student is not.

    Source: Goodfellow et al., Generative adversarial nets, NeurIPS 2014, equation 1.

    Args:
        teacher: its logits of what is the teacher's.
        student: of what is the student's.

    Returns:
        The parts of both, scalars.

    Example:
        >>> gan_discriminator(torch.tensor([2.0, 0.0]), torch.tensor([0.0]))  # the mean of 0.1269 and log 2; log 2
        (tensor(0.4100), tensor(0.6931))
    """
    return row_mean(F.softplus(-teacher)), row_mean(F.softplus(student))


def gan_student(student: Tensor) -> Tensor:
    """Binary cross-entropy of what wants to be taken for the teacher, in the form that does not saturate.

    Source: Goodfellow et al., Generative adversarial nets, NeurIPS 2014, section 3.

    Args:
        student: a discriminator's logits of what is the student's.

    Example:
        >>> gan_student(torch.tensor([-2.0, 2.0]))
        tensor(1.1269)
    """
    return row_mean(F.softplus(-student))


def lsgan_discriminator(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared error of a discriminator that should say 1 of the teacher and 0 of the student.

    Source: Mao et al., Least squares generative adversarial networks, ICCV 2017, equation 2, without its half.

    Args:
        teacher: its scores, from 0 to 1, of what is the teacher's.
        student: of what is the student's.

    Example:
        >>> lsgan_discriminator(torch.tensor([0.5, 1.0]), torch.tensor([0.5]))  # 0.125 and 0.25
        tensor(0.3750)
    """
    return row_mean(torch.square(1 - teacher)) + row_mean(torch.square(student))


def lsgan_student(student: Tensor) -> Tensor:
    """Squared error of what wants to be taken for the teacher.

    Source: Mao et al., Least squares generative adversarial networks, ICCV 2017, equation 2, without its half.

    Args:
        student: a discriminator's scores, from 0 to 1, of what is the student's.

    Example:
        >>> lsgan_student(torch.tensor([0.5, 1.0]))
        tensor(0.1250)
    """
    return row_mean(torch.square(1 - student))


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Half the mean squared norm of a discriminator's gradient at what is real, which keeps adversarial training stable.

    Source: Mescheder, Geiger, Nowozin, Which training methods for GANs do actually converge? ICML 2018 (R1).

    Args:
        logits: the discriminator's [B], each of one sample and of no other.
        real: the samples [B, ...] that they were asked about, with a gradient.

    Example:
        >>> real = torch.tensor([[1.0, 0.0], [0.0, 3.0]], requires_grad=True)
        >>> r1_penalty(real.square().sum(dim=1), real).item()  # gradients (2, 0) and (0, 6)
        10.0
    """
    slope, = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return row_mean(slope.square().flatten(1).sum(dim=1)) / 2
