"""A decision tree."""

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne
from kdrun.evaluation.metrics import Size
from kdrun.models.fitted import FittedModel
from kdrun.models.output import ModelOutput

__all__ = ["Tree"]


class Tree(FittedModel):
    """A binary tree that looks at one pixel at each node (Breiman et al., Classification and regression trees, 1984).

    From labels it is grown by Gini's impurity and answers with the logarithm of the classes' shares in a leaf, by
    Laplace's rule of succession; from logits by their squared error, and answers with their mean in a leaf. Among splits
    that are equally good it takes the same one every time.

    Its size in `parameters` is its number of nodes, leaves included; bytes and bits are those of its arrays.

    Args:
        max_depth: how many comparisons an answer may take; null for no limit.
        min_samples_leaf: the fewest pictures in a leaf.
        classes: how many classes.
    """

    pixel: Tensor       # of the pictures [C, H, W], that each of M nodes looks at
    threshold: Tensor   # [M], float64 as it was found: between two values that float32 can hold
    low: Tensor         # [M], the next node where the pixel is not above the threshold; a leaf's is itself
    high: Tensor        # [M], and where it is
    answer: Tensor      # [M, K]
    depth: Tensor

    def __init__(self, *, max_depth: AtLeastOne | None, min_samples_leaf: AtLeastOne, classes: int) -> None:
        super().__init__()
        self.max_depth, self.min_samples_leaf, self.classes = max_depth, min_samples_leaf, classes
        for name in ("pixel", "low", "high"):
            self.register_buffer(name, torch.zeros(1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("answer", torch.zeros(1, classes))
        self.register_buffer("depth", torch.zeros((), dtype=torch.int64))

    def fit(self, pictures: Tensor, targets: Tensor) -> None:
        """Learn labels [N] or logits [N, K]."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        pixels, place = pictures.flatten(1).float().cpu().numpy(), self.answer.device
        by_labels = targets.ndim == 1
        kind = DecisionTreeClassifier if by_labels else DecisionTreeRegressor
        grown = kind(max_depth=self.max_depth, min_samples_leaf=self.min_samples_leaf, random_state=0)
        grown.fit(pixels, targets.cpu().numpy() if by_labels else targets.double().cpu().numpy())
        tree = grown.tree_
        values = torch.from_numpy(tree.value)
        if by_labels:
            shares = torch.zeros(len(values), self.classes, dtype=torch.float64)
            shares[:, torch.from_numpy(grown.classes_)] = values[:, 0] / values[:, 0].sum(dim=1, keepdim=True)
            counts = torch.from_numpy(tree.n_node_samples).double()[:, None]
            answer = ((shares * counts + 1) / (counts + self.classes)).log()
        else:
            answer = values[:, :, 0]
        itself, leaf = torch.arange(tree.node_count), torch.from_numpy(tree.children_left) < 0
        self.low = torch.where(leaf, itself, torch.from_numpy(tree.children_left)).to(place)
        self.high = torch.where(leaf, itself, torch.from_numpy(tree.children_right)).to(place)
        self.pixel = torch.where(leaf, 0, torch.from_numpy(tree.feature)).to(place)
        self.threshold = torch.where(leaf, 0.0, torch.from_numpy(tree.threshold)).to(place)
        self.answer = answer.float().to(place)
        self.depth = torch.tensor(tree.max_depth, device=place)

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        pixels = pictures.flatten(1)
        node = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        for _ in range(int(self.depth)):
            seen = pixels.gather(1, self.pixel[node][:, None])[:, 0].double()
            node = torch.where(seen <= self.threshold[node], self.low[node], self.high[node])
        return ModelOutput(self.answer[node], pixels, (), (), pictures)

    @property
    def leaves(self) -> int:
        """How many nodes compare nothing."""
        return int((self.low == self.high).sum())

    def stored_size(self) -> Size:
        """Its nodes, and what its arrays take."""
        stored = sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())
        return Size(len(self.answer), stored, 8 * stored)
