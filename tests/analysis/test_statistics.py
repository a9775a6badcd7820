"""Means, tests and corrections, by closed forms and with scipy as an oracle."""

import itertools
import math

import pytest
from scipy import stats

from kdrun.analysis.statistics import Over, caption, holm, interval, over, paired_p, possible, seeds_needed, verdict


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


@pytest.mark.parametrize(("gap", "p", "testable", "said"), [
    (None, None, True, "no baseline"),
    (Over(0.5, None, 1), None, False, "no test possible with 1 seed"),
    (Over(0.5, 0.1, 2), None, False, "no test possible with 2 seeds"),
    (Over(-8.62, 1.79, 3), 1.0, False, "no test possible with 3 seeds"),
    (Over(0.5, 0.0, 3), None, True, "no test possible: gaps do not vary"),
    (Over(0.5, 0.1, 3), 0.06, True, "not shown"),
    (Over(0.5, 0.1, 3), 0.05, True, "better"),
    (Over(-0.5, 0.1, 3), 0.01, True, "worse"),
])
def test_verdicts(gap, p, testable, said):
    assert verdict(gap, p, testable) == said


def test_the_interval_is_students_t():
    gaps = [0.01, 0.02, 0.06]
    low, high = interval(over(gaps))
    half = 4.302653 * math.sqrt(0.0007) / math.sqrt(3)  # t of 2 degrees of freedom at 0.975
    assert (low, high) == (pytest.approx(0.03 - half), pytest.approx(0.03 + half))
    assert interval(over(gaps[:2])) == pytest.approx((0.015 - 12.7062 * 0.005, 0.015 + 12.7062 * 0.005), rel=1e-5)
    assert paired_p([gap - low for gap in gaps], "t") == pytest.approx(0.05)  # its end is where the test turns
    assert interval(over(gaps[:1])) is None
    assert interval(over([0.98 - 0.97, 0.99 - 0.98, 0.01])) is None  # they do not vary
    assert interval(None) is None


@pytest.mark.parametrize(("counts", "test", "can"), [
    ([3] * 9, "wilcoxon", [False] * 9), ([8] * 9, "wilcoxon", [False] * 9), ([9] * 9, "wilcoxon", [True] * 9),
    ([6], "wilcoxon", [True]), ([5], "wilcoxon", [False]), ([6, 6], "wilcoxon", [False, False]),
    ([3, 9], "wilcoxon", [False, True]), ([3, 2], "t", [True, False]), ([], "t", []),
])
def test_which_seeds_can_show_anything(counts, test, can):
    assert possible(counts, test) == can


def test_possible_is_what_the_test_itself_can_give():
    """The largest gaps there are, of one sign and all different, in all methods of a comparison."""
    for methods, seeds in ((1, 6), (2, 6), (2, 7), (9, 8), (9, 9)):
        ps = holm([paired_p([0.1 * place for place in range(1, seeds + 1)], "wilcoxon")] * methods)
        assert [p <= 0.05 for p in ps] == possible([seeds] * methods, "wilcoxon")


@pytest.mark.parametrize(("effect", "methods", "needed"), [(0.5, 1, 34), (1.0, 1, 10), (0.2, 1, 199)])
def test_seeds_needed_are_those_of_cohens_tables(effect, methods, needed):
    """Paired t test, two-sided 0.05, power 0.8 (Cohen 1988; G*Power gives the same)."""
    assert seeds_needed(Over(-effect, 1.0, 3), "t", methods) == needed


def test_seeds_needed_grow_with_the_methods_and_with_ranks_for_figures():
    gap = Over(1.0, 1.0, 3)
    assert seeds_needed(gap, "t", 9) > seeds_needed(gap, "t", 1)
    assert seeds_needed(gap, "wilcoxon", 1) == math.ceil(10 * math.pi / 3)
    assert seeds_needed(Over(-8.62, 1.79, 3), "wilcoxon", 9) == 9  # fewer can show nothing
    assert seeds_needed(Over(1e-4, 1.0, 3), "t", 1) == 1000        # beyond what anybody plans
    for none in (None, Over(0.0, 1.0, 3), Over(0.5, 0.0, 3), Over(0.5, None, 1)):
        assert seeds_needed(none, "t", 1) is None


def test_the_caption_says_what_few_seeds_cannot_show():
    told = " ".join(caption("wilcoxon", [[3] * 9, [3], [9]]))
    assert "1 method: 6 seeds; 9 methods: 9 seeds" in told
    assert "symmetrically" in told
    assert "Student's t" in told
    assert "at all" not in " ".join(caption("wilcoxon", [[6], [9] * 9]))
    assert "paired t test" in " ".join(caption("t", [[3]]))
    assert "at all" not in " ".join(caption("t", [[3] * 9]))
