"""Which network here is the one that a table prints."""

import csv
from importlib.resources import files

import pytest
import torch

from kdrun.analysis.networks import printed_networks
from kdrun.config import registry
from tests.models.test_zoo import weightless

REPDISTILLER = [  # the pairs of its two tables
    ("wrn-40-2", "wrn-16-2"), ("wrn-40-2", "wrn-40-1"), ("resnet56", "resnet20"), ("resnet110", "resnet20"),
    ("resnet110", "resnet32"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"), ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"), ("ResNet50", "vgg8"), ("resnet32x4", "ShuffleNetV1"), ("resnet32x4", "ShuffleNetV2"),
    ("wrn-40-2", "ShuffleNetV1")]


def gou():
    """The pairs of Tables 5 and 6; a student that teaches itself has no teacher there."""
    for name in ("gou_table_5_cifar10.csv", "gou_table_6_cifar100.csv"):
        for row in csv.DictReader(files("kdrun.analysis").joinpath(name).read_text().splitlines()):
            yield row["teacher"], row["student"]


PRINTED = sorted({name for pair in (*gou(), *REPDISTILLER) for name in pair if name})


def test_every_name_has_a_choice_and_no_choice_is_of_a_name_that_is_not_printed():
    assert sorted(printed_networks()) == PRINTED
    assert {entry.choice for entry in printed_networks().values()} <= set(registry.options("model"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTED)
def test_every_network_can_be_built_for_the_tables_data(name):
    for classes in (10, 100):
        output = weightless(printed_networks()[name].choice, (3, 32, 32), classes)(torch.zeros(2, 3, 32, 32, device="meta"))
        assert output.logits.shape == (2, classes)


def test_what_results_call_it():
    named = {name: printed_networks()[name].name for name in ("MobileNetV2", "WRN-28-10", "DenseNet40", "ResNet20-x0.5")}
    assert named == {"MobileNetV2": "mobilenet_v2_x0.5", "WRN-28-10": "wrn_28_10", "DenseNet40": "densenet_40_12",
                     "ResNet20-x0.5": "resnet20x0.5"}
