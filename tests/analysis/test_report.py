"""The report: one page that needs nothing else, links that lead somewhere, and nothing hostile that is more than text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from kdrun.analysis.html_report import inline, link, report, size
from kdrun.analysis.run_index import collect
from kdrun.cli import main
from kdrun.cli.commands import report as command
from tests.analysis.browser import CHROMIUM, DRIVER, browser
from tests.analysis.runs import write_run
from tests.analysis.test_plots import filled

HOSTILE = "<script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'>"


class Page(HTMLParser):
    """Every element with its attributes, and the text of those of a kind."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)
        self.words.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in set(self.inside):
            self.words[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Runs of two recipes, one of them with a hostile class, a hostile setting and a file with a hostile name."""
    folder = tmp_path_factory.mktemp("outputs")
    for seed in (1, 2, 3):
        for key, reached in (("kd", 0.91), ("at", 0.85), ("rkd", 0.93)):
            filled(write_run(folder, key, seed, reached + 0.01 * seed))
    run = filled(write_run(folder, "kd", 1, 0.5, recipe={"name": HOSTILE, "epochs": 3}, name="javascript:alert(1) #?x"),
                 classes=(HOSTILE, "b"))
    (run / "a\"><b>#.csv").write_text("x\n")
    (run / ".hidden").write_text("x\n")
    told = json.loads((run / "run.json").read_text())
    told |= {"torch": HOSTILE, "python": "3.11.7", "kdrun": "0.1.0", "machine": "x86_64", "threads": 2}
    (run / "run.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def html(outputs):
    place = outputs / "report.html"
    place.write_text(report(collect(outputs), place), encoding="utf-8")
    return place.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_fetched(html, page):
    assert not [attributes for _, attributes in page.elements if "src" in attributes]
    assert {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "embed", "base", "image"} == set()
    assert not re.search(r"@import|url\((?!#)", html)
    for _, attributes in page.elements:
        for name in ("href", "xlink:href", "action"):
            assert not re.match(r"\s*(\w+:|//)", attributes.get(name) or "")


def test_links_lead_to_the_files_of_the_runs(outputs, page):
    links = [attributes["href"] for attributes in page.all("a") if not attributes["href"].startswith("#")]
    found = {(outputs / unquote(address)).resolve() for address in links}
    files = {path.resolve() for run in (outputs / "runs").iterdir() for path in run.iterdir() if not path.name.startswith(".")}
    assert found == files
    targets = {attributes.get("id") for _, attributes in page.elements}
    assert all(attributes["href"][1:] in targets for attributes in page.all("a") if attributes["href"].startswith("#"))


def test_links_start_at_the_page(tmp_path):
    folder = tmp_path / "runs"
    assert link(folder / "javascript:x" / "a b#?.csv", folder / "report.html") == "javascript%3Ax/a%20b%23%3F.csv"
    assert link(tmp_path / "runs" / "a" / "x.csv", tmp_path / "pages" / "report.html") == "../runs/a/x.csv"


def test_ids_are_unique_and_every_reference_is_answered(html, page):
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | {
        attributes["href"][1:] for tag, attributes in page.elements if tag == "use"}
    assert used
    assert used <= set(ids)


def test_hostile_strings_are_texts(html, page):
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert HOSTILE not in html
    assert any(HOSTILE.replace("'", "''") in text or HOSTILE in text for text in page.words["pre"])
    assert any(HOSTILE in text for text in page.words["dd"])
    assert any("<script>" in text for text in page.words["text"])  # of a picture


def test_only_the_page_s_own_script_may_run(html, page):
    (policy,) = [attributes["content"] for attributes in page.all("meta") if "http-equiv" in attributes]
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")


def test_every_comparison_has_a_table_and_pictures_of_its_own(outputs, page):
    assert len(page.all("table")) == 2
    assert [attributes for attributes in page.all("table") if "sortable" not in attributes["class"]] == []
    assert len([text for text in page.words["figcaption"] if "is better" in text]) == len(page.all("figure")) == 2 * 6
    assert len(page.all("svg")) == 12
    assert all(attributes["aria-label"] for attributes in page.all("svg"))


def test_configuration_and_environment_of_each_run(outputs, page):
    runs = list((outputs / "runs").iterdir())
    assert len(page.all("details")) == len(runs) == 10
    assert sum("init_epochs: 5" in text for text in page.words["pre"]) == 10
    assert {"3.11.7", "x86_64", "0.1.0"} <= set(page.words["dd"])
    assert any(text.startswith("rkd, seed 3: 96.00 %") for text in page.words["summary"])


@pytest.mark.slow
def test_the_same_runs_are_the_same_page(outputs, html):
    assert report(collect(outputs), outputs / "report.html") == html


def test_ids_of_a_picture_are_made_its_own():
    svg = ('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
           '<metadata>x</metadata><defs><style>*{color: red}</style><path id="m"/><clipPath id="p"/></defs>'
           '<use xlink:href="#m" style="fill: red"/><g clip-path="url(#p)"/><text>id="m" url(#p) &lt;b&gt;</text></svg>')
    assert inline(svg, "one-", "a title") == (
        '<svg role="img" aria-label="a title"><defs><path id="one-m" /><clipPath id="one-p" /></defs>'
        '<use href="#one-m" style="fill: red" /><g clip-path="url(#one-p)" /><text>id="m" url(#p) &lt;b&gt;</text></svg>')


@pytest.mark.parametrize(("count", "said"), [(999, "999 B"), (1000, "1 kB"), (1_250_000, "1.2 MB")])
def test_sizes(count, said):
    assert size(count) == said


def test_command(outputs, tmp_path, capsys):
    place = tmp_path / "pages" / "mine.html"
    where = "method == 'kd' and recipe == 'digits'"
    assert command.main(["--outputs", str(outputs), "--to", str(place), "--where", where]) == 0
    assert capsys.readouterr().out.strip() == str(place)
    page = Page(place.read_text(encoding="utf-8"))
    assert len(page.all("details")) == 3
    links = [attributes["href"] for attributes in page.all("a") if not attributes["href"].startswith("#")]
    assert all((place.parent / unquote(address)).exists() for address in links)


@pytest.mark.parametrize(("words", "says"), [
    (["--to", "."], "--to: . is a folder, wanted a file"),
    (["--alpha", "2"], "wanted a number from 0 to 1"),
    (["--where", "accuracy > 2"], "none of the finished runs"),
    (["--outputs", "nowhere"], "there is no folder nowhere"),
])
def test_what_cannot_be_reported_is_refused_in_a_line(outputs, words, says, capsys):
    assert main.main(["report", *words, *([] if "--outputs" in words else ["--outputs", str(outputs)])]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert len(told.err.splitlines()) == 1


COLUMN = """
const [table, head] = arguments;
const cells = [...document.querySelectorAll("table.sortable")[table].tHead.rows[0].cells];
const place = cells.findIndex(cell => cell.textContent === head);
return [...document.querySelectorAll("table.sortable")[table].tBodies[0].rows].map(row => row.cells[place].textContent);
"""


# of the page, of a picture's background, of its words, and of the marker of a teacher, whose black is not written down
PAPER = """
const style = element => getComputedStyle(element);
const plot = document.querySelector("figure[id^=relative_error] svg");
const star = [...plot.querySelectorAll("use")].find(use => !/fill:/.test(use.getAttribute("style")));
return [style(document.body).backgroundColor, style(plot.querySelector("[id*=patch] path")).fill,
        style(plot.querySelector("text")).fill, style(star).fill];
"""


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")
def test_in_a_browser(html, outputs, tmp_path):
    place = outputs / "report.html"
    with browser(tmp_path / "profile") as chromium:
        chromium.open(place)
        sorted_table = next(number for number in range(2) if len(chromium.run(COLUMN, number, "method")) == 5)
        chromium.run("document.querySelectorAll('table.sortable')[arguments[0]].id = 'it'", sorted_table)
        heads = chromium.run("return [...document.querySelectorAll('#it th')].map(head => head.textContent)")

        def click(head):
            chromium.click(f"#it th:nth-child({heads.index(head) + 1}) button")
            return chromium.run(COLUMN, sorted_table, "method")

        def state(head):
            return chromium.run("return document.querySelectorAll('#it th')[arguments[0]].getAttribute('aria-sort')",
                                heads.index(head))

        assert click("method") == ["at", "kd", "rkd", "student alone", "teacher"]
        assert state("method") == "ascending"
        assert click("accuracy") == ["rkd", "teacher", "kd", "student alone", "at"]  # 95 both: as they were
        assert (state("accuracy"), state("method")) == ("descending", None)
        assert click("accuracy")[0] == "at"
        assert click("gap [95 % interval]")[:3] == ["rkd", "kd", "at"]  # what has none stays below,
        assert click("gap [95 % interval]")[:3] == ["at", "kd", "rkd"]  # either way
        seen = {}
        for scheme in ("light", "dark"):
            chromium.prefer(scheme)
            seen[scheme] = chromium.run(PAPER)
        black, white, ink, paper = "rgb(0, 0, 0)", "rgb(255, 255, 255)", "rgb(230, 237, 243)", "rgb(13, 17, 23)"
        assert seen == {"light": [white, white, black, black], "dark": [paper, paper, ink, ink]}
        chromium.resize(390)  # a phone: nothing but tables and pictures is wider, and their letters stay legible
        assert chromium.run("return document.documentElement.scrollWidth") <= 390
        assert chromium.run("return Math.min(...[...document.querySelectorAll('figure text')].map(text => "
                            "text.getBoundingClientRect().height))") > 8
        chromium.resize(1200)
        shown = chromium.run("return [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().width)")
        assert min(shown) > 500
        assert chromium.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert chromium.run("return typeof window.hostile") == "undefined"
        assert chromium.requested(place) == [Path(place).as_uri()]
        assert chromium.complaints() == []
