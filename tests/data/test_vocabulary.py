"""Texts as token ids."""

from kdrun.data.vocabulary import splitter, vocabulary_tokenizer


def test_characters_are_composed_and_white_space_is_one_space():
    assert splitter("characters", lowercase=False)(" e\u0301\t\nX ") == ["\u00e9", " ", "X"]


def test_words_and_marks_are_tokens():
    assert splitter("words", lowercase=True)("It's 12, Élan!") == ["it", "'", "s", "12", ",", "élan", "!"]


def test_ids_are_by_frequency_and_then_by_character():
    found = vocabulary_tokenizer(["bab", "ca"], "characters", lowercase=False, most=None)
    assert found.tokens == ("<pad>", "<cls>", "<unk>", "a", "b", "c")
    assert len(vocabulary_tokenizer(["bab", "ca"], "characters", lowercase=False, most=2)) == 5


def test_texts_start_with_cls_are_cut_and_padded():
    known = vocabulary_tokenizer(["ab"], "characters", lowercase=False, most=None)
    ids, lengths = known.encode(["ab", "", "bxaa"], 4)
    assert ids.tolist() == [[1, 3, 4, 0], [1, 0, 0, 0], [1, 4, 2, 3]]
    assert lengths.tolist() == [3, 1, 4]
    assert known.count("bxaa") == 5
