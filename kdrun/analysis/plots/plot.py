"""A picture with what it says, and how it becomes a file: the same bytes for the same numbers."""

import io
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kdrun.analysis.plots.labels import text_width
from kdrun.analysis.plots.style import SMALL, STYLE, WIDTH, dark_mode
from kdrun.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plot", "bytes_of", "styled"]

MARKER: Final = re.compile(rb'(<path id="[^"]+" d="[^"]*" style=")stroke: #[0-9a-f]{6}; ')
LEADING: Final = 1.45  # from line to line of a caption, in letter heights


@dataclass(frozen=True)
class Plot:
    """A picture.

    Attributes:
        name: which kind: pareto, alpha, ...
        panel: what all that may stand in one picture with it shares.
        label: what all that is in it shares.
        slug: its file's name, without the ending.
        title: in a few words.
        caption: what is drawn, and what good looks like.
        figure: as it was drawn, its layout final, without title and caption.
    """

    name: str
    panel: str
    label: str
    slug: str
    title: str
    caption: str
    figure: "Figure"

    def save(self, path: Path) -> None:
        """Write a PNG or SVG with the caption below it."""
        with styled():
            kind = path.suffix.removeprefix(".")
            drawn = bytes_of(self.captioned(), kind)
            if kind == "svg":
                drawn = following(drawn)
            write_atomically(path, lambda part: part.write_bytes(drawn))

    def svg(self) -> str:
        """The picture alone: the page that it goes into writes the caption."""
        with styled():
            return bytes_of(self.figure, "svg").decode()

    def captioned(self) -> "Figure":
        """A copy of the figure with its title above, and caption and label below: nothing of what was drawn changes size."""
        figure: Figure = pickle.loads(pickle.dumps(self.figure))
        said, shared = wrapped(self.caption), wrapped(self.label)
        lines = [*said, *shared]
        below, above = (len(lines) * LEADING * SMALL + 8) / 72, 22 / 72
        height = figure.get_figheight()
        whole = height + below + above
        figure.set_size_inches(WIDTH, whole)
        for axes in figure.axes:
            place = axes.get_position()
            axes.set_position((place.x0, (place.y0 * height + below) / whole, place.width, place.height * height / whole))
        for text in figure.texts:
            text.set_y((text.get_position()[1] * height + below) / whole)
        figure.text(0.012, 1 - 5 / 72 / whole, self.title, ha="left", va="top", fontsize=10, weight="bold")
        for number, line in enumerate(lines):
            figure.text(0.012, (below - 4 / 72 - number * LEADING * SMALL / 72) / whole, line, ha="left", va="top",
                        fontsize=SMALL, color="black" if number < len(said) else "#5B5B5B")
        return figure


@contextmanager
def styled() -> Iterator[None]:
    """Draw as kdrun does, whatever the user's own matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def bytes_of(figure: "Figure", kind: str) -> bytes:
    """A figure as png or svg, without a date."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    # a marker is drawn in the colours of where it is used: those of its shape itself no style sheet would reach
    return MARKER.sub(rb"\1", stream.getvalue()) if kind == "svg" else stream.getvalue()


def following(svg: bytes) -> bytes:
    """An SVG file that is dark where its reader's other pages are."""
    return svg.replace(b"</style>", f"\n{dark_mode()}</style>".encode(), 1)


def wrapped(text: str) -> list[str]:
    """A text in lines that fit into a figure's width."""
    space, room = text_width(["a b"], SMALL) - text_width(["ab"], SMALL), 72 * WIDTH - 12
    lines: list[str] = []
    used = room
    for word in text.split():
        wide = text_width([word], SMALL)
        if used + space + wide > room:
            lines.append(word)
            used = wide
        else:
            lines[-1] += f" {word}"
            used += space + wide
    return lines
