"""Losses of pictures that are made without data: how near to a teacher's training data, how unlike each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["agreed_divergence", "diversity", "gaussian_kl", "view_contrast"]


def gaussian_kl(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """KL divergence of a normal distribution from another, of each pair: KL(N(mean, variance) || N(other)).

    Source: Haroush et al., The knowledge within, CVPR 2020, of the statistics of each channel: there the remembered ones
    come first, and those of a batch of made pictures second.

    Example:
        >>> gaussian_kl(*(torch.tensor(value) for value in (0.0, 1.0, 1.0, 4.0)))
        tensor(0.4431)
    """
    return 0.5 * ((variance + (mean - other_mean).square()) / other_variance - 1 + (other_variance / variance).log())


def diversity(noise: Tensor, pictures: Tensor) -> Tensor:
    """Least where noise that is far apart makes pictures that are: exp of minus a mean over all pairs.

    Source: Yoo et al., Knowledge extraction with no observable data, NeurIPS 2019.

    Args:
        noise: [B, D]; distances are mean squares.
        pictures: [B, ...]; distances are mean absolute values.

    Example:
        >>> diversity(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))  # 1 / e
        tensor(0.3679)
    """
    pixels = pictures.flatten(1)
    apart = torch.cdist(pixels, pixels, p=1) / pixels.shape[1]
    noises = torch.stack([(noise - own).square().mean(dim=1) for own in noise])
    return (-(noises * apart).mean()).exp()


def view_contrast(local: Tensor, whole: Tensor, temperature: float, fresh: int) -> Tensor:
    """How badly each local view is told to belong to its picture (InfoNCE), the mean over fresh ones and over old ones added.

    Source: Fang et al., Contrastive model inversion for data-free knowledge distillation, IJCAI 2021.

    Args:
        local: embeddings of local views [N, D] of length 1, the fresh ones first.
        whole: of the pictures [N, D] in the same order; they get no gradient.
        temperature: what the cosines are divided by.
        fresh: how many are of the present batch.

    Example:
        >>> view_contrast(torch.eye(2), torch.eye(2), temperature=1.0, fresh=2)  # log (1 + 1 / e)
        tensor(0.3133)
    """
    logits = local @ whole.detach().T / temperature
    apart = F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")
    return apart[:fresh].mean() + (apart[fresh:].mean() if len(apart) > fresh else 0)


def agreed_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL divergence with gradients to both, of the samples alone that both give the same class; a mean over all samples.

    Source: Fang et al., Contrastive model inversion for data-free knowledge distillation, IJCAI 2021.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].

    Example:
        >>> agreed_divergence(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tensor(0.0336)
    """
    wanted = teacher.log_softmax(dim=1)
    apart = (wanted.exp() * (wanted - student.log_softmax(dim=1))).sum(dim=1)
    return (apart * (teacher.argmax(dim=1) == student.argmax(dim=1))).mean()
