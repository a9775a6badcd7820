"""The grid of methods and tasks: what finds what it needs runs, and what is refused is refused for what it lacks, in a line."""

import pytest

from kdrun.config import registry
from kdrun.config.instantiation import locate
from tests.tasks.grid import PARTIAL_TEACHERS, TASKS, outcome, task_of
from tests.toy import SHAPES

CARDS = {key: registry.method_card(key) for key in registry.options("method")}

WHOLE_SAMPLES = {"amalgam_adaptive", "attentive_rules", "bss", "cheap_online", "cm_albanie", "cmi", "cnn2tree", "cskd", "dafl",
                 "data_distill", "ddgsd", "deepinv", "dfad", "dfq", "do_vqa", "dr", "dualgan_ka", "fn", "funmatch", "gan_tsc",
                 "gd", "graph_distill", "icarl", "kdgan", "kegnet", "kimura_gp", "know_adapt", "knowledge_within", "ksanc",
                 "lwf", "m2kd", "mean_teacher", "modality_distill", "mt_two_stage", "noisy_student", "pate", "skd_embed",
                 "sla_sd", "ss_cluster", "stochastic_teacher", "two_teacher", "uhc", "zhao_heatmap", "zskd", "zskt"}
"""Response methods that work on samples as a whole: on their pictures, class, or heatmaps, or one class after the other."""
BRANCHES = {"byot", "dcm", "ekd_branches", "ffl", "knowledge_flow", "multi_exit", "oec", "okddip", "one"}
"""Those that branch off within the student, which kdrun's convolutional classifiers alone let them."""
CHANNELS = {"fsp", "kdsvd", "kr_repr", "mhgd"}
"""Those that pair stages of equal channels, which networks of one width alone have."""
MADE = {"blockwise", "cross_distill", "fskd", "net2net", "triage"}
"""Those that make the student from the teacher, whose layers they have to know."""
SEARCHED = {"nas_adanas", "nas_dna", "nas_l1gates", "nas_tgsa"}
"""Those that make the student of layers that classify pictures, or cut it out of such a teacher."""
DENSE = CHANNELS | BRANCHES | MADE | SEARCHED | {"stochastic_teacher"}
"""Those that networks which answer with maps do not fit: they are of one width, and neither residual nor parted."""
OTHER_ANSWERS = {"gan_compress", "lifelong_gan", "zhao_heatmap"}
"""Those of answers that are pictures, or heatmaps of keypoints."""
LIFELONG = {"dr", "gd", "icarl", "lucir", "lwf", "m2kd", "podnet"}
"""Those that are tested on the classes that they learned."""
SGD = {"l2t_ww"}
"""Those that differentiate steps of SGD, where the data set's own recipe trains by AdamW."""
NETWORKS = {  # where it is the networks that do not fit: these have no branches, no layers to quantize, maps of other widths
    "texts": BRANCHES | SGD | {"cm_albanie"}, "tagging": BRANCHES | SGD, "transcription": BRANCHES | SGD,
    "translation": BRANCHES | SGD, "segmentation": DENSE | SGD, "detection": DENSE | SGD,
    "landmarks": DENSE | SGD | {"cgan_kd"},  # whose layers have no output a row
    "retrieval": {*CHANNELS, *LIFELONG, *PARTIAL_TEACHERS, "ktn", "nas_dna", "net2net", "sla_sd", "ss_cluster", "sskd_ss"},
    # its pictures are not square, its student is smaller, and its test of other classes
    "ranking": {"apprentice", "compress", "diff_quant", "gslr", "okddip", "one", "qkd", "quant_distill"},
}


def of_kind(knowledge: str) -> set[str]:
    """Methods that carry over this first of all."""
    return {key for key, card in CARDS.items() if card.knowledge[:1] == (knowledge,)}


EVERY_METHOD = ("pictures", "tagging", "segmentation", "ranking", "retrieval")
"""Tasks of each kind of answer, on which all methods are tried; on the others one of each shape, and what is refused there."""


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_method_runs_where_it_finds_what_it_needs(task):
    tried = set(CARDS) if task in EVERY_METHOD else {*SHAPES.values(), *NETWORKS[task], *OTHER_ANSWERS}
    refused = {key: line for key in CARDS if key in tried and (line := outcome(task, key))}
    assert [line for line in refused.values() if "\n" in line] == []
    gives = task_of(task).gives - ({"maps"} if task == "ranking" else set())  # networks that rank have none
    needs = {key: set(locate(registry.load("method", key)["_target_"], "method").needs) for key in tried}
    lacking = {key: own - gives for key, own in needs.items() if own - gives}
    assert set(refused) == set(lacking) | NETWORKS.get(task, set())
    for key, own in lacking.items():
        assert any(need in refused[key] for need in own), refused[key]
        # it says what of its kind runs there
        assert "would do" in refused[key] or own == {"maps"} or not CARDS[key].knowledge, refused[key]
    if task in ("tagging", "segmentation"):  # every response method runs there, unchanged
        assert of_kind("response") & set(refused) == of_kind("response") & (
            WHOLE_SAMPLES | BRANCHES | SEARCHED | OTHER_ANSWERS)
    if task == "texts":
        assert of_kind("relation") & set(refused) <= {"sskd_ss", *SEARCHED}  # the first turns pictures
    if task == "pictures":
        assert set(refused) == OTHER_ANSWERS
