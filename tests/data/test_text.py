"""Readers of labelled texts."""

import pytest

from kdrun.data.text import languages, text_table

COLUMNS = {"text": "text", "label": "label", "separator": ",", "test": 0.25, "test_table": None, "units": "characters",
           "lowercase": False, "most": None, "tokenizer": None, "length": 6}


def table(folder, name, *rows):
    path = folder / name
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return str(path)


def test_a_table_is_split_and_its_vocabulary_is_of_the_training_texts(tmp_path):
    letters = "abcdefgh"
    path = table(tmp_path, "all.csv", *(f"{letter}{letter},{'12'[place % 2]}" for place, letter in enumerate(letters)))
    source = text_table(train=path, **COLUMNS)
    assert source.classes == ("1", "2")
    assert (len(source.train), len(source.test)) == (6, 2)
    assert source.info == {"inputs": "tokens", "vocabulary": 9, "length": 6}  # three special tokens and six letters
    assert source.test.inputs[:, 1].tolist() == [2, 2]  # letters that nothing was trained on
    assert source.test.fields["lengths"].tolist() == [3, 3]
    assert "6 texts to train on and 2 to test on, 4 to 4 a class" in source.found


def test_a_test_table_of_its_own_words_and_labels_by_number(tmp_path):
    train = table(tmp_path, "train.csv", "one two three four five six,10", "two,9", '"two, one",9')
    source = text_table(train=train, **COLUMNS | {"test_table": table(tmp_path, "test.csv", "One seven,10"), "units": "words",
                                                  "lowercase": True, "most": 2})
    assert source.classes == ("9", "10")
    assert source.train.labels.tolist() == [1, 0, 0]
    assert source.test.inputs.tolist() == [[1, 4, 2, 0, 0, 0]]  # `two` is the most frequent, then `one`
    assert "1 text cut to 6" in source.found


@pytest.mark.parametrize(("changes", "rows", "words"), [
    ({"train": "nowhere.csv"}, [], "train: there is no file"),
    ({"text": "texts"}, ["a,b"], "has no column 'texts'; did you mean 'text'"),
    ({"label": "kind"}, ["a,b"], "has no column 'kind'; it has text, label"),
    ({}, ["a,b", "c,", "d, "], "has no label in row 3 and 1 more"),
    ({}, ['a,"b'], "cannot be read as a table"),
], ids=["no file", "near", "no column", "no label", "damaged"])
def test_what_is_wrong_with_a_table_is_said_in_a_line(tmp_path, changes, rows, words):
    given = COLUMNS | {"train": table(tmp_path, "train.csv", *rows)} | changes
    with pytest.raises(ValueError, match=words) as refused:
        text_table(**given)
    assert len(str(refused.value).splitlines()) == 1


def test_labels_that_were_never_trained_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has labels that .* has not: z"):
        text_table(train=table(tmp_path, "train.csv", "a,x", "b,y"),
                   **COLUMNS | {"test_table": table(tmp_path, "test.csv", "a,z")})


def test_names_of_languages_share_no_key_and_no_name():
    pytest.importorskip("babel")
    source = languages(codes=["de", "fr", "fi"], test=0.2, length=64)
    assert source.classes == ("de", "fr", "fi")
    keys = [set(part.fields["group"].tolist()) for part in (source.train, source.test)]
    assert not keys[0] & keys[1]
    assert abs(len(keys[1]) / (len(keys[0]) + len(keys[1])) - 0.2) < 0.01
    for part in (source.train, source.test):
        assert part.inputs.shape == (len(part.labels), 64)
        assert (part.inputs[:, 0] == 1).all()
        assert ((part.inputs > 0).sum(dim=1) == part.fields["lengths"]).all()
        assert part.labels.bincount().min() > 0.2 * len(part)
    rows = [tuple(row) for part in (source.train, source.test) for row in part.inputs.tolist()]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(("codes", "words"), [(["de"], "two or more"), (["de", "de"], "each once"),
                                              (["de", "xq"], "no language 'xq'")])
def test_languages_that_are_not_there_are_refused(codes, words):
    pytest.importorskip("babel")
    with pytest.raises(ValueError, match=words):
        languages(codes=codes, test=0.2, length=24)
