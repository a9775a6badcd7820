"""A Gaussian process."""

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Positive
from kdrun.models.fitted import FittedModel
from kdrun.models.output import ModelOutput

__all__ = ["GaussianProcess"]

FLOOR = 1e-8  # of a class's mean before all are brought to a sum of 1: its logarithm has to be finite


class GaussianProcess(FittedModel):
    """Regression of one-hot labels by a Gaussian process over pixels, with a squared-exponential kernel.

    Means below zero are cut off and the rest brought to a sum of 1: not the posterior of a Gaussian process
    classifier, but close to it in what it prefers, in closed form, and differentiable in the picture. Its size grows
    with the pictures it has seen and is not a number of parameters, so the results leave it out.

    Args:
        length_scale: of the kernel, in the unit of normalised pictures; null for the median distance between two of them.
        noise: variance added to the labels.
        most: refuse to learn from more pictures than this: time grows with their third power, memory with the second.
        classes: how many classes.
        shape: (channels, height, width) of the pictures.
    """

    points: Tensor   # the pictures [N, D] it has seen
    weights: Tensor  # [N, K]
    scale: Tensor    # the kernel's length

    def __init__(self, *, length_scale: Positive | None, noise: Positive, most: AtLeastOne, classes: int,
                 shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.length_scale, self.noise, self.most, self.classes = length_scale, noise, most, classes
        self.register_buffer("points", torch.zeros(1, shape[0] * shape[1] * shape[2]))
        self.register_buffer("weights", torch.zeros(1, classes))
        self.register_buffer("scale", torch.ones(()))

    def check(self, count: int) -> None:
        """Refuse too many pictures.

        Raises:
            ValueError: there are.
        """
        if count > self.most:
            raise ValueError(f"a Gaussian process over {count} pictures; it takes at most {self.most}: give "
                             "dataset.train_limit, or raise its setting `most`")

    def fit(self, pictures: Tensor, targets: Tensor) -> None:
        """Learn labels [N], or the probabilities of logits [N, K]."""
        points = pictures.flatten(1).double()
        wanted = torch.nn.functional.one_hot(targets, self.classes).double() if targets.ndim == 1 \
            else targets.double().softmax(dim=1)
        apart = torch.pdist(points)
        length = self.length_scale or (float(apart.median()) if len(apart) else 1.0) or 1.0
        kernel = self.kernel(points, points, length)
        kernel.diagonal().add_(self.noise)
        weights = torch.cholesky_solve(wanted, torch.linalg.cholesky(kernel))
        kind = self.points.dtype
        # row by row, as it will be when it is loaded: another layout would answer with other last digits
        self.points, self.weights = points.to(kind).contiguous(), weights.to(kind).contiguous()
        self.scale = torch.full_like(self.scale, length)

    @staticmethod
    def kernel(first: Tensor, second: Tensor, length: Tensor | float) -> Tensor:
        """How alike [N, D] and [M, D] are: [N, M], 1 for equal ones."""
        squares = first.square().sum(1)[:, None] + second.square().sum(1)[None, :] - 2 * first @ second.T
        return (-squares.clamp_min(0) / (2 * length**2)).exp()

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]; the embedding is how alike they are to each picture seen before."""
        with torch.autocast(pictures.device.type, enabled=False):  # differences of large numbers need every digit
            alike = self.kernel(pictures.flatten(1).to(self.points.dtype), self.points, self.scale)
            means = (alike @ self.weights).clamp_min(FLOOR)
            return ModelOutput((means / means.sum(dim=1, keepdim=True)).log(), alike, (), (), pictures)

    def stored_size(self) -> None:
        """Not defined."""
        return
