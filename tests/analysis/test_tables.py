"""The tables: what is ranked with what, what stands beside what, and that every form of a table says the same."""

import csv
import io
import re

import pytest
from rich.console import Console

from kdrun.analysis import published, rendering
from kdrun.analysis.measured import Scoring, measured, same_data, same_network
from kdrun.analysis.run_index import collect
from kdrun.analysis.tables import TABLES, Wanted, tables
from kdrun.config import registry
from tests.analysis.runs import write_run


def grid(outputs, name, **wanted):
    """One table of what lies there."""
    (made,) = tables(collect(outputs), Wanted(**wanted), [name])
    return made


def rows_of(part):
    """Its rows by method."""
    return {row["method"]: row for row in part.rows}


def test_nothing_measured_otherwise_is_ranked_together(three_seeds):
    made = grid(three_seeds, "league")
    assert len(made.parts) == 2
    few, whole = made.parts if "100 pictures" in made.parts[0].heading else reversed(made.parts)
    assert "100 pictures" in few.heading
    assert [row["rank"] for row in few.rows] == [None, None, 1]
    assert rows_of(whole)["kd"]["rank"] == 1
    assert rows_of(whole)["at"]["rank"] == 2


def test_too_few_seeds_have_no_rank_and_no_verdict(three_seeds):
    whole = next(part for part in grid(three_seeds, "league").parts if "100 pictures" not in part.heading)
    row = whole.rows[-1]
    assert (row["method"], row["seeds"], row["rank"], row["p"], row["verdict"]) == (
        "sp", 2, None, None, "no test possible with 2 seeds")


def test_league_figures(three_seeds):
    row = rows_of(next(part for part in grid(three_seeds, "league").parts if "100 pictures" not in part.heading))["kd"]
    assert row["accuracy"].mean == pytest.approx(0.92)
    assert row["accuracy"].deviation == pytest.approx(0.01)
    assert row["gap"].mean == pytest.approx(0.04)
    assert row["p"] == pytest.approx(0.25)
    assert row["p_holm"] == pytest.approx(0.5)  # of two methods tested; the third has too few seeds
    assert row["verdict"] == "no test possible with 3 seeds"
    half = 4.302653 * 0.01 / 3 ** 0.5
    assert (row["gap_ci_low"], row["gap_ci_high"]) == (pytest.approx(0.04 - half), pytest.approx(0.04 + half))
    assert row["relative_error"].mean == pytest.approx(0.08 / 0.05)
    assert row["factor"].mean == 4
    assert row["score"].mean == pytest.approx(0.5 * 0.25 + 0.5 * (1 - 0.92 / 0.95))


def test_a_gap_that_no_test_can_judge_is_shown_with_its_interval(tmp_path):
    for seed, reached in ((1, 0.80), (2, 0.78), (3, 0.82)):
        write_run(tmp_path, "crd", seed, reached, alone=0.88)
        write_run(tmp_path, "kd", seed, 0.88 + seed / 1000, alone=0.88)
    made = grid(tmp_path, "league")
    told = rendering.markdown(made)
    assert "-8.00 [-12.97, -3.03]" in told
    assert "no test possible with 3 seeds" in told
    assert "1.000" not in told  # no p where there is no test
    assert "2 methods: 7 seeds" in told
    assert rows_of(made.parts[0])["crd"]["needs"] == 7
    console = Console(width=110)
    with console.capture() as captured:
        console.print(rendering.terminal(made, 110))
    assert captured.get().count("no test possible with 3 seeds") == 2  # on one line, at the cost of other columns
    by_t = rows_of(grid(tmp_path, "league", test="t").parts[0])
    assert by_t["crd"]["verdict"] == "worse"  # t = -6.93, p = 0.0202, of two 0.0404


def test_a_weak_teacher_is_marked_and_not_ranked_unless_asked(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path, "kd", seed, 0.45 + seed / 100, taught=0.25, alone=0.42)
        write_run(tmp_path, "tfkd_self", seed, 0.40, taught=None, alone=0.42, under="self")
    made = grid(tmp_path, "league")
    rows = rows_of(made.parts[0])
    assert (rows["kd"]["rank"], rows["kd"]["weak_teacher"], rows["tfkd_self"]["rank"]) == (None, True, 1)
    told = rendering.markdown(made)
    assert "kd !" in told
    assert "25.00 % against 42.00 %" in told
    assert rows_of(grid(tmp_path, "league", rank_weak=True).parts[0])["kd"]["rank"] == 1
    assert not any(row["best"] for row in grid(tmp_path, "distillation_score").parts[1].rows)
    assert any(row["best"] for row in grid(tmp_path, "distillation_score", rank_weak=True).parts[1].rows)


def test_references_stand_once(three_seeds):
    whole = next(part for part in grid(three_seeds, "league").parts if "100 pictures" not in part.heading)
    assert [row["method"] for row in whole.rows[:2]] == ["teacher", "student alone"]
    assert [row["seeds"] for row in whole.rows[:2]] == [3, 3]


def test_no_distillation_is_not_tested_against_itself(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path, "vanilla", seed, 0.88, alone=0.88)
        write_run(tmp_path, "kd", seed, 0.88 + seed / 100, alone=0.88)
    rows = rows_of(grid(tmp_path, "league").parts[0])
    assert rows["vanilla"]["p"] is None
    assert rows["kd"]["p_holm"] == rows["kd"]["p"] == pytest.approx(0.25)


@pytest.mark.parametrize(("sort", "order"), [("accuracy", ["kd", "at"]), ("method", ["at", "kd"]), ("score", ["kd", "at"]),
                                             ("relative_error", ["kd", "at"]), ("gap", ["kd", "at"])])
def test_sorting(three_seeds, sort, order):
    whole = next(part for part in grid(three_seeds, "league", sort=sort).parts if "100 pictures" not in part.heading)
    assert [row["method"] for row in whole.rows[2:4]] == order
    assert rows_of(whole)["kd"]["rank"] == 1


def test_equal_methods_share_their_rank(tmp_path):
    for key, accuracy in (("kd", 0.9), ("at", 0.9), ("sp", 0.8)):
        for seed in (1, 2, 3):
            write_run(tmp_path, key, seed, accuracy)
    rows = rows_of(grid(tmp_path, "league").parts[0])
    assert [rows[key]["rank"] for key in ("at", "kd", "sp")] == [1, 1, 3]


@pytest.mark.parametrize(("alpha", "unit", "score"), [(0.5, "parameters", 0.5 * 0.25 + 0.5 * 0.1), (0.0, "bits", 0.1),
                                                      (1.0, "bytes", 0.25), (0.7, "parameters", 0.7 * 0.25 + 0.3 * 0.1)])
def test_scores_are_computed_anew(tmp_path, alpha, unit, score):
    write_run(tmp_path, "kd", 1, 0.9, taught=1.0)
    (one,) = measured(collect(tmp_path), Scoring(alpha, unit))
    assert one.score.mean == pytest.approx(score)


def test_worked_example():
    made = TABLES["distillation_score"]([], Wanted())
    (part,) = made.parts
    assert [(row["printed"], round(row["score"].mean, 3), row["best"]) for row in part.rows] == [
        (0.138, 0.138, True), (0.21, 0.21, False), (0.218, 0.218, False), (0.333, 0.333, False)]


@pytest.mark.parametrize(("alpha", "best"), [(0.09, 62.84), (0.1, 35.36), (0.22, 35.36), (0.23, 15.25), (0.70, 15.25),
                                             (0.71, 3.74)])
def test_the_best_student_of_the_example_changes_with_alpha(alpha, best):
    part = TABLES["distillation_score"]([], Wanted(scoring=Scoring(alpha))).parts[-1]
    (row,) = (row for row in part.rows if row["best"])
    assert 100 * row["size_ratio"] == pytest.approx(best)


def test_methods_without_a_teacher_have_no_score(tmp_path):
    write_run(tmp_path, "dml", taught=None, under="online")
    assert len(grid(tmp_path, "distillation_score").parts) == 1


def test_every_printed_row_is_shown_whatever_was_measured(tmp_path):
    for name in ("gou_5", "gou_6"):
        table = name.replace("gou_", "Gou ")
        rows = grid(tmp_path, name).parts[0].rows
        assert [row["method"] for row in rows] == [row.name for row in published.rows(table)]
        for row, printed in zip(rows, published.rows(table), strict=True):
            assert (row["kdrun"] == "no method here") == (not printed.methods)
            assert row["measured"] is None


def test_other_data_stands_apart_and_has_no_difference(tmp_path):
    write_run(tmp_path, "fsp", 1, 0.9, alone=0.88)
    first, apart = grid(tmp_path, "gou_5").parts
    assert all(row["measured"] is None for row in first.rows)
    (row,) = apart.rows
    assert "digits" in apart.heading
    assert row["delta"] is None
    assert row["measured"].mean == pytest.approx(90)
    assert row["delta_gain"] == pytest.approx(2.0 - (88.70 - 87.91))


def test_the_rows_own_data_and_networks_stand_beside_it(tmp_path):
    pair = {"dataset": {"name": "cifar10"}, "teacher": {"name": "resnet26"}, "student": {"name": "resnet8"}}
    write_run(tmp_path, "fsp", 1, 0.89, alone=0.88, **pair)
    (part,) = grid(tmp_path, "gou_5").parts
    (row,) = (row for row in part.rows if row["measured"])
    assert row["method"].startswith("FSP")
    assert row["delta"] == pytest.approx(89 - 88.70)


def test_a_row_of_methods_together_has_their_sum_beside_it(tmp_path):
    pair = {"dataset": {"name": "cifar100"}, "teacher": {"name": "resnet50"}, "student": {"name": "vgg11"}}
    write_run(tmp_path, "rkd", 1, 0.74, alone=0.71, **pair)
    for parts in ("+rkd+kd", "+at+kd"):
        write_run(tmp_path, "combine", 1, 0.74, alone=0.71, name=f"combine{parts}", parts=parts, **pair)
    rows = [row for row in grid(tmp_path, "gou_6").parts[0].rows if row["method"].startswith("RKD")]
    assert sorted(row["kdrun"].partition(" ")[0] for row in rows) == ["combine+rkd+kd", "rkd"]


@pytest.mark.parametrize("change", [{"dataset": {"name": "cifar10", "train_limit": 500}}, {"teacher": {"name": "resnet32"}},
                                    {"student": {"name": "resnet14"}}, {"dataset": {"name": "cifar100"}}])
def test_almost_the_rows_own_is_other_data(tmp_path, change):
    pair = {"dataset": {"name": "cifar10"}, "teacher": {"name": "resnet26"}, "student": {"name": "resnet8"}}
    write_run(tmp_path, "fsp", 1, 0.89, **{**pair, **change})
    assert len(grid(tmp_path, "gou_5").parts) == 2


def test_networks_that_learn_together_are_matched_by_the_peer(tmp_path):
    write_run(tmp_path, "dml", 1, 0.93, taught=None, under="online", peers=("wrn_28_10",), dataset={"name": "cifar10"},
              student={"name": "resnet32"})
    rows = [row for row in grid(tmp_path, "gou_5").parts[0].rows if row["measured"]]
    assert [(row["teacher"], row["student"]) for row in rows] == [("WRN-28-10", "ResNet32")]


def test_reductions(tmp_path):
    write_run(tmp_path, "rco", 1, 0.9, taught=0.95, alone=0.88)
    row = grid(tmp_path, "alkhulaifi_1").parts[1].rows[0]
    assert row["reference"] == "Jin et al. (2019)"
    assert row["measured_reduction"].mean == pytest.approx(100 * 0.05 / 0.95)
    assert row["measured_improvement"].mean == pytest.approx(100 * 0.02 / 0.88)
    assert row["measured_size_reduction"].mean == 75


def test_published_percentages_are_relative():
    """Rocket: of the accuracies in Gou's Table 5 follow the percentages in Alkhulaifi's Table 2."""
    from kdrun.evaluation.scores import accuracy_reduction_pct, improvement_pct

    gou = next(row.cells for row in published.rows("Gou 5") if row.name.startswith("Rocket"))
    printed = next(row.cells for row in published.rows("Alkhulaifi 2") if row.name.startswith("Zhou"))
    assert accuracy_reduction_pct(gou["student_accuracy"], gou["teacher_accuracy"]) == pytest.approx(
        printed["reduction_vs_teacher_pct"], abs=1e-3)
    assert improvement_pct(gou["student_accuracy"], gou["student_baseline_accuracy"]) == pytest.approx(
        printed["improvement_vs_baseline_pct"], abs=1e-3)


def test_the_surveys_own_rule_for_rows(tmp_path):
    write_run(tmp_path, "rco", 1, 0.90, taught=0.95)                                   # reduction 5.3 %
    write_run(tmp_path, "rco", 1, 0.94, taught=0.95, dataset={"name": "mnist"})        # 1.1 %
    assert len(grid(tmp_path, "alkhulaifi_1").parts) == 3
    _, part = grid(tmp_path, "alkhulaifi_1", select="alkhulaifi").parts
    (row,) = part.rows
    assert row["measured_on"].startswith("mnist")


def test_taxonomy_is_made_of_what_methods_say():
    for name in ("gou_1", "gou_2", "gou_3", "gou_4"):
        table = name.replace("gou_", "Gou ")
        (part,) = TABLES[name]([], Wanted()).parts
        here = {key for row in part.rows for key in row["methods"] or ()}
        assert here == {key for key in registry.options("method") if table in registry.method_card(key).survey_tables}
        for row in part.rows:
            assert (row["methods"] is None) == (row["agrees"] is None)


def test_taxonomy_says_where_a_method_parts_from_the_print():
    (part,) = TABLES["gou_1"]([], Wanted()).parts
    rows = {row["method"].partition(" (")[0]: row for row in part.rows}
    assert rows["Fitnet"]["agrees"] == "yes"
    assert rows["Rocket Launching"]["agrees"] == "knowledge: printed feature"  # its hint is of logits


def test_notes_are_of_rows_there_are():
    for table in published.FILES:
        names = {row.name for row in published.rows(table)}
        assert {row for row, _ in published.notes(table) if row} <= names
    assert any("exchanged" in words for _, words in published.notes("Gou 5"))


@pytest.mark.parametrize(("printed", "name", "same"), [
    ("WRN-16-1", "wrn_16_1", True), ("ResNet32+ONE", "resnet32", True), ("ResNet20-x0.5", "resnet20x0.5", True),
    ("Resnet56", "resnet56", True), ("ResNet20", "resnet20x0.5", False), ("WRN-16-1", "wrn_16_2", False),
    ("MobileNetV2", "mobilenet_v2_x0.5", True), (None, "resnet8", False), ("U-Net", "u_net", False), ("ResNet8", None, False),
])
def test_names_of_networks(printed, name, same):
    assert same_network(printed, name) is same


@pytest.mark.parametrize(("printed", "name", "same"), [
    ("CIFAR100", "cifar100", True), ("CIFAR-10", "cifar10", True), ("CIFAR10", "cifar10 (500 pictures)", False),
    ("MNIST", "fashion_mnist", False),
])
def test_names_of_data(printed, name, same):
    assert same_data(printed, name) is same


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("name", TABLES)
def test_a_terminal_holds_every_table(three_seeds, name, width):
    write_run(three_seeds, "fsp", 1, 0.9)
    made = grid(three_seeds, name)
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(rendering.terminal(made, width))
    told = captured.get()
    assert max(map(len, told.splitlines())) <= width
    for part in made.parts:
        columns = made.shown(part, rendering.narrowed(made, width))
        figures = {line for column in columns if column.right for row in part.rows for line in column.show(row).split("\n")}
        assert [figure for figure in figures if figure not in told] == []
        if width >= 100:
            words = {word for column in columns for row in part.rows for word in column.show(row).split()}
            assert [word for word in words if word not in told] == []


@pytest.mark.parametrize("name", TABLES)
def test_every_form_of_a_table_has_every_row(three_seeds, tmp_path, name):
    write_run(three_seeds, "fsp", 1, 0.9)
    made = grid(three_seeds, name)
    count = sum(len(part.rows) for part in made.parts)
    paths = {path.suffix: path.read_text() for path in rendering.write(made, tmp_path / "tables")}
    assert len(list(csv.DictReader(io.StringIO(paths[".csv"])))) == count
    assert len(re.findall(r"^\|(?! ?:?-|[^|]*:?-+:?\|)", paths[".md"], re.MULTILINE)) == count + len(made.parts)
    assert paths[".tex"].count(r" \\" + "\n") == count + len(made.parts)
    assert paths[".html"].count("<tr>") == count + len(made.parts)
    for kind in ("table}", r"\toprule", r"\midrule", r"\bottomrule"):
        assert kind in paths[".tex"]
    assert paths[".tex"].count(r"\begin{tabular}") == paths[".tex"].count(r"\end{tabular}") == len(made.parts)


def test_a_table_can_be_read_back_unrounded(three_seeds, tmp_path):
    rendering.write(grid(three_seeds, "league"), tmp_path / "tables")
    with (tmp_path / "tables" / "league.csv").open() as file:
        rows = {(row["method"], "100" in row["comparison"]): row for row in csv.DictReader(file)}
    row = rows["kd", False]
    assert (float(row["accuracy"]), float(row["accuracy_sd"]), row["accuracy_n"]) == (
        pytest.approx(0.92), pytest.approx(0.01), "3")
    assert "measured by you" in row["part"]


def test_the_same_runs_make_the_same_files(three_seeds, tmp_path):
    texts = [[path.read_text() for path in rendering.write(grid(three_seeds, "league"), tmp_path / place)] for place in "ab"]
    assert texts[0] == texts[1]


def test_nothing_measured_is_said():
    made = TABLES["league"]([], Wanted())
    assert "Nothing measured yet" in rendering.markdown(made)
