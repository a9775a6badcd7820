"""What several views of the same pictures are for: other views of B pictures, and what is asked of the answers to them.

M views of B pictures are [M * B, ...], view by view, the pictures as they are first.
"""

import itertools
from typing import Literal

import torch
from torch import Tensor

from kdrun.methods.losses.arithmetic import unit_rows

__all__ = ["Views", "aggregated", "best_ranked", "consistency", "joint_labels", "sees_again", "view_count", "views_of"]

Views = Literal["rotation", "rotation2", "color_perm", "color_perm3", "rot_color_perm6", "rot_color_perm12", "rot_color_perm24"]

TURNS: dict[str, tuple[int, ...]] = {"rotation": (0, 1, 2, 3), "rotation2": (0, 2), "rot_color_perm6": (0, 2),
                                     "rot_color_perm12": (0, 1, 2, 3), "rot_color_perm24": (0, 1, 2, 3)}
CYCLES: list[tuple[int, ...]] = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
ORDERS: dict[str, list[tuple[int, ...]]] = {
    "color_perm3": CYCLES, "rot_color_perm6": CYCLES, "rot_color_perm12": CYCLES,
    "color_perm": list(itertools.permutations(range(3))), "rot_color_perm24": list(itertools.permutations(range(3)))}


def view_count(kind: Views) -> int:
    """How many views there are of a picture, itself among them.

    Source: the code of Lee, Hwang, Shin, Self-supervised label augmentation via input transformations, ICML 2020.

    Example:
        >>> [view_count(kind) for kind in ("rotation", "rotation2", "color_perm", "rot_color_perm12")]
        [4, 2, 6, 12]
    """
    return len(TURNS.get(kind, (0,))) * len(ORDERS.get(kind, [()]))


def views_of(pictures: Tensor, kind: Views) -> Tensor:
    """All views [M * B, C, H, W] of pictures [B, C, H, W]: turned by quarters, and with their channels in other orders.

    Source: Lee, Hwang, Shin, Self-supervised label augmentation via input transformations, ICML 2020 (the names are their
    code's).

    Raises:
        ValueError: a quarter turn of pictures that are not square; colours of pictures that have none.

    Example:
        >>> views_of(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), "rotation2").flatten(1)
        tensor([[1., 2., 3., 4.],
                [4., 3., 2., 1.]])
    """
    turns, orders = TURNS.get(kind, (0,)), ORDERS.get(kind)
    if 1 in turns and pictures.shape[2] != pictures.shape[3]:
        raise ValueError(f"a quarter turn needs square pictures, and these have {pictures.shape[2]}x{pictures.shape[3]} "
                         "pixels; wanted square ones, or half turns (rotation2)")
    if orders and pictures.shape[1] != 3:
        raise ValueError(f"{kind} changes the order of three colours, and these pictures have {pictures.shape[1]} channel(s); "
                         "rotation would do")
    turned = [torch.rot90(pictures, turn, (2, 3)) if turn else pictures for turn in turns]
    seen = turned if orders is None else [one[:, list(order)] for one in turned for order in orders]
    return torch.cat(seen)


def joint_labels(labels: Tensor, views: int) -> Tensor:
    """Which class and which view, [M * B] from 0 to K * M, of labels [B]: label * M + view.

    Source: Lee, Hwang, Shin, Self-supervised label augmentation via input transformations, ICML 2020, section 2.2.

    Example:
        >>> joint_labels(torch.tensor([0, 2]), views=2)
        tensor([0, 4, 1, 5])
    """
    return (labels * views + torch.arange(views, device=labels.device)[:, None]).flatten()


def aggregated(joint: Tensor, views: int) -> Tensor:
    """The mean over views of the logits that each gives to the classes seen in its own view.

    Source: Lee, Hwang, Shin, Self-supervised label augmentation via input transformations, ICML 2020, section 2.2.

    Args:
        joint: logits [M * B, K * M] of class and view together.
        views: M.

    Returns:
        Logits [B, K].

    Example:
        >>> aggregated(torch.tensor([[4.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 2.0]]), views=2)
        tensor([[3.5000, 1.0000]])
    """
    parted = joint.unflatten(0, (views, -1)).unflatten(2, (-1, views))  # [M, B, K, M]
    return parted.diagonal(dim1=0, dim2=3).mean(dim=2)


def consistency(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared distance of the probabilities of two views, averaged over samples and classes.

    Source: Tarvainen, Valpola, Mean teachers are better role models, NeurIPS 2017, equation 1.

    Args:
        teacher: logits [B, K] of one view.
        student: logits [B, K] of the other.

    Example:
        >>> consistency(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        tensor(0.1450)
    """
    return (student.softmax(dim=1) - teacher.detach().softmax(dim=1)).square().mean()


def sees_again(rotated: Tensor, upright: Tensor) -> Tensor:
    """Cosines [N, B] of the embeddings [N, D] of further views with those of the pictures as they are, [B, D].

    Source: Xu, Liu, Li, Loy, Knowledge distillation meets self-supervision, ECCV 2020, equation 5.

    Example:
        >>> sees_again(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[0.6000, 0.0000]])
    """
    return unit_rows(rotated) @ unit_rows(upright).T


def best_ranked(scores: Tensor, truth: Tensor, share: float) -> Tensor:
    """Which rows to learn from: all in which the truth has the best score, and of the others those in which it ranks highest.

    Source: Xu, Liu, Li, Loy, Knowledge distillation meets self-supervision, ECCV 2020, section 3.3.

    Args:
        scores: [N, K].
        truth: the right column of each row, [N].
        share: of the other rows that are kept; their number is rounded down.

    Returns:
        Rows, ascending.

    Example:
        >>> scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> best_ranked(scores, torch.tensor([2, 1, 0]), share=0.5)
        tensor([1, 2])
    """
    rank = (scores > scores.gather(1, truth[:, None])).sum(dim=1)
    right = int((rank == 0).sum())
    return rank.argsort(stable=True)[:right + int(share * (len(rank) - right))].sort().values
