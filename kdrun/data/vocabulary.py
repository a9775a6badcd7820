"""Texts as token ids: characters, words, or the pieces that a pretrained network knows."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

__all__ = ["PADDING", "START", "UNKNOWN", "Tokenizer", "Units", "Vocabulary", "pretrained_tokenizer", "splitter",
           "vocabulary_tokenizer"]

Units = Literal["characters", "words"]

PADDING, START, UNKNOWN = 0, 1, 2
SPECIAL = ("<pad>", "<cls>", "<unk>")
WORDS = re.compile(r"\w+|[^\w\s]")  # a word, or a punctuation mark by itself


class Tokenizer(Protocol):
    """Makes token ids of texts."""

    def __len__(self) -> int:
        """How many ids there are."""
        ...

    def count(self, text: str) -> int:
        """How many tokens a text has, special ones included."""
        ...

    def encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """The ids [N, length] with padding at the end, and how many of them count [N]; longer texts are cut."""
        ...


def splitter(units: Units, lowercase: bool) -> Callable[[str], list[str]]:
    """What makes a list of tokens of a text.

    Texts are brought to Unicode's composed form (NFC) first, so that an accented letter is one character however it is
    stored; runs of white space are one space.

    Args:
        units: characters, or words and punctuation marks.
        lowercase: whether capitals count as small letters.
    """
    def split(text: str) -> list[str]:
        text = unicodedata.normalize("NFC", " ".join(text.split()))
        text = text.lower() if lowercase else text
        return list(text) if units == "characters" else WORDS.findall(text)
    return split


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that have an id: padding is 0, <cls> 1, whatever is not here 2.

    Attributes:
        split: makes tokens of a text.
        tokens: by id, the three special ones first.
    """

    split: Callable[[str], list[str]]
    tokens: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def count(self, text: str) -> int:
        """How many tokens a text has, <cls> included."""
        return 1 + len(self.split(text))

    def encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """The ids [N, length], <cls> first and padding at the end, and how many of them count [N]; longer texts are cut."""
        ids = {token: number for number, token in enumerate(self.tokens) if number >= len(SPECIAL)}
        rows = torch.full((len(texts), length), PADDING)
        lengths = torch.empty(len(texts), dtype=torch.int64)
        for row, text in enumerate(texts):
            kept = [START, *(ids.get(token, UNKNOWN) for token in self.split(text)[:length - 1])]
            rows[row, :len(kept)] = torch.tensor(kept)
            lengths[row] = len(kept)
        return rows, lengths


def vocabulary_tokenizer(texts: Iterable[str], units: Units, lowercase: bool, most: int | None) -> Vocabulary:
    """The vocabulary of texts: the most frequent tokens first, equally frequent ones in their own order.

    Args:
        texts: those to train on, so that nothing is known of the others.
        units: characters or words.
        lowercase: whether capitals count as small letters.
        most: keep so many tokens at most; None keeps all.
    """
    split = splitter(units, lowercase)
    counts = Counter(token for text in texts for token in split(text))
    return Vocabulary(split, (*SPECIAL, *sorted(counts, key=lambda token: (-counts[token], token))[:most]))


@dataclass(frozen=True)
class PretrainedTokenizer:
    """A tokenizer of Hugging Face's transformers, with its own special tokens; padding is at the end.

    Attributes:
        tokenizer: the library's.
    """

    tokenizer: Any

    def __len__(self) -> int:
        return len(self.tokenizer)

    def count(self, text: str) -> int:
        """How many tokens a text has, special ones included."""
        return len(self.tokenizer(text)["input_ids"])

    def encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """The ids [N, length] with padding at the end, and how many of them count [N]; longer texts are cut."""
        found = self.tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
        rows = torch.full((len(texts), length), PADDING)
        for row, ids in enumerate(found):
            rows[row, :len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows, torch.tensor([len(ids) for ids in found])


def pretrained_tokenizer(source: str) -> PretrainedTokenizer:
    """The tokenizer in a folder, or under a name on the hub; no code of theirs is run.

    Raises:
        ValueError: transformers is not installed, or has no such tokenizer.
    """
    from kdrun.utils.huggingface import first_line, quiet, transformers

    package = transformers()
    with quiet():
        try:
            return PretrainedTokenizer(package.AutoTokenizer.from_pretrained(source))
        except Exception as error:  # the hub raises errors of its own
            raise ValueError(f"tokenizer: {source} could not be found or read ({first_line(error)})") from error
