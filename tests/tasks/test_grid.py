"""The grid of methods and tasks: what must run does, and what is refused is refused for what it lacks, in a line."""

import pytest

from kdrun.config import registry
from tests.tasks.grid import TASKS, outcome, task_of

METHODS = list(registry.options("method"))
RESPONSE = {key for key in METHODS if registry.method_card(key).knowledge == "response"}
RELATION = {key for key in METHODS if registry.method_card(key).knowledge == "relation"}

ONE_ROW = {"bss", "cnn2tree", "cskd", "dafl", "ddgsd", "dfad", "dr", "kimura_gp", "lwf", "zskd", "zskt"}
"""Response methods that work on samples as a whole: on their pictures, their class, or its classes one after the other."""
BRANCHES = {"byot", "okddip", "one"}
"""Those that branch off within the student, of which only kdrun's convolutional networks tell the parts."""

NETWORKS = {  # what refuses a method is not the task but the networks that the grid gives it
    "ranking": {"apprentice", "diff_quant", "quant_distill", "okddip", "one"},
    "segmentation": {"fsp", *BRANCHES}, "landmarks": {"fsp", *BRANCHES}, "detection": {"fsp", *BRANCHES}, "retrieval": {"fsp"},
    "texts": BRANCHES, "tagging": BRANCHES, "transcription": BRANCHES, "translation": {"fsp", *BRANCHES},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_method_runs_where_it_finds_what_it_needs(task):
    refused = {key: line for key in METHODS if (line := outcome(task, key))}
    gives = task_of(task).gives
    unmet = {key for key in METHODS if set(registry.method_card(key).needs) - gives}
