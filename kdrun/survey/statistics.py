"""Means and spreads over seeds, and paired tests of a method against the baseline of the same seeds.

A seed gives a method and its baseline the same data order and first weights, so what is tested is the difference
within each seed, not two heaps of numbers.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FEWEST", "LEVEL", "TESTS", "Over", "Test", "caption", "holm", "over", "paired_p", "verdict"]

Test = Literal["wilcoxon", "t"]
TESTS: Final[dict[Test, str]] = {
    "wilcoxon": "Wilcoxon signed-rank test, exact and two-sided: assumes independent seeds and differences that lie "
                "symmetrically about their median",
    "t": "paired t test, two-sided: assumes independent seeds and normally distributed differences",
}
LEVEL: Final = 0.05   # of all tests of one comparison together, after Holm's correction
FEWEST: Final = 3     # seeds below which there is no verdict
DIGITS: Final = 12    # equal differences of accuracies differ behind these digits


@dataclass(frozen=True)
class Over:
    """Values over seeds.

    Attributes:
        mean: their mean.
        deviation: the sample standard deviation (n - 1); None for one value.
        count: how many.
    """

    mean: float
    deviation: float | None
    count: int


def over(values: Sequence[float | None]) -> Over | None:
    """Mean, sample standard deviation and number of the values that are defined; None if none is."""
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    if not known:
        return None
    return Over(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def paired_p(differences: Sequence[float], test: Test) -> float | None:
    """The two-sided p that differences within pairs are centred on zero; None where the test says nothing.

    Wilcoxon's is exact: with n differences all of one sign, none zero, it is 2 / 2**n, the smallest it can be. Zeros
    are left out, as Wilcoxon did; where all are, p is 1. Where some are equal in size the exact distribution is that of
    all 2**n changes of sign, up to 16 of them, and beyond that the normal approximation. The t test is not defined
    where the differences do not vary.

    Args:
        differences: one for each seed.
        test: which.
    """
    from scipy import stats

    rounded = [round(value, DIGITS) for value in differences]
    if len(rounded) < FEWEST:
        return None
    if test == "t":
        return float(stats.ttest_1samp(rounded, 0.0).pvalue) if len(set(rounded)) > 1 else None
    moved = [value for value in rounded if value]
    if not moved:
        return 1.0
    tied = len({abs(value) for value in moved}) < len(moved)
    method = "exact" if not tied else stats.PermutationMethod(n_resamples=2 ** 20) if len(moved) <= 16 else "asymptotic"
    return min(1.0, float(stats.wilcoxon(moved, method=method).pvalue))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): holds the probability of any false alarm among all of them.

    The smallest of m is multiplied by m, the next by m - 1 and so on, never below the one before it, at most 1.
    None stays None and does not count.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = found[place] = min(1.0, max(least, (len(known) - rank) * p))
    return found


def verdict(gap: Over | None, p: float | None) -> str:
    """What may be said of a gap to the baseline, in two or three words.

    Args:
        gap: over seeds; None where there is no baseline.
        p: corrected; None where the test says nothing.
    """
    if gap is None:
        return "no baseline"
    if gap.count < FEWEST:
        return f"n < {FEWEST}: none"
    if p is None:
        return "not testable"
    if p > LEVEL:
        return "not shown"
    return "better" if gap.mean > 0 else "worse"


def caption(test: Test, counts: Sequence[int]) -> list[str]:
    """What the p of a table is, what it assumes, and what so few seeds can never show."""
    lines = [f"p: {TESTS[test]}; Holm's correction over the methods of a comparison; "
             f"better or worse at p ≤ {LEVEL:g}.",
             f"Fewer than {FEWEST} seeds: no test, no rank, no verdict."]
    tested = [count for count in counts if count >= FEWEST]
    if test == "wilcoxon" and tested and 2 / 2 ** max(tested) > LEVEL:
        most = max(tested)
        enough = next(count for count in range(FEWEST, 99) if 2 / 2 ** count <= LEVEL)
        lines.append(f"With {most} seeds the smallest p of this test is {2 / 2 ** most:g}, before any correction: it cannot "
                     f"reach {LEVEL:g}, whatever the gap. {enough} seeds can, for one method; --test t can with fewer, if its "
                     "assumption holds.")
    return lines
