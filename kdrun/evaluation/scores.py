"""What two accuracies and two sizes say of a student: pure arithmetic, without torch, so that tables are made at once.

Accuracies are from 0 to 1. A value that is not defined is None, never a made-up 0.
"""

__all__ = ["accuracy_reduction_pct", "distillation_factor", "distillation_score", "improvement_pct", "relative_error",
           "size_reduction_pct", "weak_teacher"]


def distillation_score(student_size: float, teacher_size: float, student_accuracy: float,
                       teacher_accuracy: float | None, alpha: float) -> float | None:
    """Size and loss of accuracy in one number, the lower the better (Alkhulaifi et al. 2021, equation 1).

    `alpha * size_s / size_t + (1 - alpha) * (1 - accuracy_s / accuracy_t)`. A student better than its teacher makes
    the second term negative, and the score may fall below 0: it is never turned positive. Not comparable across data
    sets or teachers.

    Args:
        student_size: in any unit, the teacher's too.
        teacher_size: above 0.
        student_accuracy: in any unit, the teacher's too.
        teacher_accuracy: None, or 0, gives None.
        alpha: from 0 (accuracy alone) to 1 (size alone).
    """
    if not teacher_accuracy:
        return None
    assert teacher_size > 0
    assert 0 <= alpha <= 1
    return alpha * student_size / teacher_size + (1 - alpha) * (1 - student_accuracy / teacher_accuracy)


def relative_error(student_accuracy: float, teacher_accuracy: float) -> float | None:
    """The student's error over the teacher's (Zhu et al. 2024, equation 6): below 1 the student is the better one.

    The sentence above that equation says the inverse; the survey's own reading of its curves fits the equation. Where
    the teacher makes no mistake it is 1 if the student makes none either, and not defined otherwise.
    """
    student, teacher = 1 - student_accuracy, 1 - teacher_accuracy
    if teacher <= 0:
        return 1.0 if student <= 0 else None
    return student / teacher


def distillation_factor(student_parameters: int, teacher_parameters: int) -> float | None:
    """The teacher's parameters over the student's (Zhu et al. 2024, equation 7)."""
    return teacher_parameters / student_parameters if student_parameters else None


def accuracy_reduction_pct(student: float, teacher: float) -> float | None:
    """The accuracy lost against the teacher, in per cent of the teacher's; negative for a gain (Alkhulaifi, Table 1)."""
    return 100 * (teacher - student) / teacher if teacher else None


def improvement_pct(student: float, baseline: float) -> float | None:
    """The accuracy gained over the student trained alone, in per cent of the latter's (Alkhulaifi, Table 1)."""
    return 100 * (student - baseline) / baseline if baseline else None


def size_reduction_pct(student: float, teacher: float) -> float | None:
    """How much smaller the student is, in per cent of the teacher."""
    return 100 * (1 - student / teacher) if teacher else None


def weak_teacher(teacher: float, baseline: float) -> bool:
    """Whether a teacher is no better than the student trained alone.

    What is measured against it (distillation score, relative error) then looks better than it is: the student alone may be
    ahead of it already.
    """
    return teacher <= baseline
