"""What is to be learned of a data set: its answers, their label loss, and how good they are."""

import copy
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Inputs
from kdrun.models.output import ModelOutput

__all__ = ["InputKind", "Need", "Task", "input_kinds", "task_class"]

InputKind = Literal["pictures", "tokens", "frames", "pairs", "codes", "questions"]
"""`questions` are pictures with a question about each."""

Need = Literal["rows", "labels", "one row a sample", "sample labels", "pictures", "maps", "made pictures", "heatmaps"]
"""What a method may need: rows of logits, labels of these, each sample as one row, a label of each sample, pictures, maps,
answers that are pictures, answers that are heatmaps of keypoints."""


class Task:
    """What networks learn of the samples of a data set.

    A data set names its task; users never do. The answer to a batch has rows, one for each place that counts: response
    methods compare rows [M, K] and know nothing else, so they run on every task whose answers are categorical.

    Subclasses say:

        key: of the task, the name of its module.
        headline: the measure from 0 to 1, higher is better, that scores, ranks and tests are made of.
        measured: the names of all measures, which become columns of the results; the headline among them.
        watched: those that are followed on the validation split after every epoch.
        inputs: what networks see.
        row_labels: whether every row has a label of its own (`Batch.labels`).
        sample_labels: whether that is one label a sample, as relations between classes of samples need it.
        adversarial: whether there is no label loss, and a network alone is trained against a discriminator.
        dense: whether the logits of a network have to be turned into rows.
        under_crops: what becomes of labels when a picture is cropped or mirrored: they are the `same`; they are maps that are
            `moved` along; or they cannot follow, so that it is `refused`.
        keeps: the fields of an output that evaluation keeps of every sample.

    Args:
        classes: the names of the classes.
        shape: of what a network sees of one sample: (channels, height, width) of pictures, (length,) of tokens, (length,
            features) of frames.
        info: what else a reader says of its data, by name.

    Attributes:
        numbers: of the classes in the data set; those of a teacher of some classes are not all.
    """

    key: ClassVar[str]
    headline: ClassVar[str]
    measured: ClassVar[tuple[str, ...]]
    watched: ClassVar[tuple[str, ...]]
    inputs: ClassVar[InputKind] = "pictures"
    row_labels: ClassVar[bool] = True
    sample_labels: ClassVar[bool] = False
    adversarial: ClassVar[bool] = False
    dense: ClassVar[bool] = True
    under_crops: ClassVar[Literal["same", "moved", "refused"]] = "same"
    keeps: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        self.classes, self.shape, self.info = classes, tuple(shape), dict(info or {})
        self.numbers = tuple(range(len(classes)))

    def only(self, numbers: Sequence[int] | None) -> Self:
        """The same of these classes of the data set alone, in this order; of all of them for None."""
        if numbers is None or tuple(numbers) == self.numbers:
            return self
        twin = copy.copy(self)
        twin.classes, twin.numbers = tuple(self.classes[number] for number in numbers), tuple(numbers)
        return twin

    @property
    def gives(self) -> frozenset[Need]:
        """What methods may need that this task has; whether there are maps, its networks decide."""
        has: dict[Need, bool] = {"rows": True, "labels": self.row_labels, "one row a sample": not self.dense,
                                 "sample labels": self.sample_labels, "pictures": self.inputs == "pictures", "maps": True}
        return frozenset(need for need, there in has.items() if there)

    @property
    def outputs(self) -> int:
        """How many logits a row has."""
        return len(self.classes)

    def places(self, logits: torch.Size) -> int:
        """How many places the answer to a sample has whose logits are of this shape; not all of them need be rows."""
        return logits.numel() // self.outputs if self.dense else 1

    @property
    def row_names(self) -> tuple[str, ...]:
        """The name of each logit of a row."""
        return self.classes

    def given(self) -> dict[str, Any]:
        """What the constructor of a network may ask for, by name."""
        return {"classes": self.outputs, "channels": self.shape[0], "shape": self.shape, **self.info}

    def example(self, count: int, device: torch.device | str = "cpu") -> Inputs:
        """Inputs of the right form, to find shapes, count operations and rehearse: of nothing in particular."""
        return torch.zeros(count, *self.shape, device=device)

    def fits(self, network: Any) -> bool:
        """Whether a class of networks (or a function that makes them) sees such inputs and answers such questions."""
        return (self.inputs in input_kinds(network)
                and self.key in getattr(network, "tasks", ("classification", "retrieval")))

    def prepare(self, network: nn.Module) -> nn.Module:
        """What becomes of a network that was just built, before its weights are loaded or trained.

        Raises:
            ValueError: it cannot become that.
        """
        return network

    def expected(self, count: int) -> tuple[int | None, ...]:
        """The shape of a network's logits for so many samples; None for a size that the network chooses."""
        return (count, self.outputs)

    def misfit(self, output: ModelOutput, count: int) -> str | None:
        """What is wrong with the form of an answer to so many samples; None where nothing is."""
        shape, expected = tuple(output.logits.shape), self.expected(count)
        if len(shape) == len(expected) and all(size in (actual, None) for size, actual in zip(expected, shape, strict=True)):
            return None
        named = ", ".join("any" if size is None else str(size) for size in expected)
        return f"its logits have the shape {list(shape)} for {count} samples of {len(self.classes)} classes; expected [{named}]"

    def problems(self, source: Source) -> list[str]:
        """What makes the samples of a reader unfit for this task, a line each."""
        return source.problems()

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """A batch of samples.

        Args:
            samples: all of a split, on the batch's device.
            rows: which of them [B].
            inputs: theirs, augmented and normalised.
            draws: makes what is random in it; None in evaluation, where nothing is.
        """
        return Batch(inputs, samples.labels[rows], rows)

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """The rows [M, K] of logits in a network's layout."""
        return logits

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """What a network descends that learns from labels alone; a scalar, 0 where no row has a label.

        Args:
            output: as a role hands it out: with rows.
            batch: that was answered.
            smoothing: of the labels.
        """
        def loss(labels: Tensor) -> Tensor:
            return F.cross_entropy(output.logits, labels, label_smoothing=smoothing)

        if not len(output.logits):
            return output.logits.sum()  # with a gradient; a mean of nothing is not a number
        return loss(batch.labels) if batch.mixed is None or batch.y is not None else batch.mixed.loss(loss)

    def predict(self, network: nn.Module, batch: Batch) -> ModelOutput:
        """What a network answers in evaluation, in its own layout."""
        return network(batch if batch.views else batch.x)  # one that has a view of its own finds it in the batch

    def split_rows(self, answers: ModelOutput, samples: Samples) -> tuple[Tensor, Tensor | None]:
        """The rows [M, K] of the answers to a split, and their labels [M] where they have some."""
        batch = self.batch(samples, torch.arange(len(samples)), samples.inputs)
        return self.rows(answers.logits, batch), batch.y

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """How good the answers to a split are: a value for each of `measured`, None where it is not defined."""
        raise NotImplementedError

    def decode(self, output: ModelOutput) -> Any:
        """The answers as a user reads them: names of classes, texts, boxes."""
        return [self.classes[label] for label in output.logits.argmax(dim=1).tolist()]


def input_kinds(network: Any) -> tuple[InputKind, ...]:
    """What a class of networks (or a function that makes them) sees: pictures where it says nothing else."""
    kinds: InputKind | tuple[InputKind, ...] = getattr(network, "inputs", "pictures")
    return (kinds,) if isinstance(kinds, str) else kinds


def task_class(key: str) -> type[Task]:
    """The class of a task.

    Raises:
        ValueError: there is none of this key.
    """
    name = f"kdrun.tasks.{key}"
    if not key.isidentifier() or importlib.util.find_spec(name) is None:
        raise ValueError(f"there is no task {key!r}")
    module = importlib.import_module(name)
    return next(kind for kind in vars(module).values()
                if isinstance(kind, type) and issubclass(kind, Task) and vars(kind).get("key") == key)
