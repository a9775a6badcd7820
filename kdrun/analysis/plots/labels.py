"""Where labels go, so that none lies on another, on a marker or outside."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

__all__ = ["Label", "column", "place", "spread", "text_width"]

ANGLES = (0, 180, 45, 315, 135, 225, 90, 270, 22, 338, 158, 202)    # degrees, the preferred ones first
STEPS = tuple(round(7 * 1.17 ** step) for step in range(30))  # points from the marker to the nearest of the label
FAR, EVERYWHERE = 40, tuple(range(0, 360, 6))  # so many points away, any direction will do
LEADER = 10                        # points from which on a line leads to the marker
MARKER = 4.5                       # points around a marker's centre that stay free
GAP = 1.0                          # points between two labels
LEADING = {"arrowstyle": "-", "linewidth": 0.7, "linestyle": (0, (1, 1.5)), "shrinkB": 4}  # dotted: no error bar
BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}  # lets a label be read over a grid


Spot = tuple[float, float]         # in points, from the figure's lower left corner
Line = tuple[Spot, Spot]


class Label(NamedTuple):
    """What is to be written beside a point of the data."""

    x: float
    y: float
    text: str
    leader: str = "#8C8C8C"  # the colour of the line that leads to it


class Rectangle(NamedTuple):
    """In points."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Rectangle") -> bool:
        """Whether they share more than an edge."""
        return (self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top)

    def within(self, other: "Rectangle") -> bool:
        """Whether it lies in the other."""
        return (self.left >= other.left and self.right <= other.right and self.bottom >= other.bottom and self.top <= other.top)

    def distance(self, spot: Spot) -> float:
        """How far a spot is from it; 0 inside."""
        return math.hypot(max(self.left - spot[0], 0, spot[0] - self.right), max(self.bottom - spot[1], 0, spot[1] - self.top))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places on a line, in the order of those wanted and as near to them as `gap` between neighbours lets them be.

    Neighbours that are too close share the mean of what they want, and push on what they meet: the least squares answer.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    heaps: list[list[float]] = []  # of wanted starts, each heap laid out from its mean
    for rank, place in enumerate(order):
        heaps.append([wanted[place] - rank * gap])
        while len(heaps) > 1 and mean(heaps[-2]) >= mean(heaps[-1]):
            heaps[-2:] = [heaps[-2] + heaps[-1]]
    found = [0.0] * len(wanted)
    starts = [mean(heap) for heap in heaps for _ in heap]
    last = high - gap * (len(wanted) - 1)
    for rank, place in enumerate(order):
        found[place] = max(low, min(starts[rank], last)) + rank * gap
    return found


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def place(axes: "Axes", labels: Sequence[Label], bars: Sequence[tuple[float, float, float, float]] = (),
          size: float = 8) -> list["Annotation"] | None:
    """Write each label as near to its point as it is free; None, with nothing written, where there is not room for all.

    The figure's layout has to be final.

    Args:
        axes: with their limits set.
        labels: of which no two, and no label and marker, will overlap.
        bars: (left, low, right, high) in data coordinates: error bars, not to be written on where that can be had.
        size: of the letters, in points.
    """
    figure = axes.figure
    points_per_dot = 72 / figure.dpi
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]

    def at(x: float, y: float) -> tuple[float, float]:
        right, up = axes.transData.transform((x, y))
        return right * points_per_dot, up * points_per_dot

    box = axes.get_window_extent()
    room = Rectangle(*(value * points_per_dot for value in (box.x0, box.y0, box.x1, box.y1)))
    spots = [at(label.x, label.y) for label in labels]
    markers = [Rectangle(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in spots]
    thin = [Rectangle(*at(left, low), *at(right, high)) for left, low, right, high in bars]
    thin = [Rectangle(one.left - 1, one.bottom - 1, one.right + 1, one.top + 1) for one in thin]
    sizes = []
    for label in labels:
        trial = figure.text(0, 0, label.text, fontsize=size)
        extent = trial.get_window_extent(renderer)
        sizes.append((extent.width * points_per_dot, extent.height * points_per_dot))
        trial.remove()
    taken: list[Rectangle] = []
    found: dict[int, tuple[Rectangle, bool]] = {}
    leaders: list[Line] = []
    for number in sorted(range(len(labels)), key=lambda number: (-crowd(spots, number), -spots[number][1], number)):
        best = nearest(number, spots, sizes[number], room, [*taken, *markers], thin, taken, leaders)
        if best is None:
            return None
        rectangle, led = found[number] = best
        taken.append(Rectangle(rectangle.left - GAP, rectangle.bottom - GAP, rectangle.right + GAP, rectangle.top + GAP))
        if led:
            leaders.append((spots[number], middle(rectangle, spots[number])))
    return [written(axes, label, spots[number], *found[number], size) for number, label in enumerate(labels)]


def crowd(spots: Sequence[Spot], number: int) -> int:
    """How many other points lie within half an inch: where it is crowded, labels are placed first."""
    return sum(math.dist(spots[number], other) < 36 for other in spots) - 1


def nearest(number: int, spots: Sequence[Spot], size: tuple[float, float], room: Rectangle, solid: Sequence[Rectangle],
            thin: Sequence[Rectangle], taken: Sequence[Rectangle],
            leaders: Sequence[Line]) -> tuple[Rectangle, bool] | None:
    """The best free place for the label of a point, and whether it needs a leader; None if there is none.

    It may not touch what is solid. Every error bar written over, every point that is as near as the label's own, and every
    label or leader crossed counts as further away.
    """
    best: tuple[float, Rectangle, bool] | None = None
    spot, others = spots[number], [other for place, other in enumerate(spots) if place != number]
    for distance in STEPS:
        if best is not None and best[0] <= distance:
            break
        for rank, angle in enumerate(ANGLES if distance < FAR else EVERYWHERE):
            rectangle = beside(spot, size, distance, angle)
            if not rectangle.within(room) or any(rectangle.meets(other) for other in solid):
                continue
            own = rectangle.distance(spot)
            rivals = sum(rectangle.distance(other) < own + MARKER / 2 for other in others)
            cost = distance + min(0.4 * rank, 5) + 8 * rivals + 25 * sum(rectangle.meets(other) for other in thin)
            cost += 200 * sum(crosses(*leader, rectangle) for leader in leaders)
            led = distance > LEADER or rivals > 0
            if led:
                end = middle(rectangle, spot)
                cost += 200 * sum(crosses(spot, end, other) for other in taken)
                cost += 40 * sum(cut(spot, end, *leader) for leader in leaders)
            if best is None or cost < best[0]:
                best = cost, rectangle, led
    return best[1:] if best else None


def beside(spot: Spot, size: tuple[float, float], distance: float, angle: float) -> Rectangle:
    """Where a label of this size lies if the nearest of it is so far from a spot, in this direction."""
    across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x = spot[0] + across * distance - (0 if across > 0.3 else 1 if across < -0.3 else 0.5) * size[0]
    y = spot[1] + up * distance + (up / 2 - 0.5) * size[1]
    return Rectangle(x, y, x + size[0], y + size[1])


def middle(rectangle: Rectangle, spot: Spot) -> Spot:
    """The point of a rectangle that is nearest to a spot, at half its height: where a leader ends."""
    return (min(max(spot[0], rectangle.left), rectangle.right), (rectangle.bottom + rectangle.top) / 2)


def crosses(start: Spot, end: Spot, rectangle: Rectangle) -> bool:
    """Whether a line meets a rectangle."""
    corners = [(rectangle.left, rectangle.bottom), (rectangle.right, rectangle.bottom), (rectangle.right, rectangle.top),
               (rectangle.left, rectangle.top)]
    return any(cut(start, end, corners[side - 1], corners[side]) for side in range(4))


def cut(a: Spot, b: Spot, c: Spot, d: Spot) -> bool:
    """Whether the lines ab and cd cross."""
    def side(p: Spot, q: Spot, r: Spot) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def written(axes: "Axes", label: Label, spot: Spot, rectangle: Rectangle, led: bool, size: float) -> "Annotation":
    """The label, with a line to its point where it needs one."""
    leader = LEADING | {"color": label.leader, "shrinkA": 0,
                        "relpos": ((middle(rectangle, spot)[0] - rectangle.left) / (rectangle.right - rectangle.left), 0.5)}
    return axes.annotate(label.text, (label.x, label.y), (rectangle.left - spot[0], rectangle.bottom - spot[1]),
                         textcoords="offset points", ha="left", va="bottom", fontsize=size, zorder=5,
                         bbox=BEHIND, arrowprops=leader if led else None)


def column(axes: "Axes", labels: Sequence[Label], start: float, align: str = "left", size: float = 8) -> bool:
    """Write labels below one another, each as near to its point's height as its neighbours let it be, with a leader to it.

    Args:
        axes: with their limits set, in a figure whose layout is final.
        labels: each of which will have a height of its own.
        start: where the column is, in points from the left of the axes.
        align: which of its sides is there.
        size: of the letters, in points.

    Returns:
        Whether there is room for all; where there is not, nothing is written.
    """
    points_per_dot = 72 / axes.figure.dpi
    box = axes.get_window_extent()
    height, gap = box.height * points_per_dot, 1.25 * size
    if gap * len(labels) > height:
        return False
    wanted = [(axes.transData.transform((label.x, label.y))[1] - box.y0) * points_per_dot for label in labels]
    for label, up in zip(labels, spread(wanted, gap, gap / 2, height - gap / 2), strict=True):
        leader = LEADING | {"color": label.leader, "shrinkA": 1, "relpos": (0 if align == "left" else 1, 0.5)}
        axes.annotate(label.text, (label.x, label.y), (start, up), textcoords="axes points", ha=align, va="center",
                      fontsize=size, arrowprops=leader, bbox=BEHIND, zorder=5)
    return True


def text_width(texts: Iterable[str], size: float = 8) -> float:
    """Of the widest text, in points, where texts are not read as formulas."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font, paths = FontProperties(size=size), TextToPath()
    return max((paths.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts), default=0.0)
