"""Labels of points: none lies on another, on a marker or outside."""

from itertools import combinations

import matplotlib.text
import pytest

from kdrun.analysis.plots.labels import Label, column, place, spread
from kdrun.analysis.plots.plot import styled
from kdrun.analysis.plots.style import freeze, sheet


def boxes(figure, written):
    return [matplotlib.text.Text.get_window_extent(text, figure.canvas.get_renderer()) for text in written]


def assert_free(figure, axes, written):
    for one, other in combinations(boxes(figure, written), 2):
        assert min(one.x1, other.x1) - max(one.x0, other.x0) < 0.5 or min(one.y1, other.y1) - max(one.y0, other.y0) < 0.5
    for box in boxes(figure, written):
        assert box.x0 > -1
        assert box.x1 < figure.bbox.x1 + 1


@pytest.mark.parametrize(("wanted", "gap", "found"), [
    ([5, 5, 5], 1, [4, 5, 6]),
    ([1, 5, 9], 1, [1, 5, 9]),
    ([5, 4], 2, [5.5, 3.5]),       # as near as they may, in order
    ([0, 0], 2, [0, 2]),           # not below the lowest
    ([10, 10], 2, [8, 10]),        # nor above the highest
    ([5, 5, 6.2], 1, [4.4, 5.4, 6.4]),   # pushes what it meets
])
def test_spread_keeps_neighbours_apart(wanted, gap, found):
    assert spread(wanted, gap, 0, 10) == pytest.approx(found)


def stack():
    return [(x, 90 + 0.11 * number) for x in (4, 9, 31) for number in range(14)]


def diagonal():
    return [(1 + 0.03 * number, 97 - 0.15 * number) for number in range(24)]


@pytest.mark.parametrize("points", [stack(), diagonal(), [(1.0, 1.0)] * 6], ids=["stack", "diagonal", "all in one place"])
def test_no_label_lies_on_another_or_on_a_marker_or_outside(points):
    with styled():
        figure = sheet(4.5)
        axes = figure.add_subplot()
        axes.plot(*zip(*points, strict=True), "o")
        axes.margins(0.25)
        freeze(figure)
        names = [f"method {number}" + " (temperature=8)" * (number % 3 == 0) for number in range(len(points))]
        written = place(axes, [Label(*point, name) for point, name in zip(points, names, strict=True)])
        assert [text.get_text() for text in written] == names
        figure.draw_without_rendering()
        assert_free(figure, axes, written)
        for x, y in axes.transData.transform(points):
            for box in boxes(figure, written):
                assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1)


def test_where_there_is_no_room_nothing_is_written():
    with styled():
        figure = sheet(1.5)
        axes = figure.add_subplot()
        axes.plot([0], [0], "o")
        freeze(figure)
        labels = [Label(0, 0, "a long name of a method " * 3) for _ in range(30)]
        assert place(axes, labels) is None
        assert not column(axes, labels, 10)
        assert not axes.texts
