"""The last layer of a network."""

import pytest
import torch

from kdrun.models.classifier import classifier
from kdrun.models.plain import CNN
from kdrun.models.roles import Role
from kdrun.tasks.classification import Classification


def test_it_is_the_last_linear_layer_of_as_many_outputs():
    network = CNN(widths=[4, 6], classes=10, channels=1)
    assert classifier(Role(network, "teacher", Classification((), (1, 8, 8))), 10, "it needs") is network.head


def test_a_network_without_one_is_refused():
    teacher = Role(torch.nn.Conv2d(1, 1, 1), "teacher", Classification((), (1, 8, 8)), "strange")
    with pytest.raises(ValueError, match="it needs a teacher that ends in a linear layer of 10 outputs, and strange has none"):
        classifier(teacher, 10, "it needs")
