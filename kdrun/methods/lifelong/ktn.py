"""Knowledge transfer networks for classes of few samples."""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.data.data import Data
from kdrun.data.samples import Samples
from kdrun.evaluation import metrics
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import unit_rows
from kdrun.models.cosine import CosineHead
from kdrun.models.reclassified import head_of, reclassify
from kdrun.models.roles import Networks
from kdrun.utils.seeding import generator


def neighbours(vectors: Tensor, count: int) -> Tensor:
    """A graph [K, K] of classes: each and its nearest by their vectors [K, D], both ways, with rows of sum one.

    Example:
        >>> neighbours(torch.tensor([[0.0], [1.0], [5.0]]), 1)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.3333, 0.3333, 0.3333],
                [0.0000, 0.5000, 0.5000]])
    """
    apart = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
    edges = torch.eye(len(vectors)).scatter_(1, apart.topk(count, largest=False).indices, 1.0)
    edges = edges.maximum(edges.T)
    return edges / edges.sum(dim=1, keepdim=True)


class GraphNetwork(nn.Module):
    """From the vectors of classes, over a graph of them, to the weights of a classifier: rows of length one.

    Args:
        graph: [K, K], with rows of sum one.
        sizes: of the vectors, the hidden layers and the weights.
        dropout: before each layer.
        slope: of the hidden layers' leaky activations.
    """

    graph: Tensor

    def __init__(self, graph: Tensor, sizes: Sequence[int], *, dropout: float, slope: float) -> None:
        super().__init__()
        self.register_buffer("graph", graph)
        layers = [nn.Linear(before, after) for before, after in itertools.pairwise(sizes)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers, self.dropout, self.slope = nn.ModuleList(layers), nn.Dropout(dropout), slope

    def forward(self, vectors: Tensor) -> Tensor:
        """The weights [K, E] by the vectors [K, D] of all classes."""
        for number, layer in enumerate(self.layers):
            vectors = self.graph @ (self.dropout(vectors) @ layer.weight.T) + layer.bias
            if number + 1 < len(self.layers):
                vectors = F.leaky_relu(vectors, self.slope)
        return unit_rows(vectors)


def novel_weights(supports: Tensor, told: Tensor, coefficient: float) -> Tensor:
    """The classifier's weights [N, E] of new classes: the mean direction of their samples, and what a graph says of them.

    Args:
        supports: embeddings [N, shots, E].
        told: weights [N, E].
        coefficient: of those.

    Example:
        >>> novel_weights(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[1.0, 0.0]]), 0.5)
        tensor([[0.8944, 0.4472]])
    """
    return unit_rows(unit_rows(supports).mean(dim=1) + coefficient * told)


class KTN(Method):
    """Tell classes of few samples by their samples and by what a graph of classes says of their weights (Peng et al. 2019).

    A network with a cosine classifier learns the base classes. A graph network learns from vectors of the classes (their
    `semantics`) the weights that the classifier came to have for these; it then says weights for the novel classes too. A novel
    class has the mean direction of its few samples plus that weight divided by their number.

    `episodes.csv` has accuracies over episodes of new samples with their 95 % interval: on base pictures among base
    classes, on novel ones among novel classes, on both among all; beside it those by `means` of samples alone. The student
    of the results tells all classes by the most `shots` training pictures of each novel class: the baseline has all of
    them.

    An approximation: the paper's graph is of words, and its samples of mini-ImageNet; here vectors are those of the YAML
    (of the digits their seven segments, as on a display), and the graph joins near ones. The form is that of a later
    implementation by others, with its divisor, the samples of a class.

    Measured on the digits (resnet8, default settings, three seeds): on all classes together 69.6 ± 4.9 % by one sample of a
    novel class, where means alone have 44.9 ± 2.8 %, and 46.5 ± 3.1 % by five, where they have 44.8 ± 3.5 %. Among novel
    classes alone the graph does not help: 61.9 ± 2.1 % and 75.7 ± 2.3 % against 63.1 ± 1.8 % and 76.2 ± 2.4 %. More updates
    of the graph network (300, 1,000; one seed) were no better on the validation split. The student has 45.5 ± 8.5 %.

    Args:
        base: how many classes, the first ones, have all their samples.
        vectors: of each class.
        nearest: neighbours of a class in the graph.
        hidden: units of the graph network's two hidden layers.
        dropout: in it.
        slope: of its leaky activations.
        scale: of the cosines, which learns; of the graph network's it stays.
        graph_lr: of its Adam.
        graph_decay: likewise.
        graph_updates: of it.
        shots: samples of a novel class; of the episodes, each of these.
        episodes: for each number of samples.
        queries: test pictures of each class in an episode.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ()
    plain_logits = "compares directions"
    label_term = None  # the labels are those of some classes
    cautions: ClassVar[Mapping[str, str]] = {
        "self": "its student knows a few pictures of the novel classes: measured on digits it has 45 % of the test set right, "
                "where the student alone, which has all pictures, has 99 %"}
    source = "Peng, Li, Zhang, Li, Qi, Tang: Few-shot image recognition with knowledge transfer. ICCV 2019"
    survey_scheme = ""
    survey_tables = ("Gou section 6.8", "Gou section 8.1")

    graph: GraphNetwork

    def __init__(self, *, base: AtLeastOne, vectors: list[list[float]], nearest: AtLeastOne, hidden: AtLeastOne,
                 dropout: Proportion, slope: NonNegative, scale: Positive, graph_lr: Positive, graph_decay: NonNegative,
                 graph_updates: AtLeastOne, shots: list[AtLeastOne], episodes: AtLeastOne, queries: AtLeastOne) -> None:
        super().__init__()
        if len({len(row) for row in vectors}) != 1 or not shots:
            raise ValueError("method.vectors and method.shots: wanted vectors of one length, and a number of shots at least")
        self.base, self.vectors, self.nearest, self.hidden = base, vectors, nearest, hidden
        self.dropout, self.slope, self.scale = dropout, slope, scale
        self.graph_lr, self.graph_decay, self.graph_updates = graph_lr, graph_decay, graph_updates
        self.shots, self.episodes, self.queries = shots, episodes, queries

    def setup(self, networks: Networks, data: Data) -> None:
        """Give the student a cosine classifier, and build the graph.

        Raises:
            ValueError: classes, vectors and samples do not fit.
        """
        count = len(data.classes)
        if len(self.vectors) != count or not self.base < count or self.nearest >= count:
            raise ValueError(f"there are {count} classes; wanted as many method.vectors (given {len(self.vectors)}), and fewer "
                             f"method.base (given {self.base}) and method.nearest (given {self.nearest})")
        fewest = int(torch.bincount(data.train.labels, minlength=count)[self.base:].min())
        if fewest < max(self.shots):
            raise ValueError(f"a novel class has {fewest} training pictures; give method.shots at most so many")
        wide = networks.student.shapes.embedding[0]
        reclassify(networks.student, CosineHead(wide, count, self.scale, learned=True))
        vectors = torch.tensor(self.vectors, dtype=torch.float32)
        self.semantics = unit_rows(vectors).to(networks.device)
        self.graph = GraphNetwork(neighbours(vectors, self.nearest),
                                  [vectors.shape[1], self.hidden, self.hidden, wide], dropout=self.dropout,
                                  slope=self.slope).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The base classes, the graph, and then the novel classes in one go."""
        student, count = run.networks.student, len(run.data.classes)
        self.setup(run.networks, run.data)
        known = TaskStream(run.stream, torch.arange(count), slice(0, self.base))
        yield Phase("base", train=[student], data=known, loss=self.of_base, evaluate=False)
        updates = 1 if run.rehearsal else self.graph_updates
        yield Phase("graph", train=[self.graph], data=run.noise([1], batch_size=1, steps=updates), loss=self.related, epochs=1,
                    evaluate=False)
        shots, source = max(self.shots), generator("support", run.seed)
        rows = self.drawn(run.data.train, range(self.base, count), shots, source)
        seen = self.embedded(run, run.data.train[rows.flatten()]).unflatten(0, rows.shape)
        with torch.no_grad():
            head = head_of(student, CosineHead)
            head.weight[self.base:] = novel_weights(seen, self.told()[self.base:], 1 / shots)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam at a constant rate for the graph network."""
        if any(weight is weights[0] for weight in self.graph.parameters()):
            return torch.optim.Adam([{"params": list(weights), "scheduled": False}], lr=self.graph_lr,
                                    weight_decay=self.graph_decay)
        return recipe.build(weights)

    def of_base(self, networks: Networks, batch: Batch) -> Terms:
        """The labels of the base classes among themselves."""
        logits = networks.student(batch).logits[:, :self.base]
        return {"base": F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)}

    def related(self, networks: Networks, batch: Batch) -> Terms:
        """That the weight said for a base class is nearest to the classifier's own."""
        weights = unit_rows(head_of(networks.student, CosineHead).weight.detach()[:self.base])
        cosines = self.graph(self.semantics)[:self.base] @ weights.T
        return {"graph": F.cross_entropy(self.scale * cosines, torch.arange(self.base, device=cosines.device))}

    @torch.no_grad()
    def told(self) -> Tensor:
        """The weights [K, E] that the graph network says."""
        return self.graph.eval()(self.semantics)

    @torch.no_grad()
    def embedded(self, run: Run, samples: Samples) -> Tensor:
        """The student's embeddings of samples [N, E], without augmentation."""
        student = run.networks.student.eval()
        return torch.cat([student(batch, fresh=True).embedding for batch in run.data.plain(samples, run.device)])

    @staticmethod
    def drawn(samples: Samples, classes: Sequence[int], count: int, source: torch.Generator) -> Tensor:
        """Rows [N, count] of so many samples of each class, or of as many as the smallest has."""
        rows = [(samples.labels == label).nonzero()[:, 0] for label in classes]
        count = min(count, *map(len, rows))
        return torch.stack([own[torch.randperm(len(own), generator=source)[:count]] for own in rows])

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Accuracies over episodes."""
        count, told = len(run.data.classes), self.told()
        train, test = self.embedded(run, run.data.train), unit_rows(self.embedded(run, run.data.test))
        base = unit_rows(head_of(run.networks.student, CosineHead).weight.detach()[:self.base])
        rows: list[dict[str, object]] = []
        for shots in self.shots:
            found: dict[str, list[tuple[float, float, float]]] = {"ktn": [], "means": []}
            for number in range(self.episodes):
                source = generator("episode", run.seed, shots, number)
                supports = train[self.drawn(run.data.train, range(self.base, count), shots, source)]
                asked = self.drawn(run.data.test, range(count), self.queries, source)
                labels = torch.arange(count, device=test.device).repeat_interleave(asked.shape[1])
                for name, coefficient in (("ktn", 1 / shots), ("means", 0.0)):
                    weights = torch.cat([base, novel_weights(supports, told[self.base:], coefficient)])
                    found[name].append(self.accuracies(test[asked.flatten()] @ weights.T, labels))
            for name, measured in found.items():
                row: dict[str, object] = {"learner": name, "shots": shots, "episodes": len(measured)}
                for kind, values in zip(("base", "novel", "both"), zip(*measured, strict=True), strict=True):
                    row |= {kind: statistics.fmean(values), f"{kind}_interval": metrics.half_interval(values)}
                rows.append(row)
        return {"episodes": rows}

    def accuracies(self, cosines: Tensor, labels: Tensor) -> tuple[float, float, float]:
        """On base samples among base classes, on novel ones among novel classes, on both among all."""
        old = labels < self.base

        def right(part: Tensor, wanted: Tensor) -> float:
            return float((part.argmax(dim=1) == wanted).double().mean())
        return (right(cosines[old, :self.base], labels[old]), right(cosines[~old, self.base:], labels[~old] - self.base),
                right(cosines, labels))
