"""Means, tests and corrections, by closed forms and with scipy as an oracle."""

import itertools
import math

import pytest
from scipy import stats

from kdrun.survey.statistics import Over, caption, holm, over, paired_p, verdict


def test_over_seeds():
    assert over([1.0, 2.0, 6.0]) == Over(3.0, pytest.approx(math.sqrt(7)), 3)
    assert over([4.0]) == Over(4.0, None, 1)
    assert over([None, 2.0, float("nan"), 4.0]) == Over(3.0, pytest.approx(math.sqrt(2)), 2)
    assert over([]) is None
    assert over([None, float("nan")]) is None


@pytest.mark.parametrize("seeds", range(3, 12))
def test_the_smallest_p_of_wilcoxon(seeds):
    gaps = [0.01 * place for place in range(1, seeds + 1)]
    assert paired_p(gaps, "wilcoxon") == pytest.approx(2 / 2 ** seeds)
    assert paired_p([-gap for gap in gaps], "wilcoxon") == pytest.approx(2 / 2 ** seeds)
    assert paired_p([0.01] * seeds, "wilcoxon") == pytest.approx(2 / 2 ** seeds)  # ties do not make it smaller


def by_all_signs(gaps):
    """The exact two-sided p: of all changes of sign, the share whose rank sum lies as far out."""
    ranks = stats.rankdata([abs(gap) for gap in gaps])
    middle = sum(ranks) / 2
    seen = abs(sum(rank for rank, gap in zip(ranks, gaps, strict=True) if gap > 0) - middle)
    signs = list(itertools.product((0, 1), repeat=len(gaps)))
    return sum(abs(sum(itertools.compress(ranks, chosen)) - middle) >= seen - 1e-9 for chosen in signs) / len(signs)


@pytest.mark.parametrize("gaps", [
    [0.01, -0.02, 0.03, 0.04], [0.01, 0.01, -0.01, 0.02, 0.03], [0.005, 0.005, 0.005, -0.02, -0.02, 0.03, 0.01],
])
def test_wilcoxon_is_exact_with_ties_and_without(gaps):
    assert paired_p(gaps, "wilcoxon") == pytest.approx(by_all_signs(gaps))


def test_equal_gaps_are_ties_whatever_their_last_digits():
    gaps = [0.99 - 0.98, 0.02 - 0.01, -0.01, 0.98 - 0.96]
    assert abs(gaps[0]) != abs(gaps[2])
    assert paired_p(gaps, "wilcoxon") == pytest.approx(by_all_signs([0.01, 0.01, -0.01, 0.02]))


def test_gaps_of_nothing():
    assert paired_p([0.0, 0.0, 0.0], "wilcoxon") == 1
    assert paired_p([0.0, 0.01, 0.02, 0.03], "wilcoxon") == pytest.approx(0.25)  # as of the three others
    assert paired_p([0.01, 0.01, 0.01], "t") is None


def test_paired_t():
    gaps = [0.01, 0.02, 0.06]
    t = 0.03 / (math.sqrt(0.0007) / math.sqrt(3))
    assert paired_p(gaps, "t") == pytest.approx(2 * stats.t.sf(t, 2))
    student, baseline = [0.91, 0.93, 0.96], [0.90, 0.91, 0.90]
    assert paired_p(gaps, "t") == pytest.approx(stats.ttest_rel(student, baseline).pvalue)


@pytest.mark.parametrize("test", ["wilcoxon", "t"])
def test_two_seeds_are_never_tested(test):
    assert paired_p([0.1, 0.2], test) is None


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, None, 0.02]) == [0.04, None, 0.04]
    assert holm([]) == []


@pytest.mark.parametrize(("gap", "p", "said"), [
    (None, None, "no baseline"),
    (Over(0.5, 0.1, 2), None, "n < 3: none"),
    (Over(0.5, 0.1, 2), 0.001, "n < 3: none"),
    (Over(0.5, 0.0, 3), None, "not testable"),
    (Over(0.5, 0.1, 3), 0.06, "not shown"),
    (Over(0.5, 0.1, 3), 0.05, "better"),
    (Over(-0.5, 0.1, 3), 0.01, "worse"),
])
def test_verdicts(gap, p, said):
    assert verdict(gap, p) == said


def test_the_caption_says_what_few_seeds_cannot_show():
    told = " ".join(caption("wilcoxon", [3, 1]))
    assert "0.25" in told
    assert "6 seeds can" in told
    assert "symmetrically" in told
    assert "cannot" not in " ".join(caption("wilcoxon", [6]))
    assert "normally distributed" in " ".join(caption("t", [3]))
    assert "cannot" not in " ".join(caption("t", [3]))
