"""Turns, medians, and what holds."""

import time

import pytest
import torch

from kdrun.bench.measure import WARM, Clock, Row, Time, alternate, median_ratio
from kdrun.bench.table import demanded, shown, table, write


@pytest.mark.parametrize(("device", "threads", "by"), [("cpu", 1, "cpu"), ("cpu", 2, "wall"), ("cuda", 1, "wall")])
def test_one_thread_is_timed_by_the_processor_and_all_else_by_the_wall(device, threads, by):
    clock = Clock(torch.device(device), threads)
    assert clock.by == by
    assert clock.seconds(Time(wall=3.0, cpu=2.0)) == {"wall": 3.0, "cpu": 2.0}[by]


def test_sleep_takes_time_on_the_wall_and_none_of_the_processor():
    clock = Clock(torch.device("cpu"), 1)
    start = clock.now()
    time.sleep(0.05)
    passed = clock.now() - start
    assert passed.wall >= 0.05 > passed.cpu


def test_parts_take_turns_and_the_first_rounds_do_not_count():
    done = []
    times = alternate({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3, Clock(torch.device("cpu"), 1))
    assert "".join(done) == "ab" * (WARM + 3)
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}


def test_a_single_disturbed_round_does_not_move_the_ratio():
    assert median_ratio([2.0, 2.0, 90.0], [1.0, 1.0, 1.0]) == 2.0


@pytest.mark.parametrize(("value", "bound", "holds"), [
    (1.05, ("at most", 1.05), True), (1.06, ("at most", 1.05), False), (3.5, ("at least", 3.5), True),
    (3.4, ("at least", 3.5), False), (7.0, None, None), (None, ("at most", 1.0), None)])
def test_bounds(value, bound, holds):
    assert Row("part", "what", 1.0, value=value, bound=bound).holds is holds


def test_rows_are_told_in_units_that_suit_them(tmp_path):
    rows = [Row("loop", "kd", 0.0123, "bare", 0.0120, 1.025, "x", ("at most", 1.05)),
            Row("data", "a batch", 2.5, "a step", 50.0, 0.05, "%", ("at most", 0.03)), Row("startup", "--help", 0.2)]
    assert [shown(row.seconds) for row in rows] == ["12.30 ms", "2.50 s", "200.00 ms"]
    assert [demanded(row) for row in rows] == ["at most 1.05", "at most 3 %", ""]
    *_, ratio, limit, held = (list(column.cells) for column in table(rows, "").columns)
    assert [ratio, limit] == [["1.025", "5.00 %", ""], ["at most 1.05", "at most 3 %", ""]]
    assert [(cell.plain, cell.style) for cell in held] == [("yes", ""), ("no", "red"), ("", "")]
    write(rows, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().splitlines()[1:] == [
        "loop,kd,0.0123,bare,0.012,1.025,x,at most 1.05,True", "data,a batch,2.5,a step,50.0,0.05,%,at most 3 %,False",
        "startup,'--help,0.2,,,,x,,"]  # a spreadsheet would take it for a formula
