"""Readers of labelled texts: names in twenty languages, and one's own tables."""

import importlib.util
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Filled, closest
from kdrun.data.samples import Samples, Source
from kdrun.data.tables import read_columns
from kdrun.data.vocabulary import Tokenizer, Units, pretrained_tokenizer, vocabulary_tokenizer
from kdrun.utils.wording import counted

Share = Annotated[float, Bounds(above=0, below=1)]
Place = Annotated[str, Filled()]
Length = Annotated[int, Bounds(least=2, most=100_000)]

KINDS = ("territories", "languages", "currencies")

__all__ = ["languages", "text_table"]


@dataclass
class Texts:
    """Texts and their labels [N].

    Attributes:
        groups: [N], of texts that a split keeps together; None where each stands alone.
    """

    texts: list[str]
    labels: Tensor
    groups: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> "Texts":
        return Texts([self.texts[row] for row in rows.tolist()], self.labels[rows],
                     None if self.groups is None else self.groups[rows])

    def part(self, share: float) -> tuple["Texts", "Texts"]:
        """Set a share aside to test on, always the same one: of every class, or of the groups where there are some."""
        places = Samples(torch.arange(len(self.texts)), self.labels, {} if self.groups is None else {"group": self.groups})
        rest, chosen = places.part(share, seed=0, classes=int(self.labels.max()) + 1)
        return self[rest.inputs], self[chosen.inputs]

    def samples(self, tokenizer: Tokenizer, length: int) -> Samples:
        """As token ids of one length."""
        ids, lengths = tokenizer.encode(self.texts, length)
        return Samples(ids, self.labels, {"lengths": lengths} | ({} if self.groups is None else {"group": self.groups}))


def source_of(train: Texts, test: Texts, classes: tuple[str, ...], tokenizer: Tokenizer, length: int, origin: str) -> Source:
    """What a run needs of texts.

    Args:
        train: texts to train on.
        test: texts to test on.
        classes: their names.
        tokenizer: makes ids of texts.
        length: of the sequences; longer texts are cut.
        origin: where the texts are from, for people.
    """
    parts = [part.samples(tokenizer, length) for part in (train, test)]
    counts = torch.bincount(torch.cat([train.labels, test.labels]), minlength=len(classes))
    cut = sum(tokenizer.count(text) > length for part in (train, test) for text in part.texts)
    found = (f"{origin}: {counted(len(train.texts), 'text')} to train on and {len(test.texts)} to test on, "
             f"{int(counts.min())} to {int(counts.max())} a class; {len(tokenizer)} tokens, {counted(cut, 'text')} cut "
             f"to {length}")
    return Source(parts[0], parts[1], classes, found=found,
                  info={"inputs": "tokens", "vocabulary": len(tokenizer), "length": length})


def languages(*, codes: list[str], test: Share, length: Length) -> Source:
    """Names of territories, languages and currencies in many languages, from the CLDR data that Babel ships.

    The task is to tell the language of a name by its characters. Names that two languages share are left out (nobody
    could tell), and training and test share no CLDR key: the names of one territory look alike in most languages.

    Args:
        codes: of the languages, as CLDR has them.
        test: the share of the keys whose names are the test set.
        length: of the sequences, <cls> included; longer names are cut.

    Raises:
        ValueError: Babel is not installed, or does not know a language.
    """
    if importlib.util.find_spec("babel") is None:
        raise ValueError("babel, which holds the names, is not installed; pip install 'kdrun[text]'")
    from babel import Locale, localedata

    if not 1 < len(set(codes)) == len(codes):
        raise ValueError(f"codes: got {', '.join(codes) or 'none'}; wanted two or more languages, each once")
    if odd := [code for code in codes if not localedata.exists(code)]:
        raise ValueError(f"codes: CLDR has no language '{odd[0]}'" + closest(odd[0], localedata.locale_identifiers()))
    speakers: dict[str, set[int]] = defaultdict(set)
    keys: dict[str, tuple[str, str]] = {}
    for label, code in enumerate(codes):
        locale = Locale.parse(code)
        for kind in KINDS:
            for key, name in getattr(locale, kind).items():
                speakers[name].add(label)
                keys[name] = min(keys.get(name, (kind, key)), (kind, key))
    names = sorted(name for name, own in speakers.items() if len(own) == 1)
    numbers = {key: number for number, key in enumerate(sorted({keys[name] for name in names}))}
    whole = Texts(names, torch.tensor([min(speakers[name]) for name in names]),
                  torch.tensor([numbers[keys[name]] for name in names]))
    train, held_out = whole.part(test)
    tokenizer = vocabulary_tokenizer(train.texts, "characters", lowercase=False, most=None)
    return source_of(train, held_out, tuple(codes), tokenizer, length,
                     f"{len(names)} names of one language alone, of {len(speakers)}")


def text_table(*, train: Place, test_table: Place | None, text: Place, label: Place, separator: Place, test: Share,
               units: Units, lowercase: bool, most: AtLeastOne | None, tokenizer: Place | None, length: Length) -> Source:
    """One's own labelled texts: tables (CSV, TSV, also compressed) with a column of texts and one of labels.

    Args:
        train: the table to train on, or the only one.
        test_table: the table to test on; null sets a share of the other aside.
        text: the column of texts.
        label: the column of labels; a class is whatever stands there.
        separator: between the columns.
        test: the share of each class that is the test set, where it has no table of its own.
        units: what a token is, characters or words.
        lowercase: whether capitals count as small letters.
        most: keep the most frequent tokens of the training texts, so many at most; null keeps all.
        tokenizer: of Hugging Face's transformers in place of all that: a folder or a name on the hub.
        length: of the sequences, <cls> included; longer texts are cut.

    Raises:
        ValueError: a file, column or label that is not there, or cannot be read.
    """
    rows = {"train": read_table("train", train, text, label, separator)}
    if test_table is not None:
        rows["test"] = read_table("test_table", test_table, text, label, separator)
    classes = tuple(sorted(set(rows["train"][1]), key=natural))
    number = {name: place for place, name in enumerate(classes)}
    if "test" in rows and (odd := sorted(set(rows["test"][1]) - set(classes))):
        raise ValueError(f"test_table: {test_table} has labels that {train} has not: {', '.join(odd[:5])}")
    parts = [Texts(texts, torch.tensor([number[name] for name in labels])) for texts, labels in rows.values()]
    known, held_out = (parts[0], parts[1]) if len(parts) == 2 else parts[0].part(test)
    encoder = vocabulary_tokenizer(known.texts, units, lowercase, most) if tokenizer is None else \
        pretrained_tokenizer(tokenizer)
    return source_of(known, held_out, classes, encoder, length, str(Path(train).absolute()))


def read_table(key: str, path: str, text: str, label: str, separator: str) -> tuple[list[str], list[str]]:
    """The texts and labels of a table, as they are written there.

    Raises:
        ValueError: the file is not there, cannot be read, or lacks a column or a label.
    """
    texts, found = read_columns(key, path, {"text": text, "label": label}, separator)
    labels = [one.strip() for one in found]
    if empty := [row for row, name in enumerate(labels, start=2) if not name]:
        raise ValueError(f"{key}: {Path(path).absolute()} has no label in row {empty[0]}"
                         + (f" and {len(empty) - 1} more" if len(empty) > 1 else ""))
    return texts, labels


def natural(name: str) -> tuple[int, float, str]:
    """An order in which numbers come by their size, before words."""
    return (0, float(name), name) if name.lstrip("+-").replace(".", "", 1).isdecimal() else (1, 0.0, name)
