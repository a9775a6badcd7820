"""Questions about pictures, each with one answer out of a list."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Asked, Inputs, Sequences
from kdrun.models.output import ModelOutput
from kdrun.tasks.classification import Classification

__all__ = ["QuestionAnswering", "answer_loss"]


def answer_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of every answer, summed over answers and averaged over samples.

    Args:
        logits: [B, K].
        labels: the class of the right answer [B].
        smoothing: moves this share of the right answer's score to all of them evenly.

    Example:
        >>> answer_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))  # log(1 + 1/e) + log 2
        tensor(1.0064)
    """
    scores = F.one_hot(labels, logits.shape[1]).to(logits) * (1 - smoothing) + smoothing / logits.shape[1]
    return F.binary_cross_entropy_with_logits(logits, scores, reduction="none").sum(dim=1).mean()


class QuestionAnswering(Classification):
    """The answer to a question about a picture.

    Samples are pictures [N, H, W, C] with the field "questions", token ids [N, T], 0 where padded; the label is the answer.
    In training the inputs hold the right answers too, for teachers that are shown them; in evaluation nobody sees these, so
    that such a teacher's own scores tell little.

    The label loss is the binary cross-entropy of every answer, as in visual question answering, where an answer may be half
    right.

    Args:
        classes: the answers.
        shape: (channels, height, width) of the pictures.
        info: "inputs": questions; "vocabulary": how many token ids there are, padding included; "length": of a question.
    """

    key = "question_answering"
    under_crops: ClassVar[Literal["same", "moved", "refused"]] = "refused"  # questions ask for places

    def given(self) -> dict[str, Any]:
        """What the constructor of a network may ask for, by name."""
        return {"classes": self.outputs, "channels": self.shape[0], "shape": self.shape, **self.info}

    def example(self, count: int, device: torch.device | str = "cpu") -> Asked:
        """Empty pictures with a question of full length each."""
        tokens = torch.ones(count, self.info["length"], dtype=torch.int64, device=device)
        return Asked(torch.zeros(count, *self.shape, device=device), Sequences(tokens, tokens > 0))

    def problems(self, source: Source) -> list[str]:
        """What makes pictures and questions unfit."""
        views = ["pictures with questions have no other modalities; choose a dataset other than pair"] if source.views else []
        return views + source.picture_problems() + [line for name, part in source.parts.items()
                                                    if (line := self.question_problem(name, part))]

    def question_problem(self, name: str, part: Samples) -> str | None:
        """What is wrong with the questions of a split."""
        questions, wanted = part.fields.get("questions"), [len(part), self.info["length"]]
        if questions is None or questions.dtype != torch.int64 or list(questions.shape) != wanted:
            shape = "missing" if questions is None else f"{questions.dtype} of {list(questions.shape)}"
            return f"the {name} questions are {shape}; wanted int64 of {wanted}"
        least, most = int(questions.min()), int(questions.max())
        if least < 0 or most >= self.info["vocabulary"] or not bool((questions > 0).any(dim=1).all()):
            return (f"the {name} questions are of token ids from {least} to {most}; wanted 0 to "
                    f"{self.info['vocabulary'] - 1}, at least one above 0 in each")
        return None

    def batch(self, samples: Samples, rows: Tensor, inputs: Inputs, draws: torch.Generator | None = None) -> Batch:
        """Pictures with their questions; in training with the answers, too."""
        assert isinstance(inputs, Tensor)
        questions, answers = samples.fields["questions"][rows], samples.labels[rows]
        return Batch(Asked(inputs, Sequences(questions, questions > 0), None if draws is None else answers), answers, rows)

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """The binary cross-entropy of every answer."""
        return answer_loss(output.logits, batch.labels, smoothing)
