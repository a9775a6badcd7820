"""What methods share whose product is a small data set: how it is judged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.pool import Repeated
from kdrun.data.samples import Samples
from kdrun.evaluation import metrics
from kdrun.methods.base import Method, Phase, Product, Run, Terms
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, Role

__all__ = ["LearningSet", "MadeData", "real_pictures"]


@dataclass
class LearningSet:
    """Pictures that a network is to learn from.

    Attributes:
        samples: as they are stored.
        targets: the probabilities [N, K] to be learned of each; None for the labels of the samples.
    """

    samples: Samples
    targets: Tensor | None = None


def real_pictures(samples: Samples, per_class: int, classes: int, seed: int) -> Tensor:
    """The rows of so many pictures of each class, drawn from the seed, class after class.

    Raises:
        ValueError: a class has fewer.
    """
    rows = samples.by_class(seed, classes)
    if (fewest := min(map(len, rows))) < per_class:
        raise ValueError(f"method.per_class is {per_class}, and a class has {fewest} training pictures; give at most so many")
    return torch.cat([own[:per_class] for own in rows])


class MadeData(Method):
    """A method that makes a data set, on which a fresh student is trained.

    What is made is written into the run's folder (`made.safetensors`, pictures and labels in the form of stored ones, each
    described in the file's metadata). The run's student learns from it alone, by the recipe, with as many updates and the same
    augmentation as the baseline has on all data. So do, from the same first weights, references: other small sets. `sets.csv`
    has the test accuracy of each, the baseline's beside them. With `networks` further ones learn from the same sets.

    Subclasses write `make`, `made` and `references`.

    Args:
        networks: the names of further networks that learn from the sets.
    """

    needs = ("pictures", "one row a sample", "sample labels")
    plain_logits = "makes a data set, from which networks learn"
    label_term = None  # the labels that are learned are those that were made

    def __init__(self, *, networks: Sequence[str]) -> None:
        super().__init__()
        self.networks = list(networks)
        self.sets: dict[str, LearningSet] = {}
        self.learners: dict[tuple[str, str], Role] = {}  # by set and network

    def make(self, run: Run) -> Iterator[Phase]:
        """The phases that make the data."""
        raise NotImplementedError

    def made(self, run: Run) -> LearningSet:
        """What they made."""
        raise NotImplementedError

    def references(self, run: Run) -> Mapping[str, LearningSet]:
        """What it is compared with, by name."""
        raise NotImplementedError

    def phases(self, run: Run) -> Iterator[Phase]:
        """Make the data; then train the student on it, and like networks on each of the references."""
        self.setup(run.networks, run.data)
        yield from self.make(run)
        self.sets = {"made": self.made(run), **self.references(run)}
        learners = {("made", run.networks.student.model): run.networks.student}
        for name in self.sets:
            for model in [run.networks.student.model, *self.networks]:
                if (name, model) not in learners:
                    fresh = run.factory.student() if model == run.networks.student.model else run.factory.named(model, model)
                    fresh.name = f"{model} on {name}"
                    run.networks.peers.append(fresh)
                    learners[name, model] = fresh
        self.learners = learners
        for (name, _), role in learners.items():
            own = self.sets[name]
            stream = run.data.stream(batch_size=run.recipe.batch_size, seed=run.seed, device=run.device, samples=own.samples)
            title = "distill" if role is run.networks.student else role.name
            yield Phase(title, loss=self.lesson(role, own), train=[role], data=Repeated(stream, len(run.stream)),
                        evaluate=role is run.networks.student)

    def lesson(self, role: Role, own: LearningSet) -> Callable[[Networks, Batch], Terms]:
        """What a network descends that learns from a set."""
        targets = None if own.targets is None else own.targets.to(role.device)

        def loss(_: Networks, batch: Batch) -> Terms:
            output = role(batch)
            if targets is None:
                return {"ce": self.label_loss(output, batch)}
            return {"ce": -(targets[batch.rows] * output.logits.log_softmax(dim=1)).sum(dim=1).mean()}
        return loss

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student alone; the others are in a table of their own."""
        return {"student": networks.student}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The accuracy of each set and network, and that of all data."""
        def accuracy(network: nn.Module) -> float | None:
            return metrics.accuracy(predict(network, run.data, run.data.test, run.device), run.data.test.labels)

        rows: list[dict[str, object]] = [
            {"set": name, "network": model, "pictures": len(self.sets[name].samples), "accuracy": accuracy(role)}
            for (name, model), role in self.learners.items()]
        if run.factory.train is not None:
            baseline = run.factory.role(run.factory.train(run.factory.student_spec, "baseline"), "baseline",
                                        run.networks.student.model)
            rows.append({"set": "all", "network": baseline.model, "pictures": len(run.data.train),
                         "accuracy": accuracy(baseline)})
        return {"sets": rows}

    def products(self, run: Run) -> Mapping[str, Product]:
        """The data set."""
        own = self.sets["made"]
        about = {"inputs": "pictures [N, height, width, channels], uint8 from 0 to 255 or floats around 0 to 1",
                 "labels": "the number of the class of each [N]",
                 "targets": "the probabilities of the classes [N, K] that are to be learned of each"}
        tensors = {"inputs": own.samples.inputs, "labels": own.samples.labels, "targets": own.targets}
        held = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return {"made": Product(held, {name: about[name] for name in held} | {"classes": ", ".join(run.data.classes)})}
