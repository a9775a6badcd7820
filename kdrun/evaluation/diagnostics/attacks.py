"""Small changes of a picture that are chosen to mislead: within `eps` of every pixel value from 0 to 1, and never outside.

Each returns pictures; how often a network withstands them is for `robust` to say. Gradients pass through whatever lies
between pixels and logits, normalisation included.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

__all__ = ["fgsm", "pgd", "robust", "transition_gaps"]

Sees = Callable[[Tensor], Tensor]  # from pixels [B, H, W, C] from 0 to 1 to logits [B, K]


def slope(sees: Sees, pixels: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each picture's cross-entropy in its pixels.

    Raises:
        ValueError: the network is not differentiable in its pictures.
    """
    pixels = pixels.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(sees(pixels), labels, reduction="sum")
        if not loss.requires_grad:
            raise ValueError("it has no gradient in its pictures")
        return torch.autograd.grad(loss, pixels)[0]


def fgsm(sees: Sees, pixels: Tensor, labels: Tensor, eps: float) -> Tensor:
    """One step of `eps` along the sign of the gradient (Goodfellow et al., Explaining and harnessing adversarial examples,
    ICLR 2015).

    Args:
        sees: the network.
        pixels: [B, H, W, C] from 0 to 1.
        labels: [B].
        eps: the most that a value may change.

    Raises:
        ValueError: the network is not differentiable in its pictures.
    """
    return (pixels + eps * slope(sees, pixels, labels).sign()).clamp(0, 1)


def pgd(sees: Sees, pixels: Tensor, labels: Tensor, eps: float, steps: int, draws: Generator) -> Tensor:
    """Projected gradient ascent from a random start (Madry et al., Towards deep learning models resistant to attacks, 2018).

    Steps are 2.5 * eps / steps long, which reaches every corner of the ball from anywhere in it. A picture that misleads
    on the way is kept: later steps cannot lose it.

    Args:
        sees: the network.
        pixels: [B, H, W, C] from 0 to 1.
        labels: [B].
        eps: the most that a value may change.
        steps: how many.
        draws: the random start.

    Raises:
        ValueError: the network is not differentiable in its pictures.
    """
    start = (2 * torch.rand(pixels.shape, generator=draws) - 1).to(pixels.device)
    low, high = (pixels - eps).clamp_min(0), (pixels + eps).clamp_max(1)
    moved = torch.minimum(torch.maximum(pixels + eps * start, low), high)
    kept = moved
    misled = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    for _ in range(steps):
        moved = moved + 2.5 * eps / steps * slope(sees, moved, labels).sign()
        moved = torch.minimum(torch.maximum(moved, low), high)
        kept = torch.where(misled[:, None, None, None], kept, moved)
        misled |= sees(moved).detach().argmax(1) != labels
    return kept


def robust(sees: Sees, pixels: Tensor, labels: Tensor, attack: Callable[..., Tensor], *settings: Any) -> Tensor:
    """Which pictures [B] are answered rightly both as they are and attacked: never more than without the attack."""
    with torch.no_grad():
        right = sees(pixels).argmax(1) == labels
    attacked = attack(sees, pixels, labels, *settings)
    with torch.no_grad():
        return right & (sees(attacked).argmax(1) == labels)


def transition_gaps(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], pixels: Tensor, labels: Tensor,
                    classes: int, steps: int, rate: float) -> Tensor:
    """How differently two networks see the way from one class to each other one.

    (Micaelli and Storkey, Zero-shot knowledge transfer via adversarial belief matching, 2019, section 4.4.) From each
    picture, `steps` steps of gradient descent on the first network's cross-entropy with another class j; at each step the
    gap is |p_j of the first - p_j of the second|. Their mean over pictures, classes and steps is the mean transition error.

    Args:
        first: from what the pictures are walked in to logits; the walk follows its gradient.
        second: likewise.
        pixels: [B, ...], which both get right.
        labels: [B].
        classes: K.
        steps: of the walk.
        rate: the length of a step per unit of gradient.

    Returns:
        The gaps, [B, K - 1, steps].

    Raises:
        ValueError: the first network is not differentiable in its pictures.
    """
    gaps = []
    for shift in range(1, classes):
        wanted = (labels + shift) % classes
        walked, own = pixels, []
        for _ in range(steps):
            walked = walked - rate * slope(first, walked, wanted)
            with torch.no_grad():
                mine, theirs = (sees(walked).double().softmax(1).gather(1, wanted[:, None])[:, 0] for sees in (first, second))
            own.append((mine - theirs).abs())
        gaps.append(torch.stack(own, dim=1))
    return torch.stack(gaps, dim=1)
