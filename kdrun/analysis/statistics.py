"""Means and spreads over seeds, and paired tests and intervals of a method against the baseline of the same seeds.

A seed gives a method and its baseline the same data order and first weights, so what is tested is the difference
within each seed, not two heaps of numbers.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FEWEST", "INTERVAL", "LEVEL", "TESTS", "Over", "Test", "caption", "holm", "interval", "over", "paired_p",
           "possible", "seeds_needed", "verdict"]

Test = Literal["wilcoxon", "t"]
TESTS: Final[dict[Test, str]] = {
    "wilcoxon": "Wilcoxon signed-rank test, exact and two-sided: assumes independent seeds and differences that lie "
                "symmetrically about their median",
    "t": "paired t test, two-sided: assumes independent seeds and normally distributed differences",
}
LEVEL: Final = 0.05   # of all tests of one comparison together, after Holm's correction
FEWEST: Final = 3     # seeds below which there is no test
POWER: Final = 0.8    # how probable it shall be that a gap is found, where seeds are planned
MOST: Final = 999     # seeds that are planned at most
INTERVAL: Final = ("95 % confidence interval by Student's t with n − 1 degrees of freedom, of each gap by itself: assumes "
                   "independent seeds and normally distributed gaps, and is not widened for the number of methods")
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


def interval(values: Over | None) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean by Student's t; None for one value, or where values do not vary."""
    if values is None or not values.deviation or round(values.deviation, DIGITS) == 0:
        return None
    from scipy import stats

    half = float(stats.t.ppf(1 - LEVEL / 2, values.count - 1)) * values.deviation / math.sqrt(values.count)
    return values.mean - half, values.mean + half


def smallest_p(seeds: int, test: Test) -> float:
    """The smallest p that so many seeds can give, whatever their differences; above 1 where there is no test."""
    if seeds < FEWEST:
        return math.inf
    return 2 / 2 ** seeds if test == "wilcoxon" else 0.0


def possible(counts: Sequence[int], test: Test) -> list[bool]:
    """Whether each method of a comparison could be called better or worse at all, given the seeds of each.

    Holm's correction over all of them is reckoned with: each has the smallest p that its seeds can give.
    """
    least = holm([p if math.isfinite(p) else None for p in (smallest_p(count, test) for count in counts)])
    return [p is not None and p <= LEVEL for p in least]


def fewest_seeds(methods: int, test: Test) -> int:
    """With how many seeds each the test can reach the level after Holm's correction over so many methods."""
    return next(seeds for seeds in range(FEWEST, MOST) if methods * smallest_p(seeds, test) <= LEVEL)


def seeds_needed(gap: Over | None, test: Test, methods: int) -> int | None:
    """With how many seeds a test would find a gap like this one in four of five tries.

    By the power of the paired t test (a noncentral t) at the level of Holm's first and strictest step; Wilcoxon's takes
    pi / 3 as many, its asymptotic relative efficiency for normal differences (Hodges and Lehmann 1956), and at least those
    with which it can reach the level at all.

    Args:
        gap: as measured, taken for the true one.
        test: which.
        methods: that are tested together.

    Returns:
        None where the gap is 0 or does not vary, or no spread is known; one more than `MOST` for all that is above it.
    """
    if gap is None or interval(gap) is None or not gap.mean:
        return None
    from scipy import stats

    assert gap.deviation
    level, effect = LEVEL / methods, abs(gap.mean) / gap.deviation

    def enough(seeds: int) -> bool:
        critical, shift = float(stats.t.ppf(1 - level / 2, seeds - 1)), effect * math.sqrt(seeds)
        return float(stats.nct.sf(critical, seeds - 1, shift) + stats.nct.cdf(-critical, seeds - 1, shift)) >= POWER

    low, found = FEWEST - 1, FEWEST  # more than `low` are needed, `found` suffice or are beyond what is planned
    while found <= MOST and not enough(found):
        low, found = found, 2 * found
    while found - low > 1:
        middle = (low + found) // 2
        low, found = (low, middle) if enough(middle) else (middle, found)
    if test == "wilcoxon":
        found = max(math.ceil(found * math.pi / 3), fewest_seeds(methods, test))
    return min(found, MOST + 1)


def verdict(gap: Over | None, p: float | None, testable: bool = True) -> str:
    """What may be said of a gap to the baseline, in a few words.

    Args:
        gap: over seeds; None where there is no baseline.
        p: corrected; None where the test says nothing.
        testable: whether the seeds of the comparison can show anything, whatever the gap.
    """
    if gap is None:
        return "no baseline"
    if not testable or gap.count < FEWEST:
        return f"no test possible with {gap.count} seed{'' if gap.count == 1 else 's'}"
    if p is None:
        return "no test possible: gaps do not vary"
    if p > LEVEL:
        return "not shown"
    return "better" if gap.mean > 0 else "worse"


def caption(test: Test, comparisons: Sequence[Sequence[int]]) -> list[str]:
    """What the interval and the p of a table are, what they assume, and what so few seeds can never show.

    Args:
        test: which.
        comparisons: the seeds of each method that is tested, comparison by comparison.
    """
    lines = [f"Gap: with its {INTERVAL}.",
             f"p: {TESTS[test]}; Holm's correction over the methods of a comparison; "
             f"better or worse at p ≤ {LEVEL:g}.",
             "n needed: with so many seeds this test, so corrected, would find a gap like the one measured in "
             f"{100 * POWER:g} % of all tries; a rough figure where the spread comes from few seeds.",
             f"Fewer than {FEWEST} seeds: no test, no rank."]
    short = {len(counts) for counts in comparisons if counts and not all(possible(counts, test))}
    if test == "wilcoxon" and short:
        enough = "; ".join(f"{methods} method{'' if methods == 1 else 's'}: {fewest_seeds(methods, test)} seeds"
                           for methods in sorted(short))
        lines.append(f"The smallest p that n seeds can give in this test is 2 / 2ⁿ, times the methods of the comparison. What "
                     f"it takes to reach {LEVEL:g} at all, whatever the gap: {enough}. --test t can with {FEWEST}, if its "
                     "assumption holds.")
    return lines
