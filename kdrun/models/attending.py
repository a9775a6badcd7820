"""Networks that answer questions about pictures by attention to pairs, or triples, of what they are given."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Proportion
from kdrun.data.sequences import Asked
from kdrun.models.dense import BackboneNetwork
from kdrun.models.output import ModelOutput

__all__ = ["Bilinear", "Trilinear"]


class QuestionNetwork(BackboneNetwork):
    """What both have in common: regions of a picture, words of a question, and the classifier.

    A region is a place of the backbone's last map, with its column and row; a word its vector plus that of its place in the
    question, which needs no recurrence for questions of a few words.

    Args:
        backbone: a network with stages, without its classifier.
        width: of all vectors.
        dropout: the share that is dropped of what goes into the attention and the classifier in training.
        classes: answers.
        shape: (channels, height, width) of the pictures.
        vocabulary: how many token ids there are, 0 (padding) included.
        length: of a question, padded.
    """

    inputs: ClassVar[str] = "questions"
    tasks: ClassVar[tuple[str, ...]] = ("question_answering",)

    def __init__(self, *, backbone: nn.Module, width: AtLeastOne, dropout: Proportion, classes: int,
                 shape: tuple[int, int, int], vocabulary: int, length: int) -> None:
        super().__init__(backbone, shape)
        self.words, self.order = nn.Embedding(vocabulary, width, padding_idx=0), nn.Parameter(0.1 * torch.randn(length, width))
        self.region_width, self.dropout = self.maps[-1][0] + 2, nn.Dropout(dropout)
        self.hidden, self.head = nn.Linear(width, 2 * width), nn.Linear(2 * width, classes)

    def read(self, asked: Asked) -> tuple[ModelOutput, Tensor, Tensor]:
        """The backbone's answer, regions [B, R, C + 2] and words [B, T, width], which are zero where padded."""
        answer = self.backbone(asked.pictures)
        maps = answer.stages[-1]
        rows, columns = (torch.linspace(-1, 1, size, device=maps.device) for size in maps.shape[-2:])
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(maps), -1, -1, -1)
        words = self.words(asked.questions.values) + self.order[:asked.questions.values.shape[1]]
        return answer, torch.cat([maps, places], dim=1).flatten(2).transpose(1, 2), words * asked.questions.mask[..., None]

    def classified(self, answer: ModelOutput, joint: Tensor) -> ModelOutput:
        """The whole answer, from the joint vectors [B, width]; its stages are the backbone's."""
        embedding = F.relu(self.hidden(joint))
        return answer.replace(logits=self.head(self.dropout(embedding)), embedding=embedding)


class Bilinear(QuestionNetwork):
    """Bilinear attention networks (Kim, Jun and Zhang, NeurIPS 2018): attention to pairs of a region and a word.

    Each glimpse sums, over all pairs, the product of the region's and the word's vectors times their attention, and adds it to
    every word. The authors' further network for counting is left out.

    Args:
        glimpses: how many there are, one after the other.
        settings: as those of `QuestionNetwork`.
    """

    def __init__(self, *, glimpses: AtLeastOne, backbone: nn.Module, width: AtLeastOne, dropout: Proportion, classes: int,
                 shape: tuple[int, int, int], vocabulary: int, length: int) -> None:
        super().__init__(backbone=backbone, width=width, dropout=dropout, classes=classes, shape=shape, vocabulary=vocabulary,
                         length=length)
        self.region_keys, self.word_keys = nn.Linear(self.region_width, width), nn.Linear(width, width)
        self.weights = nn.Parameter(torch.randn(glimpses, width) / width**0.5)
        self.region_values = nn.ModuleList(nn.Linear(self.region_width, width) for _ in range(glimpses))
        self.word_values = nn.ModuleList(nn.Linear(width, width) for _ in range(glimpses))
        self.merges = nn.ModuleList(nn.Linear(width, width) for _ in range(glimpses))

    def forward(self, asked: Asked) -> ModelOutput:
        """Answer pictures with questions."""
        answer, regions, words = self.read(asked)
        keys = F.relu(self.region_keys(regions)), F.relu(self.word_keys(words))
        scores = torch.einsum("brd,btd,gd->bgrt", self.dropout(keys[0]), keys[1], self.weights)
        scores = scores.masked_fill(~asked.questions.mask[:, None, None], -torch.inf)
        attention = scores.flatten(2).softmax(dim=2).view_as(scores)
        for glimpse, (of_regions, of_words, merge) in enumerate(zip(self.region_values, self.word_values, self.merges,
                                                                    strict=True)):
            joint = torch.einsum("brd,brt,btd->bd", F.relu(of_regions(regions)), attention[:, glimpse], F.relu(of_words(words)))
            words = words + merge(joint)[:, None] * asked.questions.mask[..., None]
        return self.classified(answer, words.sum(dim=1))


class Trilinear(QuestionNetwork):
    """Compact trilinear interaction (Do et al., ICCV 2019): attention to triples of a region, a word and an answer.

    The attention is a softmax over all triples of a sum of `rank` products of three vectors with a small core each (PARALIND);
    what is attended to is the product of a region's, a word's and an answer's vector. The answer is the right one, where the
    inputs tell it, as they do in training; where they do not, the mean of all candidates' vectors stands in its place.

    Args:
        rank: how many small cores there are.
        core: sides of a small core.
        settings: as those of `QuestionNetwork`.
    """

    def __init__(self, *, rank: AtLeastOne, core: AtLeastOne, backbone: nn.Module, width: AtLeastOne, dropout: Proportion,
                 classes: int, shape: tuple[int, int, int], vocabulary: int, length: int) -> None:
        super().__init__(backbone=backbone, width=width, dropout=dropout, classes=classes, shape=shape, vocabulary=vocabulary,
                         length=length)
        self.answers, self.rank = nn.Embedding(classes, width), rank
        inputs = (self.region_width, width, width)
        self.keys = nn.ModuleList(nn.Linear(size, rank * core) for size in inputs)
        self.values = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.core = nn.Parameter(torch.randn(rank, core, core, core) / rank**0.5)
        self.merges = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def answer_vectors(self, asked: Asked) -> Tensor:
        """The vectors [B, 1, width] of the right answers, or of all candidates where these are not known."""
        candidates = self.answers.weight.mean(dim=0)
        if asked.answers is None:
            return candidates.expand(len(asked), 1, -1)
        known = (asked.answers >= 0)[:, None]
        return torch.where(known, self.answers(asked.answers.clamp_min(0)), candidates)[:, None]

    def forward(self, asked: Asked) -> ModelOutput:
        """Answer pictures with questions, and in training with the right answers."""
        answer, regions, words = self.read(asked)
        given = regions, words, self.answer_vectors(asked)
        keys = [F.relu(layer(one)).unflatten(2, (self.rank, -1)) for layer, one in zip(self.keys, given, strict=True)]
        cores = torch.einsum("btpj,bkpl,pijl->btkpi", keys[1], keys[2], self.core)  # region by region it would be larger
        scores = torch.einsum("brpi,btkpi->brtk", self.dropout(keys[0]), cores)
        scores = scores.masked_fill(~asked.questions.mask[:, None, :, None], -torch.inf)
        attention = scores.flatten(1).softmax(dim=1).view_as(scores)
        values = [F.relu(layer(self.dropout(one))) for layer, one in zip(self.values, given, strict=True)]
        joint = torch.einsum("brd,brtk,btd,bkd->bd", values[0], attention, values[1], values[2])
        words = words + self.merges[0](joint)[:, None] * asked.questions.mask[..., None]
        return self.classified(answer, words.sum(dim=1) + (given[2] + self.merges[1](joint)[:, None]).sum(dim=1))
