"""Samples: what is drawn is computed by hand, every label is free, the same numbers are the same bytes."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pandas
import pytest
import torch

from kdrun.analysis.plots import KINDS, draw
from kdrun.analysis.plots.classes import changes, most_changed
from kdrun.analysis.plots.curves import mean_curve
from kdrun.analysis.plots.plot import styled, wrapped
from kdrun.analysis.plots.reliability import calibration
from kdrun.analysis.plots.run_curves import learning_curves
from kdrun.analysis.plots.style import COLOURS, DARK, MARKERS, WIDTH, error_axis, look_of, sheet, shown
from kdrun.analysis.plots.subplots import best_by_alpha, front, pages, panels, seeds_said
from kdrun.analysis.run_index import collect
from kdrun.analysis.statistics import Over
from kdrun.cli import main
from kdrun.cli.commands import plot as command
from kdrun.config import registry
from kdrun.config.schema import ConfigError
from kdrun.evaluation import metrics
from tests.analysis.runs import STUDENT, TEACHER, write_run
from tests.analysis.test_labels import assert_free

pytestmark = pytest.mark.slow  # many of half a second

SVG = "{http://www.w3.org/2000/svg}"


def filled(folder: Path, *, classes: tuple[str, ...] = ("cat", "dog"), taught: float = 0.9, reached: float = 0.7) -> Path:
    """Give a run written by hand classes, curves and calibration of all three networks."""
    name = folder.name
    networks = (("teacher", "big", taught), ("baseline", "small", 0.6), ("student", "small", reached))
    (folder / "per_class.csv").write_text("run,role,model,class,samples,recall,f1\n" + "".join(
        f'{name},{role},{model},"{label}",10,{recall + 0.01 * place},0.5\n' for role, model, recall in networks
        for place, label in enumerate(classes)))
    (folder / "history.csv").write_text("run,role,phase,epoch,split,metric,value\n" + "".join(
        f"{name},{role},distill,{epoch},validation,accuracy,{recall - 0.1 + 0.05 * epoch}\n" for role, _, recall in networks
        for epoch in (1, 2)))
    (folder / "calibration.csv").write_text("run,role,model,bin,samples,confidence,accuracy\n" + "".join(
        f"{name},{role},{model},1,0,,\n{name},{role},{model},2,10,0.8,{recall}\n" for role, model, recall in networks))
    return folder


def resized(folder: Path, parameters: int) -> Path:
    """Give the student and the baseline of a run another size."""
    table = pandas.read_csv(folder / "results.csv")
    own = table["role"].isin(["student", "baseline"])
    for column_, factor in (("parameters", 1), ("bytes", 4), ("bits", 32)):
        table.loc[own, column_] = factor * parameters
    table.to_csv(folder / "results.csv", index=False)
    told = json.loads((folder / "run.json").read_text())
    for row in told["rows"]:
        if row["role"] in ("student", "baseline"):
            row |= {"parameters": parameters, "bytes": 4 * parameters, "bits": 32 * parameters}
    (folder / "run.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Three methods of one student over three seeds, one of them with a small student too, of one seed."""
    folder = tmp_path_factory.mktemp("outputs")
    for seed in (1, 2, 3):
        for key, reached in (("kd", 0.90), ("at", 0.85), ("rkd", 0.92)):
            filled(write_run(folder, key, seed, reached + 0.01 * seed, alone=0.88))
    filled(resized(write_run(folder, "kd", 1, 0.8, alone=0.78, student={"name": "tiny"}), 20))
    return folder


@pytest.fixture(scope="module")
def drawn(outputs):
    """All of its pictures, and what was left out of them."""
    left_out = []
    return list(draw(collect(outputs), left_out=left_out)), left_out


# ---- what is drawn

def test_entries_by_closed_form(tmp_path):
    for seed, reached in ((1, 0.90), (2, 0.92), (3, 0.94)):
        write_run(tmp_path, "kd", seed, reached, taught=0.95, alone=0.86)
    write_run(tmp_path, "at", 1, 0.80, taught=0.95, alone=0.86)
    (panel,) = panels(collect(tmp_path))
    teacher, alone, at, kd = panel.entries()
    assert [entry.label for entry in (teacher, alone, at, kd)] == ["teacher big", "small alone", "at (n=1)", "kd"]
    assert (teacher.relative_error.mean, teacher.factor.mean, teacher.score(0.3)) == pytest.approx((1, 1, 0.3))
    assert alone.accuracy.mean == pytest.approx(86)
    assert alone.accuracy.count == 3
    assert alone.relative_error.mean == pytest.approx(0.14 / 0.05)
    assert kd.accuracy.mean == pytest.approx(92)
    assert kd.accuracy.deviation == pytest.approx(2)
    assert kd.relative_error.mean == pytest.approx((2.0 + 1.6 + 1.2) / 3)
    assert kd.factor.mean == TEACHER / STUDENT
    assert kd.score(0) == pytest.approx(1 - 0.92 / 0.95)
    assert kd.score(1) == STUDENT / TEACHER
    assert kd.score(0.5) == pytest.approx((kd.score(0) + kd.score(1)) / 2)
    assert at.few
    assert not kd.few


def test_a_student_without_a_teacher_is_left_out_with_a_line(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path, "kd", seed)
        write_run(tmp_path, "tfkd_self", seed, taught=None, under="self")
        resized(write_run(tmp_path, "kd", seed, student={"name": "tiny"}), 20)
    left_out = []
    for plot in draw(collect(tmp_path), ["pareto", "alpha", "relative_error"], left_out):
        assert "tfkd_self" not in " ".join(texts(plot.svg()))
    assert [line.partition(":")[0] for line in left_out] == ["pareto", "alpha", "relative_error"]
    assert all("tfkd_self" in line for line in left_out)


@pytest.mark.parametrize("changes", [{"recipe": {"epochs": 7}}, {"dataset": {"name": "other"}}, {"teacher": {"name": "huge"}},
                                     {"precision": "bf16"}])
def test_other_data_teacher_or_recipe_is_another_picture(tmp_path, changes):
    for seed in (1, 2):
        write_run(tmp_path, "kd", seed)
        write_run(tmp_path, "at", seed, **changes)
    found = panels(collect(tmp_path))
    assert [set(panel.students["variant"]) for panel in found] in ([{"kd"}, {"at"}], [{"at"}, {"kd"}])
    assert len({panel.slug for panel in found}) == 2
    for plot in draw(collect(tmp_path), ["pareto", "relative_error"]):  # of one size: the first is one of gaps
        assert len({"kd (n=2)", "at (n=2)"} & set(texts(plot.svg()))) == 1


def test_another_student_shares_the_picture_but_not_the_curves(outputs):
    (panel,) = panels(collect(outputs))
    assert panel.networks == ["small", "tiny"]
    assert [part.networks for part in panel.comparisons] == [["small"], ["tiny"]]


def test_no_size_is_drawn_elsewhere_than_it_is(drawn):
    """Every marker of the trade-off with size stands where its own factor is: 4 of the small student, 20 of the tiny one."""
    (plot,) = [plot for plot in drawn[0] if plot.name == "pareto"]
    (axes,) = plot.figure.axes
    markers = [line for line in axes.lines if line.get_marker() not in ("None", "", None, "_", "|", 2, 3)]
    assert len(markers) == 7  # the teacher, two students alone, three methods and one
    assert {round(float(x), 9) for line in markers for x in line.get_xdata()} == {1, TEACHER / STUDENT, TEACHER / 20}


def test_students_of_one_size_are_compared_by_their_gaps(tmp_path):
    for seed, reached in ((1, 0.90), (2, 0.92), (3, 0.97)):
        write_run(tmp_path, "kd", seed, reached, alone=0.90, taught=0.93)
        write_run(tmp_path, "crd", seed, 0.80, alone=0.90, taught=0.93)
        write_run(tmp_path, "dml", seed, 0.91, alone=0.90, taught=None, under="online")
    write_run(tmp_path, "at", 1, 0.89, alone=0.90, taught=0.93)
    (plot,) = draw(collect(tmp_path), ["pareto", "gaps"])
    assert plot.name == "gaps"
    assert "Student's t" in plot.caption
    assert "not widened for the number of methods" in plot.caption
    written = texts(plot.svg())
    half = 4.302653 * 13 ** 0.5 / 3 ** 0.5  # gaps 0, 2, 7: mean 3, variance 13
    assert f"+3.00 [{3 - half:+.2f}, {3 + half:+.2f}]" in written
    assert "-10.00" in written  # three equal gaps: no interval
    assert "at (n=1)" in written
    assert [label for label in written if label in ("kd", "dml", "crd")] == ["kd", "dml", "crd"]  # the largest first
    (axes,) = plot.figure.axes
    drawn_at = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert {3.0, -10.0} <= {round(x, 6) for x in drawn_at}
    low, high = axes.get_xlim()
    assert low <= 3 - half < 3 + half <= high


def test_an_interval_beyond_the_axis_ends_in_an_arrow(tmp_path):
    for seed, reached in ((1, 0.90), (2, 0.94)):
        write_run(tmp_path, "kd", seed, reached, alone=0.90)
    (plot,) = draw(collect(tmp_path), ["gaps"])
    (axes,) = plot.figure.axes
    assert {line.get_marker() for line in axes.lines} >= {"<", ">"}  # 2 ± 25 points of two seeds
    assert axes.get_xlim()[1] < 10


def test_a_weak_teacher_is_marked_and_never_on_the_front(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path, "kd", seed, 0.9, taught=0.5, alone=0.85)
        resized(write_run(tmp_path, "at", seed, 0.8, taught=0.5, alone=0.45, student={"name": "tiny"}), 20)
    found = collect(tmp_path)
    (plot,) = draw(found, ["pareto"])
    assert {"kd !", "at"} <= set(texts(plot.svg()))
    assert "no better than the student alone" in plot.caption
    assert "kd, small !" not in plot.caption
    assert "kd, small !" in next(draw(found, ["pareto"], rank_weak=True)).caption
    (plot,) = draw(found, ["alpha"])
    assert "kd, small !" not in plot.caption


def test_front_holds_what_nothing_beats_in_both():
    assert front([(1, 9), (2, 8), (3, 8), (2, 9), (4, 1), (3, 2)]) == [3, 2, 4]
    assert front([(1, 1), (1, 1)]) == [0, 1]
    assert front([(5, 5)]) == [0]


def test_the_best_changes_where_lines_cross():
    lines = {"accurate": (0.0, 1.0), "small": (0.3, 0.1)}  # 1 a = 0.3 - 0.2 a
    (first, second) = best_by_alpha(lines)
    assert (first[0], first[2]) == (0, "accurate")
    assert first[1] == second[0] == pytest.approx(0.25)
    assert second[1:] == (1.0, "small")
    assert best_by_alpha({"a": (0.1, 0.5), "b": (0.2, 0.5)}) == [(0, 1, "a")]  # they meet at 1 alone
    assert best_by_alpha({"a": (0.2, 0.4), "b": (0.2, 0.4)}) == [(0, 1, "a")]
    three = best_by_alpha({"a": (0, 1), "b": (0.2, 0.5), "c": (0.9, 0.1)})
    assert [name for _, _, name in three] == ["a", "b", "c"]
    assert [low for low, _, _ in three] == pytest.approx([0, 2 / 7, 7 / 11])  # a = 0.2 + 0.3 a, 0.2 + 0.3 a = 0.9 - 0.8 a


def test_changes_of_recall_are_paired_within_runs(tmp_path):
    table = pandas.DataFrame([
        {"run": run, "role": role, "class": label, "recall": recall}
        for run, rows in {"a": {"teacher": (0.9, 0.5), "student": (0.8, 0.7)},
                          "b": {"teacher": (0.7, 0.5), "student": (0.8, 0.5)}}.items()
        for role, recalls in rows.items() for label, recall in zip("xy", recalls, strict=True)])
    found = changes(table, "student")
    assert found["x"].mean == pytest.approx(0)
    assert found["x"].deviation == pytest.approx(10 * 2 ** 0.5)
    assert found["y"].mean == pytest.approx(10)
    assert changes(table[table["role"] == "student"], "student") == {}


def test_of_many_classes_both_ends_are_shown():
    many = {f"c{number}": Over(float(number - 50), None, 1) for number in range(100)}
    chosen = most_changed({"kd": many})
    assert chosen == [f"c{number}" for number in (*range(10), *range(90, 100))]
    assert len(most_changed({"kd": {name: many[name] for name in list(many)[:20]}})) == 20


def test_bins_of_calibration_are_pooled_over_runs():
    rows = [("a", 1, 0, None, None), ("a", 2, 4, 0.8, 0.5), ("b", 1, 2, 0.4, 1.0), ("b", 2, 2, 0.6, 1.0)]
    found = calibration(pandas.DataFrame(rows, columns=["run", "bin", "samples", "confidence", "accuracy"]))
    assert found.confidence == pytest.approx([0.4, (3.2 + 1.2) / 6])
    assert [value.mean for value in found.accuracy] == pytest.approx([1, 0.75])
    assert found.share == pytest.approx([2 / 8, 6 / 8])
    assert found.edges == [(0, 0.5), (0.5, 1)]
    assert found.error.mean == pytest.approx((0.3 + (2 * 0.6 + 2 * 0.4) / 4) / 2)
    assert calibration(pandas.DataFrame(columns=["run", "bin", "samples", "confidence", "accuracy"])) is None


def test_the_diagram_and_the_calibration_error_share_their_bins():
    draws = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(200, 5, generator=draws), torch.randint(5, (200,), generator=draws)
    rows = [("a", place, *held) for place, held in enumerate(metrics.calibration_bins(logits, labels), start=1)]
    found = calibration(pandas.DataFrame(rows, columns=["run", "bin", "samples", "confidence", "accuracy"]))
    assert found.error.mean == pytest.approx(metrics.calibration_error(logits, labels))


def test_curves_are_means_as_far_as_all_runs_go():
    rows = pandas.DataFrame([("a", 0.5), ("a", 0.75), ("b", 0.75), ("b", 0.25), ("b", 1.0)], columns=["run", "value"])
    assert [(value.mean, value.count) for value in mean_curve(rows)] == [(37.5, 2), (50, 2)]


@pytest.mark.parametrize(("counts", "said"), [
    ([3, 3], "Means over n = 3 seeds, bars: ± 1 standard deviation."),
    ([1], "Means over n = 1 seed; hollow: fewer than 3 seeds, too few to tell a difference."),
    ([2, 5], "Means over n = 2 to 5 seeds, bars: ± 1 standard deviation; hollow: fewer than 3 seeds, too few to tell a "
             "difference."),
])
def test_captions_say_how_many_seeds(counts, said):
    assert seeds_said(counts) == said


def test_pages():
    assert [tuple(page) for page in pages(["a"])] == [(["a"], "", "")]
    names = [str(number) for number in range(25)]
    assert [(len(page.names), page.which, page.tail) for page in pages(names)] == [
        (12, " (1 of 3)", "-1"), (12, " (2 of 3)", "-2"), (1, " (3 of 3)", "-3")]
    assert pages([]) == []


# ---- files and labels

@pytest.mark.parametrize("kind", ["relative_error", "pareto", "alpha"])
def test_every_point_is_labelled_without_overlap(outputs, kind):
    with_many = collect(outputs)
    (plot,) = draw(with_many, [kind])
    (panel,) = panels(with_many)
    figure = plot.figure
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert_free(figure, axes, axes.texts)
    wanted = sorted(entry.label for entry in panel.entries() if kind != "alpha" or entry.role != "teacher")
    got = [text.get_text() for axes in figure.axes for text in axes.texts]
    if kind == "alpha":
        assert sorted(text for text in got if "α" not in text) == wanted
    else:
        assert len([text for text in got if text not in panel.networks]) >= len(wanted)


@pytest.mark.slow
def test_thirty_methods_of_three_students_all_find_room(tmp_path):
    for number in range(30):
        for name, parameters in (("small", 100), ("smaller", 80), ("tiny", 20)):
            resized(write_run(tmp_path, "kd", 1, 0.8 + 0.002 * number, student={"name": name},
                              method={"temperature": 1.0 + number}), parameters)
    found = collect(tmp_path)
    for plot in draw(found, ["relative_error", "pareto", "alpha"]):
        plot.figure.draw_without_rendering()
        for axes in plot.figure.axes:
            assert_free(plot.figure, axes, axes.texts)


def texts(svg):
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_kind_is_drawn_and_says_what_good_looks_like(drawn):
    plots, left_out = drawn
    assert {plot.name for plot in plots} == set(KINDS)
    assert not left_out
    assert len({plot.slug for plot in plots}) == len(plots)
    for plot in plots:
        assert " is better" in plot.caption
        assert "Means over n = " in plot.caption
        assert plot.panel.startswith("digits, big → students")


def test_svg_has_texts_of_a_readable_size_dark_colours_and_no_date(drawn, tmp_path):
    for plot in drawn[0]:
        plot.save(tmp_path / "plot.svg")
        svg = (tmp_path / "plot.svg").read_text()
        assert any("kd" in text for text in texts(svg))
        assert plot.title in texts(svg)
        assert " ".join(texts(svg)).count(plot.label) == 1
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", svg)]  # a px is a pt here
        assert min(sizes) >= 8
        assert "<dc:date>" not in svg
        drawn_part, _, rules = svg.partition("@media screen and (prefers-color-scheme: dark)")
        rules, _, rest = rules.partition("</style>")
        assert {colour.upper() for colour in re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn_part + rest)} <= set(DARK)
        assert f"fill: {DARK['#000000'].lower()}" in rules
        width = ElementTree.fromstring(svg).get("width")
        assert width == f"{72 * WIDTH:g}pt"


def test_the_same_numbers_are_the_same_bytes(outputs, tmp_path):
    for folder in ("a", "b"):
        with matplotlib.rc_context({"font.size": 33, "svg.fonttype": "path", "axes.facecolor": "red"} if folder == "b" else {}):
            before = dict(matplotlib.rcParams)
            for plot in draw(collect(outputs, "student == 'small' and seed < 3"), ["pareto", "curves"]):
                for kind in ("png", "svg"):
                    plot.save(tmp_path / folder / f"{plot.slug}.{kind}")
            assert dict(matplotlib.rcParams) == before
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_png_is_for_print(drawn, tmp_path):
    plot = drawn[0][0]
    plot.save(tmp_path / "plot.png")
    data = (tmp_path / "plot.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") == 300 * WIDTH


def test_few_seeds_are_hollow_and_said(outputs):
    (plot,) = draw(collect(outputs), ["pareto"])
    hollow = {line.get_markerfacecolor() for axes in plot.figure.axes for line in axes.lines if line.get_marker() in "osd^"}
    assert "white" in hollow
    assert "fewer than 3 seeds" in plot.caption
    assert any("n=1" in text for text in texts(plot.svg()))


HOSTILE = ("<script>alert(1)</script>", "$\\frac{", "a\x00b\x1b[31m", "_hidden", "犬", "x" * 500)


def test_hostile_names_are_texts(tmp_path):
    folder = filled(write_run(tmp_path, "kd", 1, student={"name": "$\\frac{<b>"}), classes=("cat",))
    rows = folder / "per_class.csv"
    lines = [line for line in rows.read_text().splitlines() if "cat" in line]
    with rows.open("a") as file:
        for name in HOSTILE[:2] + HOSTILE[3:]:
            file.writelines(line.replace("cat", name) + "\n" for line in lines)
    for plot in draw(collect(tmp_path), ["pareto", "classes"]):
        svg = plot.svg()
        ElementTree.fromstring(svg)
        assert "<script>" not in svg
        plot.save(tmp_path / "plot.svg")
        ElementTree.parse(tmp_path / "plot.svg")
        if plot.name == "classes":
            assert {"<script>alert(1)</script>", "$\\frac{", "_hidden"} <= set(texts(svg)) | {HOSTILE[0]}
    assert shown(HOSTILE[2]) == "a b [31m"
    assert len(shown(HOSTILE[5])) == 48


def test_every_method_has_a_look_of_its_own():
    names = list(registry.options("method"))
    assert len({tuple(look_of(name).values()) for name in names}) == len(names) <= len(COLOURS) * len(MARKERS)
    assert look_of("takd+at") == look_of("takd")
    assert look_of("my_own") == look_of("my_own")


def test_a_method_looks_the_same_whatever_is_drawn_with_it(outputs):
    few, all_ = (panels(collect(outputs, where))[0].look for where in ("method == 'rkd'", None))
    assert few == {"rkd": look_of("rkd")}
    assert all_ == {name: look_of(name) for name in ("at", "kd", "rkd")}


def test_colours_of_a_run_are_those_of_all_pictures(tmp_path):
    history = [{"role": role, "split": "validation", "metric": "accuracy", "value": value}
               for role in ("teacher", "baseline", "student") for value in (0.5, 0.6)]
    learning_curves(history, tmp_path / "curves.svg", "rkd", "accuracy")
    assert f"stroke: {look_of('rkd')['color'].lower()}" in (tmp_path / "curves.svg").read_text()


@pytest.mark.parametrize(("lowest", "highest", "inside"), [(10.2, 98.0, 0.9), (38.0, 42.0, 0.9), (0.0, 60.0, 0.9)])
def test_the_axis_fits_the_errors(lowest, highest, inside):
    axes = sheet(2).add_subplot()
    error_axis(axes, lowest, highest)
    low, high = axes.get_ylim()
    assert low <= lowest
    assert high >= highest
    ends = axes.transScale.transform([(0, low), (0, max(lowest, 1e-9)), (0, highest), (0, high)])[:, 1]
    assert (ends[2] - ends[1]) / (ends[3] - ends[0]) >= inside  # the errors fill it
    marks = [float(text.get_text()) for text in axes.get_yticklabels()]
    assert len(marks) >= 3
    assert all(low <= mark <= high for mark in marks)


def luminance(colour):
    shares = [int(colour[start:start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_methods_stand_out_from_a_dark_page():
    """By WCAG 2.1, success criterion 1.4.11: 3 to 1 for what is drawn."""
    paper = luminance(DARK["#FFFFFF"])
    for colour in (*COLOURS, "#000000", "#7A7A7A"):
        assert (luminance(DARK[colour]) + 0.05) / (paper + 0.05) >= 3


def test_captions_fit():
    with styled():
        text = "a method is worth its trouble " * 20
        lines = wrapped(text)
        assert " ".join(lines) == text.strip()
        assert 3 < len(lines) < 12


def test_curves_of_one_run(tmp_path):
    path = tmp_path / "curves.svg"
    learning_curves([], path, "kd", "accuracy")
    learning_curves([{"role": "student", "split": "train", "metric": "ce", "value": 1.0}], path, "kd", "accuracy")
    assert not path.exists()
    history = [{"role": role, "split": "validation", "metric": "accuracy", "value": value}
               for role, values in (("teacher", (0.5, 0.9)), ("student", (0.4, 0.75))) for value in values]
    learning_curves(history, path, "kd", "accuracy")
    assert {"teacher: 10.00 %", "student: 25.00 %"} <= set(texts(path.read_text()))
    first = path.read_bytes()
    learning_curves(history, path, "kd", "accuracy")
    assert path.read_bytes() == first


# ---- the command

def test_command_writes_what_was_asked(outputs, tmp_path, capsys):
    assert command.main(["pareto", "alpha", "--outputs", str(outputs), "--to", str(tmp_path / "to"), "--format", "svg",
                         "--where", "student == 'small'"]) == 0
    told = capsys.readouterr()
    names = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert [name.partition("-")[0] for name in names] == ["alpha", "gaps"]  # of one size
    assert sorted(Path(line).name for line in told.out.splitlines()) == names
    assert told.err == ""
    assert "tiny" not in (tmp_path / "to" / names[1]).read_text()


def test_runs_of_older_versions_are_told_of(tmp_path, capsys):
    write_run(tmp_path, "kd", 1)
    assert command.main(["pareto", "reliability", "--outputs", str(tmp_path), "--format", "svg"]) == 0
    assert "the calibration of 1 run: no calibration.csv" in capsys.readouterr().err
    with pytest.raises(ConfigError) as refused:
        command.main(["reliability", "--outputs", str(tmp_path)])
    assert refused.value.problems == ["nothing could be drawn of reliability"]


@pytest.mark.parametrize(("words", "says"), [
    (["paretto"], "there is no picture 'paretto'; did you mean 'pareto'?"),
    (["--format", "gif"], "invalid choice"),
    (["--where", "accuracy >"], "--where: cannot read"),
    (["--where", "accuracy > 2"], "--where: none of the finished runs in"),
    (["--to", "FILE"], "is a file, wanted a folder"),
    (["--outputs", "EMPTY"], "there is no finished run in"),
    (["--outputs", "nowhere"], "there is no folder nowhere"),
])
def test_what_cannot_be_drawn_is_refused_in_a_line(outputs, tmp_path, words, says, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    words = [{"FILE": str(tmp_path / "file"), "EMPTY": str(tmp_path / "empty")}.get(word, word) for word in words]
    if "--outputs" not in words:
        words += ["--outputs", str(outputs)]
    assert main.main(["plot", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert len(told.err.splitlines()) == 1
    assert not (outputs / "plots").exists()
