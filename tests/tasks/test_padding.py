"""More padding changes no loss and no gradient of a method, from samples to weights."""

import pytest
import torch
from torch.nn.functional import pad

from kdrun.data.samples import Samples
from kdrun.methods.losses import kd
from kdrun.models.recurrent import BiLSTM
from kdrun.models.roles import Networks, Role, frozen
from kdrun.tasks.base import task_class

LENGTHS = torch.tensor([6, 1, 4])
LABELS = {"tagging": torch.tensor([[0, 1, 1, 2, 0, 0], [2, *[-100] * 5], [1, 1, 0, 2, -100, -100]]),
          "transcription": torch.tensor([[1, 2, 2], [3, 0, 0], [0, 0, 0]])}


def losses(key: str, padding: int, order: list[int]) -> list[torch.Tensor]:
    """The label loss and the distillation loss of a batch, and the student's gradients of their sum."""
    inputs = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    labels = pad(LABELS[key], (0, padding), value=-100) if key == "tagging" else LABELS[key]
    samples = Samples(pad(inputs, (0, 0, 0, padding), value=5.0), labels, {"lengths": LENGTHS})
    task = task_class(key)(("a", "b", "c"), (6 + padding, 4))
    roles = []
    for width in (3, 5):
        torch.manual_seed(width)
        network = BiLSTM(width=width, layers=2, embedding=1, dropout=0.0, features=4, classes=task.outputs, per_place=True)
        roles.append(Role(network, "student", task))
    networks = Networks(roles[0], [frozen(roles[1], "teacher")])
    batch = task.batch(samples, torch.tensor(order), samples.inputs[order])
    student, teacher = networks.student(batch), networks.teacher(batch)
    found = [task.label_loss(student, batch), kd(student.logits, teacher.logits, 4.0)]
    sum(found, torch.zeros(())).backward()
    return found + [weight.grad for weight in networks.student.parameters() if weight.grad is not None]


@pytest.mark.parametrize("key", list(LABELS))
def test_neither_padding_nor_the_order_of_samples_changes_a_loss_or_a_gradient(key: str) -> None:
    plain = losses(key, 0, [0, 1, 2])
    assert len(plain) > 10
    for other in (losses(key, 3, [0, 1, 2]), losses(key, 0, [2, 0, 1])):
        for first, second in zip(plain, other, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)
