"""The methods by the surveys' orders: every method has its place, and the figures are those of one set of conditions."""

import pytest

from kdrun.analysis.measured import Scoring, measured
from kdrun.analysis.run_index import collect
from kdrun.analysis.views import FAMILIES, OTHER, STUDENTS, cards, families, families_of, student_kind, taxonomy
from kdrun.config import registry
from tests.analysis.runs import write_run


def found(outputs):
    return measured(collect(outputs), Scoring())


def test_every_method_is_in_a_family_and_those_of_the_tables_in_theirs():
    made = families([])
    parts, empty = made.parts, [name for name in FAMILIES if not any(name in families_of(card) for card in cards())]
    assert [part.heading.partition(":")[0].partition(" (")[0] for part in parts] == [
        name for name in [*FAMILIES, OTHER] if name not in empty]
    assert all(any(note.startswith("No method yet") and name in note for note in made.notes) for name in empty)
    shown = [(row["family"], row["method"]) for part in parts for row in part.rows]
    assert shown == [(name, card.key) for name in [*FAMILIES, OTHER] for card in cards() if name in families_of(card)]
    assert {key for _, key in shown} == set(registry.options("method")) - {"vanilla", "combine"}
    assert families_of(registry.method_card("dml")) == ["multi-teacher"]  # Gou's Table 3, no section of its own
    assert families_of(registry.method_card("pkt")) == ["cross-modal"]
    assert families_of(registry.method_card("zskt")) == ["adversarial", "data-free"]
    assert families_of(registry.method_card("kd")) == [OTHER]


def test_families_show_the_conditions_that_most_methods_share(tmp_path):
    for key in ("kd", "dml", "at"):
        write_run(tmp_path, key, 1, 0.9, alone=0.88)
    write_run(tmp_path, "kd", 1, 0.7, alone=0.6, dataset={"name": "mnist"})
    made = families(found(tmp_path))
    rows = {row["method"]: row for part in made.parts for row in part.rows}
    assert rows["kd"]["measured"].mean == pytest.approx(0.9)
    assert rows["kd"]["conditions"] == 2
    assert rows["dml"]["gain"].mean == pytest.approx(0.02)
    assert rows["rkd"]["measured"] is None
    assert any("digits" in note for note in made.notes)


@pytest.mark.parametrize(("row", "kind"), [
    ({"student": "resnet8", "teacher": "resnet20", "parameters": 100, "teacher_parameters": 400, "bits": 3200}, "simplified"),
    ({"student": "resnet8", "teacher": "resnet8", "parameters": 100, "teacher_parameters": 100, "bits": 3200}, "the same"),
    ({"student": "resnet8", "teacher": None, "parameters": 100, "teacher_parameters": None, "bits": 3200}, "the same"),
    ({"student": "resnet8", "teacher": None, "peers": "resnet8", "parameters": 100, "bits": 3200}, "the same"),
    ({"student": "resnet8", "teacher": "resnet8", "parameters": 100, "teacher_parameters": 100, "bits": 400}, "quantized"),
    ({"student": "resnet20", "teacher": "resnet8", "parameters": 400, "teacher_parameters": 100, "bits": 12800}, "larger"),
    ({"student": "torchvision.mobilenet_v2", "teacher": "resnet50", "parameters": 9, "teacher_parameters": 90, "bits": 288},
     "efficient"),
])
def test_how_a_student_relates_to_its_teacher(row, kind):
    assert student_kind(row) == kind


def test_the_orders_of_the_surveys(tmp_path):
    write_run(tmp_path, "kd", 1, 0.9)
    write_run(tmp_path, "vanilla", 1, 0.9)
    tree, students, forms, crossed = taxonomy(found(tmp_path)).parts
    assert sum(int(row["line"].split()[0]) for row in tree.rows) == 27  # the rows of Alkhulaifi's two tables
    assert "ban" in next(row for row in tree.rows if row["class"] == "soft labels, offline")["methods"]
    assert [row["class"] for row in students.rows] == list(STUDENTS)
    assert {row["class"]: row["methods"] for row in students.rows}["simplified"] == "kd*"
    kinds = {row["class"]: row["methods"].replace("*", "").split(", ") for row in forms.rows}
    for key in ("crd", "kd", "at"):
        card = registry.method_card(key)
        assert [key in kinds[name] for name in ("output feature", "intermediate feature", "relationship", "structural")] == [
            *(kind in card.knowledge for kind in ("response", "feature", "relation")), card.structural]
    (one,) = (row for row in crossed.rows if row["class"] == "response, offline")
    assert "kd*" in one["methods"]
    assert one["measured"] == 1
