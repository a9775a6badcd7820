"""The end of a sweep: what is compared, in which order, and what is said once."""

import io
import json
import math

import pytest

from kdrun.sweeps import job, summary
from kdrun.utils.console import PlainConsole


def run(student: float, *, alone: float = 0.9, teacher: float | None = 0.95, seconds: float = 3.0, **more) -> dict:
    """The rows of a run, by role, with accuracies from 0 to 1."""
    rows = {"baseline": {"headline": "accuracy", "headline_value": alone, "seconds": 2.0},
            "student": {"headline": "accuracy", "headline_value": student,
                        "seconds": seconds, "relative_error": 1.5, "distillation_score": 0.25, **more}}
    return rows if teacher is None else {"teacher": {"headline": "accuracy", "headline_value": teacher, "seconds": 9.0}, **rows}


def printed(*lines: summary.Line, width: int = 120) -> str:
    console = PlainConsole(width=width, record=True, file=io.StringIO())
    console.print(summary.table(lines))
    return console.export_text()


def test_a_line_is_of_gaps_within_seeds():
    line = summary.line("kd", [run(0.91, seconds=3), run(0.94, alone=0.92, seconds=5)])
    assert line.gap.mean == pytest.approx(1.5)  # of 1 and 2 points
    assert line.gap.deviation == pytest.approx(math.sqrt(0.5))
    assert line.cost.mean == pytest.approx(2.0)  # of 1.5 and 2.5 times the student alone
    assert (line.teacher.mean, line.seeds, line.weak) == (pytest.approx(95), 2, False)
    assert "+1.50  -4.85 to +7.85  2.00×" in printed(line)  # 12.706 / 2 to both sides: Student's t with one degree of freedom


def test_the_best_comes_first_and_what_all_have_is_said_once():
    told = printed(summary.line("kd", [run(0.91), run(0.93)]), summary.line("at", [run(0.94), run(0.94)]),
                   summary.line("pskd", [run(0.92, teacher=None), run(0.92, teacher=None)]))
    assert told.splitlines()[0] == ("Accuracy in %, mean ± standard deviation, teacher 95.00 ± 0.00, "
                                    "student alone 90.00 ± 0.00, over 2 seeds")
    order = [line.split()[0] for line in told.splitlines() if line.strip().startswith(("kd", "at", "pskd"))]
    assert order in (["at", "kd", "pskd"], ["at", "pskd", "kd"])  # gaps of 4, 2 and 2 points
    assert told.count("95.00") == told.count("90.00 ± 0.00") == 1


def test_what_differs_has_a_column():
    told = printed(summary.line("small", [run(0.91)]), summary.line("big", [run(0.91, alone=0.8, teacher=0.97), run(0.93)]))
    (head,) = (line for line in told.splitlines() if line.strip().startswith("settings"))
    assert head.split()[:4] == ["settings", "seeds", "teacher", "alone"]
    assert "teacher" not in told.splitlines()[0]


def test_sizes_have_a_column_where_they_differ():
    half, third = ([run(0.91, size_reduction_pct=less, size_unit="bits")] for less in (50.0, 66.6))
    told = printed(summary.line("half", half), summary.line("third", third))
    assert "bits" in told
    assert "50.00" in told
    assert "33.40" in told
    assert "bits" not in printed(summary.line("half", half), summary.line("same", half))


def test_a_weak_teacher_is_marked_and_a_terminal_of_80_columns_is_enough():
    told = printed(summary.line("kd method.temperature=8", [run(0.91, weak_teacher=1), run(0.93)]), width=80)
    assert "1.500!" in told
    assert "! the teacher is no better than the student alone" in told.replace("\n", " ")
    assert "0.250!" in told


def test_a_report_repeats_no_fixed_setting_and_says_what_to_do_next(tmp_path, capsys):
    folder = tmp_path / "sweeps" / "now"
    (folder / "jobs").mkdir(parents=True)
    for number, (method, status) in enumerate([("kd", 0), ("at", 0), ("rkd", 1)]):
        place = tmp_path / "runs" / method
        place.mkdir(parents=True)
        rows = [{"role": role, "method": method, **row} for role, row in run(0.91 + number / 100).items()]
        (place / "run.json").write_text(json.dumps({"rows": rows}))
        job.record(folder, number, status, "no" * status, place, None, ["recipe=smoke", f"method={method}", "seed=1"])
    assert job.report(folder, [None, None, None]) == 1
    out, err = capsys.readouterr()
    assert "smoke" not in out + err
    assert out.index("at  ") < out.index("kd  ")  # by their gaps
    assert err == "kdrun: job 2 (method=rkd) failed: no\n"
    assert f"next: kdrun tables league --outputs {tmp_path}" in out
    assert "one seed has no spread" in out
