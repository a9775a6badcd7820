"""Parts of the classes of a data set, for teachers that know one part each."""

import itertools
from collections.abc import Sequence

__all__ = ["class_parts", "in_words"]


def class_parts(wanted: int | Sequence[Sequence[int]], classes: int) -> list[tuple[int, ...]]:
    """The classes of each part, by number.

    Args:
        wanted: how many parts, of neighbouring classes and as equal as can be; or the classes of each, which may overlap.
        classes: how many there are.

    Raises:
        ValueError: a part has fewer than two classes or one that there is not, or a class is in no part.
    """
    if isinstance(wanted, int):
        ends = [(number * classes) // wanted for number in range(wanted + 1)]
        parts = [tuple(range(*ends)) for ends in itertools.pairwise(ends)]
        if min(map(len, parts)) < 2:
            raise ValueError(f"got {wanted}, but a teacher needs two classes at least, and there are {classes}; wanted at most "
                             f"{max(1, classes // 2)}")
        return parts
    parts = [tuple(part) for part in wanted]
    if unknown := sorted({number for part in parts for number in part if number >= classes}):
        raise ValueError(f"there is no class {unknown[0]}; the {classes} classes are numbered from 0")
    if missing := sorted(set(range(classes)).difference(*parts)):
        raise ValueError(f"no teacher knows {in_words(missing)}; wanted every class in one part at least")
    return parts


def in_words(numbers: Sequence[int]) -> str:
    """Classes for people, by number.

    Example:
        >>> in_words((0, 1, 2, 3, 7))
        'classes 0-3, 7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ("class " if len(numbers) == 1 else "classes ") + ", ".join(told)
