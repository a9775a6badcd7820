"""Texts that a spreadsheet would compute are written as texts, and read back as they were."""

import pandas
import pytest

from kdrun.evaluation.result_tables import write_csv
from kdrun.utils.cells import guarded, guarded_frame, unguarded


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x","y")', "+1+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "＝1", "-",
                                  "'=1", "''@x"])
def test_a_formula_becomes_a_text(text):
    assert guarded(text) == "'" + text
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("value", ["kd", "resnet8x4", "-1", "+0.5", "-1e9", "'quoted'", "", "a=b", -1, None, 2.5])
def test_anything_else_is_written_as_it_is(value):
    assert guarded(value) == value
    assert not isinstance(value, str) or unguarded(value) == value


def test_every_csv_is_guarded_and_its_numbers_are_as_before(tmp_path):
    write_csv(tmp_path / "x.csv", [{"class": "=1+1", "epochs": 3, "value": -1.5, "=head": True},
                                   {"class": None, "epochs": None, "value": None, "=head": None}])
    assert (tmp_path / "x.csv").read_text() == "class,epochs,value,'=head\n'=1+1,3,-1.5,True\n,,,\n"
    mixed = pandas.DataFrame({"a": pandas.Series([1, None, "x"], dtype=object), "b": pandas.Series([1, None, 2], dtype=object)})
    assert guarded_frame(mixed).to_csv() == mixed.to_csv()
