import csv
import math
from importlib.resources import files

import pytest
import torch
from torch import nn

from kdrun.evaluation import metrics
from kdrun.models.plain import CNN, MLP
from kdrun.models.vgg import VGG


def table(name: str) -> list[dict[str, str]]:
    """A table of the surveys."""
    with files("kdrun.analysis").joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def row_of(name: str, **wanted: str) -> dict[str, str]:
    """The one row of a table that has these fields."""
    (found,) = [row for row in table(name) if all(row[key] == value for key, value in wanted.items())]
    return found


STUDENTS = table("alkhulaifi_worked_example")
SIZES = [float(row["relative_size_pct"]) / 100 for row in STUDENTS]
ACCURACIES = [float(row["student_accuracy"]) for row in STUDENTS]
TEACHER = float(STUDENTS[0]["teacher_accuracy"])


def scores(alpha: float) -> list[float]:
    """The scores of the survey's four students."""
    return [metrics.distillation_score(size, 1, accuracy, TEACHER, alpha)
            for size, accuracy in zip(SIZES, ACCURACIES, strict=True)]


def answers(samples=300, classes=7, seed=0):
    """Random answers that are right more often than not, and labels."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draws)
    logits = torch.randn(samples, classes, generator=draws)
    return logits + 1.5 * nn.functional.one_hot(labels, classes), labels


# --- the distillation score ------------------------------------------------------------------------------------------

def test_the_worked_example_is_as_printed():
    assert len(STUDENTS) == 4
    for row, score in zip(STUDENTS, scores(float(STUDENTS[0]["alpha"])), strict=True):
        assert round(score, 3) == float(row["distillation_score"])


def test_the_worked_example_unrounded():
    # truncated instead of rounded, or with points of accuracy instead of shares, other figures would come out
    assert scores(0.5) == pytest.approx([0.3325946, 0.2096874, 0.1381926, 0.2183237], abs=5e-8)


@pytest.mark.parametrize(("alpha", "smaller", "larger"), [(0.09541, 0, 1), (0.22418, 1, 2), (0.70522, 2, 3)])
def test_the_best_student_switches_with_alpha(alpha, smaller, larger):
    before, after = scores(alpha - 1e-4), scores(alpha + 1e-4)
    assert before.index(min(before)) == smaller
    assert after.index(min(after)) == larger


def test_alpha_one_is_size_alone_and_alpha_zero_accuracy_alone():
    assert scores(1) == pytest.approx(SIZES)
    assert scores(0) == pytest.approx([1 - accuracy / TEACHER for accuracy in ACCURACIES])


def test_a_student_better_than_its_teacher_may_fall_below_zero():
    assert metrics.distillation_score(0.05, 1, 80, 70, 0.5) == pytest.approx(-0.04643, abs=5e-6)


def test_the_score_does_not_depend_on_the_units():
    score = metrics.distillation_score(5, 20, 0.6, 0.8, 0.3)
    assert metrics.distillation_score(500, 2000, 60, 80, 0.3) == pytest.approx(score)
    assert score == pytest.approx(0.3 * 0.25 + 0.7 * 0.25)


def test_a_student_may_be_larger_than_its_teacher():
    assert metrics.distillation_score(2, 1, 0.8, 0.8, 0.5) == pytest.approx(1)


@pytest.mark.parametrize("accuracy", [0, 0.0, None])
def test_there_is_no_score_against_a_teacher_that_knows_nothing(accuracy):
    assert metrics.distillation_score(1, 2, 0.5, accuracy, 0.5) is None


@pytest.mark.parametrize(("size", "alpha"), [(0, 0.5), (-1, 0.5), (1, -0.1), (1, 1.1)])
def test_an_impossible_size_or_alpha_is_a_mistake_of_the_caller(size, alpha):
    with pytest.raises(AssertionError):
        metrics.distillation_score(1, size, 0.5, 0.5, alpha)


# --- the columns of the surveys' tables ------------------------------------------------------------------------------

@pytest.mark.parametrize(("method", "reference"), [
    ("Rocket-KD (Zhou et al., 2018)", "Zhou et al. (2018)"), ("IRG (Liu et al., 2019g)", "Liu et al. (2019)")])
def test_the_two_surveys_agree_through_the_relative_percentages(method, reference):
    accuracies = row_of("gou_table_5_cifar10", method=method)
    student, teacher, baseline = (float(accuracies[key]) for key in ("student_accuracy", "teacher_accuracy",
                                                                     "student_baseline_accuracy"))
    printed = row_of("alkhulaifi_tables_1_2", reference=reference)
    assert metrics.accuracy_reduction_pct(student, teacher) == pytest.approx(
        float(printed["reduction_vs_teacher_pct"]), abs=1e-3)
    assert metrics.improvement_pct(student, baseline) == pytest.approx(
        float(printed["improvement_vs_baseline_pct"]), abs=1e-3)


def test_one_as_printed_in_both_surveys():
    accuracies = row_of("gou_table_6_cifar100", method="ONE (Zhu and Gong, 2018)", student="ResNet32")
    printed = row_of("alkhulaifi_tables_1_2", reference="Lan et al. (2018)")
    found = metrics.improvement_pct(float(accuracies["student_accuracy"]), float(accuracies["student_baseline_accuracy"]))
    assert found == pytest.approx(float(printed["improvement_vs_baseline_pct"]), abs=1e-3)


def test_size_reduction_of_a_network_177_times_smaller():
    printed = row_of("alkhulaifi_tables_1_2", reference="Min et al. (2019)")
    assert metrics.size_reduction_pct(1, 177) == pytest.approx(float(printed["size_reduction_pct"]), abs=6e-3)
    assert metrics.size_reduction_pct(2, 1) == -100
    assert metrics.size_reduction_pct(1, 0) is None


def test_gains_and_losses_have_signs_and_zero_divides_nothing():
    assert metrics.accuracy_reduction_pct(0.9, 0.8) == pytest.approx(-12.5)
    assert metrics.improvement_pct(0.7, 0.8) == pytest.approx(-12.5)
    assert metrics.accuracy_reduction_pct(0.5, 0) is None
    assert metrics.improvement_pct(0.5, 0) is None


def test_relative_errors_of_the_worked_example():
    found = [metrics.relative_error(accuracy / 100, TEACHER / 100) for accuracy in ACCURACIES]
    assert found == pytest.approx([1.0935, 1.1671, 1.3148, 2.0145], abs=5e-5)


def test_accuracy_is_a_straight_line_in_relative_error_under_one_teacher():
    for accuracy in ACCURACIES:
        error = metrics.relative_error(accuracy / 100, TEACHER / 100)
        assert 1 - (1 - TEACHER / 100) * error == pytest.approx(accuracy / 100)


@pytest.mark.parametrize(("student", "teacher", "expected"), [(1, 1, 1), (0.9, 1, None), (1, 0.9, 0), (0.95, 0.9, 0.5)])
def test_relative_error_at_its_ends(student, teacher, expected):
    assert metrics.relative_error(student, teacher) == (expected if expected is None else pytest.approx(expected))


def test_distillation_factors_of_the_worked_example():
    parameters = 660_000  # of the teacher: 100,650 are 15.25 % of it
    found = [metrics.distillation_factor(size * parameters, parameters) for size in SIZES]
    assert found == pytest.approx([1.591, 2.828, 6.557, 26.74], rel=3e-4)
    assert metrics.distillation_factor(0, 10) is None


# --- how alike two networks answer -----------------------------------------------------------------------------------

P_TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]).double()
P_STUDENT = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.6, 0.2]]).double()


def test_divergence_and_correlation_of_the_worked_pair():
    teacher, student = P_TEACHER.log() + 3, P_STUDENT.log() - torch.tensor([[1.0], [2.0]])
    assert metrics.kl_divergence(teacher, student) == pytest.approx(0.059164, abs=1e-6)
    assert metrics.kl_divergence(teacher[:1], student[:1]) == pytest.approx(0.026812, abs=1e-6)
    assert metrics.kl_divergence(teacher[1:], student[1:]) == pytest.approx(0.091516, abs=1e-6)
    assert metrics.correlation(teacher, student) == pytest.approx(0.973259, abs=1e-6)
    assert metrics.agreement(teacher, student) == 1


def test_a_network_is_like_itself():
    logits, _ = answers()
    assert metrics.kl_divergence(logits, logits) == pytest.approx(0, abs=1e-12)
    assert metrics.correlation(logits, logits) == pytest.approx(1)
    assert metrics.agreement(logits, logits) == 1


def test_divergence_has_a_direction():
    assert metrics.kl_divergence(P_STUDENT.log(), P_TEACHER.log()) != pytest.approx(0.059164, abs=1e-4)


def test_correlation_with_a_constant_is_not_defined():
    logits, _ = answers(classes=4)
    assert metrics.correlation(torch.zeros_like(logits), logits) is None
    assert metrics.correlation(logits, torch.full_like(logits, 3)) is None


def test_agreement_is_about_classes_alone():
    first = torch.tensor([[2.0, 1], [0, 1], [3, 0], [0, 9]])
    second = torch.tensor([[9.0, 0], [5, 1], [1, 0], [0, 1]])
    assert metrics.agreement(first, second) == 0.75


# --- of one network --------------------------------------------------------------------------------------------------

def test_accuracy_recall_and_f1_counted_by_hand():
    given, labels = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 0, 0])
    logits = nn.functional.one_hot(given, 4).float()
    assert metrics.accuracy(logits, labels) == pytest.approx(3 / 6)
    assert metrics.recall(logits, labels) == pytest.approx([1 / 3, 2 / 3, None, None])
    assert metrics.f1(logits, labels) == pytest.approx([2 / 5, 4 / 6, 0, None])


def test_top_k_above_the_number_of_classes_is_not_defined():
    logits, labels = answers(classes=4)
    assert metrics.accuracy(logits, labels, top=5) is None
    assert metrics.accuracy(logits, labels, top=4) == 1


def test_nll_of_no_knowledge_is_the_log_of_the_classes():
    assert metrics.nll(torch.zeros(5, 10), torch.arange(5)) == pytest.approx(math.log(10))
    assert metrics.nll(torch.tensor([[0.0, 1000.0]]), torch.tensor([0])) == pytest.approx(1000)


def test_calibration_error_counted_by_hand():
    logits = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).double().log()
    # confidence 0.5 is in the lower of two bins (closed above): |0.5 - 0| and |0.9 - 1|, not |1.4 - 1| together
    assert metrics.calibration_error(logits, torch.tensor([1, 0]), bins=2) == pytest.approx(0.3)


def test_calibration_bins_counted_by_hand():
    logits = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]]).double().log()
    low, high = metrics.calibration_bins(logits, torch.tensor([1, 0, 0]), bins=2)
    assert low == (1, pytest.approx(0.5), 0)  # 0.5 itself is in the lower one
    assert high == (2, pytest.approx(0.8), 0.5)
    assert metrics.calibration_bins(logits, torch.tensor([1, 0, 0]), bins=4)[0] == (0, None, None)


def test_the_certain_are_calibrated_if_they_are_right_and_off_by_one_if_wrong():
    logits = 1000 * nn.functional.one_hot(torch.arange(4)).float()
    assert metrics.calibration_error(logits, torch.arange(4)) == pytest.approx(0)
    assert metrics.calibration_error(logits, torch.arange(4).roll(1)) == pytest.approx(1)


@pytest.mark.parametrize(("samples", "classes", "seed"), [(300, 7, 0), (1000, 100, 1), (64, 2, 2)])
def test_torchmetrics_gives_the_same(samples, classes, seed):
    import kdrun.utils.vision  # noqa: F401  (torchmetrics imports torchvision, which may need to be mended first)

    oracle = pytest.importorskip("torchmetrics.functional.classification", exc_type=ImportError)
    logits, labels = answers(samples, classes, seed)
    chances = logits.double().softmax(1)
    for top in (1, 2, 5):
        if top <= classes:
            expected = oracle.multiclass_accuracy(chances, labels, classes, average="micro", top_k=top)
            assert metrics.accuracy(logits, labels, top=top) == pytest.approx(float(expected), abs=1e-6)
    for bins in (10, 15):
        expected = oracle.multiclass_calibration_error(chances, labels, classes, n_bins=bins, norm="l1")
        assert metrics.calibration_error(logits, labels, bins) == pytest.approx(float(expected), abs=1e-6)
    seen = set(labels.tolist()) | set(logits.argmax(1).tolist())
    found = metrics.f1(logits, labels)
    assert [label for label, score in enumerate(found) if score is None] == [c for c in range(classes) if c not in seen]
    own = [score for score in found if score is not None]
    expected = oracle.multiclass_f1_score(chances, labels, classes, average="macro")
    assert sum(own) / len(own) == pytest.approx(float(expected), abs=1e-6)
    expected = oracle.multiclass_recall(chances, labels, classes, average="none").tolist()
    for label, share in enumerate(metrics.recall(logits, labels)):
        assert (share is None) == (label not in labels.tolist())
        if share is not None:
            assert share == pytest.approx(expected[label], abs=1e-6)


def test_finite_keeps_numbers_and_drops_the_rest():
    assert [metrics.finite(value) for value in (0.0, -1.5, math.inf, -math.inf, math.nan, None)] == [
        0.0, -1.5, None, None, None, None]


# --- sizes -----------------------------------------------------------------------------------------------------------

def test_size_counts_parameters_and_what_they_are_stored_in():
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2, bias=False))
    assert metrics.size(network) == (30, 120, 960)
    assert metrics.size(network.half()) == (30, 60, 480)
    assert metrics.size(nn.Identity()) == (0, 0, 0)


def test_a_shared_weight_is_stored_once():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    assert metrics.size(nn.Sequential(first, second)).parameters == 16


def test_flops_of_a_convolutional_network_counted_by_hand():
    network = CNN(widths=[4, 8], classes=3, channels=1)
    expected = 2 * (8 * 8 * 4 * 9 * 1 + 4 * 4 * 8 * 9 * 4 + 8 * 3)
    assert metrics.flops(network, torch.zeros(1, 1, 8, 8)) == expected


class Attentive(nn.Module):
    """A picture's rows as tokens; attention as torchvision's and as timm's transformers ask for it."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.attention, self.heads, self.fused = nn.MultiheadAttention(width, heads, batch_first=True), heads, fused

    def forward(self, pictures):
        rows = pictures[:, 0]
        if self.fused:
            parted = rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(parted, parted, parted)
        return self.attention(rows, rows, rows, need_weights=False)[0]


@pytest.mark.parametrize("fused", [True, False])
def test_flops_of_attention_counted_by_hand(fused):
    tokens, width = 6, 8
    products = 2 * 2 * tokens * tokens * width  # queries with keys, shares with values
    projections = 2 * tokens * width * 3 * width + 2 * tokens * width * width
    before = torch.backends.mha.get_fastpath_enabled()
    counted = metrics.flops(Attentive(width, 2, fused), torch.zeros(1, 1, tokens, width))
    assert counted == products + (0 if fused else projections)
    assert torch.backends.mha.get_fastpath_enabled() == before


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("network", [
    CNN(widths=[4, 8], classes=3, channels=1), MLP(widths=[6], classes=3, shape=(1, 8, 8)),
    VGG(blocks=[1] * 5, widths=[4] * 5, classes=3, channels=1)], ids=lambda network: type(network).__name__)
def test_counting_flops_leaves_the_network_as_it_was(network, training):
    network.train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert metrics.flops(network, torch.zeros(1, 1, 8, 8)) > 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(module.training == training for module in network.modules())
