"""What Hydra is told beside the files."""

import copy

from hydra.core.config_store import ConfigStore

from tests.toy import settings_of


def test_a_composition_neither_copies_nor_changes_what_is_registered():
    plain = settings_of("teacher=cnn", "method=takd")
    store = ConfigStore.instance()
    assert copy.deepcopy(store).repo is store.repo  # Hydra does this for every job
    other = settings_of("teacher=cnn", "teacher.widths=[1,2,3]", "method=takd", "method/base=at", "method.base.weight=7")
    assert other.values["teacher"]["widths"] == [1, 2, 3]
    assert other.values["method"]["base"]["weight"] == 7
    again = settings_of("teacher=cnn", "method=takd")
    assert again == plain
