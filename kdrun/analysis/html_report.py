"""Everything measured as one page that needs nothing else to be opened: the league table, the plots, every run."""

import base64
import hashlib
import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

import yaml

from kdrun.analysis.tables import Wanted, tables

if TYPE_CHECKING:
    from kdrun.analysis.plots import Plot
    from kdrun.analysis.run_index import Collection

__all__ = ["inline", "report"]

PAGE: Final = Path(__file__).parent / "page"
REFERENCES: Final = ("href", "clip-path", "fill", "stroke", "mask", "style", "filter")  # attributes that may name an id


def report(found: "Collection", place: Path, wanted: Wanted | None = None) -> str:
    """The page, as HTML.

    Args:
        found: what was collected.
        place: the file it will be: links to the runs' files start there.
        wanted: how the league table is made.
    """
    import jinja2
    from markupsafe import Markup

    from kdrun.analysis.plots import draw
    from kdrun.analysis.plots.style import dark_mode

    left_out: list[str] = []
    wanted = wanted or Wanted()
    drawn = list(draw(found, left_out=left_out, rank_weak=wanted.rank_weak))
    (league,) = tables(found, wanted, ["league"])
    parts = []
    for part in league.parts:
        columns = league.shown(part)
        rows = [[column.show(row) for column in columns] for row in part.rows]
        parts.append({"heading": part.heading, "heads": columns, "rows": rows})
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined,
                               trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    runs = found.students["run"].nunique()
    last = max(str(told.get("finished", "")) for told in found.runs.values())
    return pages.get_template("report.html").render(
        title="kdrun report", told=f"{runs} run{'' if runs == 1 else 's'}, the last one finished {last}",
        style=Markup((PAGE / "report.css").read_text(encoding="utf-8") + dark_mode("figure svg") + "\n"),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        league=parts, notes=league.notes, panels=by_panel(drawn), runs=by_comparison(found, place),
        left_out=[*left_out, *found.skipped],
    )


def by_panel(plots: Iterable["Plot"]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The plots of everything that may stand in one picture, ready for a page."""
    from markupsafe import Markup

    found = []
    number = 0
    for panel, group in groupby(plots, lambda plot: plot.panel):
        ready = []
        for plot in group:
            number += 1
            ready.append({"slug": plot.slug, "title": plot.title, "caption": plot.caption, "label": plot.label,
                          "svg": Markup(inline(plot.svg(), f"plot{number}-", plot.title))})
        found.append((panel, ready))
    return found


def inline(svg: str, prefix: str, title: str) -> str:
    """An SVG file as an element of an HTML page: its ids made its own, nothing left that would reach beyond it.

    Args:
        svg: as matplotlib writes it.
        prefix: what the ids start with from now on.
        title: what is said of it to who cannot see it.
    """
    root = ElementTree.fromstring(svg)
    ids = {element.get("id") for element in root.iter()} - {None}
    renamed = {f"#{name}": f"#{prefix}{name}" for name in ids}
    for parent in list(root.iter()):
        for child in list(parent):
            if local(child.tag) in ("metadata", "style"):  # a style would hold for the whole page
                parent.remove(child)
    for element in root.iter():
        element.tag = local(element.tag)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            name = local(key)
            if name == "id":
                value = prefix + value
            elif name == "href":
                value = renamed[value]
            elif name in REFERENCES and "url(#" in value:
                start, _, rest = value.partition("url(")
                target, _, end = rest.partition(")")
                value = f"{start}url({renamed[target]}){end}"
            element.set(name, value)
    root.set("role", "img")
    root.set("aria-label", title)
    return ElementTree.tostring(root, encoding="unicode")


def local(name: str) -> str:
    """A name without its namespace, which HTML knows by itself."""
    return name.rpartition("}")[2]


def by_comparison(found: "Collection", place: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Every run with its configuration, environment and files, below what it shares with others."""
    rows = found.students.sort_values(["comparison", "variant", "seed"], kind="stable")
    return [(str(label), [described(found, {str(key): value for key, value in row.items()}, place)
                          for row in group.to_dict("records")])
            for label, group in rows.groupby("comparison", sort=True)]


def described(found: "Collection", row: dict[str, Any], place: Path) -> dict[str, Any]:
    """What the page says of a run."""
    told, folder = found.runs[row["run"]], found.folders[row["run"]]
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    whole = {"choices": told.get("choices"), "settings": told.get("settings")}
    return {
        "name": row["run"], "variant": row["variant"], "seed": row["seed"], "headline": f"{100 * row['headline_value']:.2f} %",
        "environment": [(key, value) for key, value in told.items() if isinstance(value, str | int | float)],
        "configuration": yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=1_000_000),
        "files": [{"name": path.name, "link": link(path, place), "size": size(path.stat().st_size)} for path in files],
    }


def link(path: Path, place: Path) -> str:
    """A file's address from the page: nothing in its name is taken for a part of an address."""
    return quote(os.path.relpath(path, place.parent).replace(os.sep, "/"))


def size(count: int) -> str:
    """A number of bytes in few characters."""
    return f"{count} B" if count < 1000 else f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
