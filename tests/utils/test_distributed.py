"""Several processes give what one gives: the same losses, gradients, statistics and weights."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, multiprocessing, nn

from kdrun.models.plain import CNN
from kdrun.models.roles import Role
from kdrun.tasks.classification import Classification
from kdrun.training.loop import distill
from kdrun.utils import distributed
from tests.toy import toy_run

# each shares its batches out in a way of its own: logits, stages and two phases, relations, peers, a generator, a memory
# of samples
CASES = (("kd", "offline"), ("fitnets", "offline"), ("rkd", "offline"), ("dml", "online"), ("dafl", "offline"),
         ("crd", "offline"))
# Batch normalisation takes these biases away again: their gradient is rounding alone, and Adam makes steps of it
VOID = ("dafl offline method generator.middle.0.bias", "dafl offline method generator.late.0.bias",
        "dafl offline method generator.first.bias", "dafl offline method generator.last.bias")


def on_processes(count: int, job: Callable[..., Any], *given: Any, folder: Path) -> Any:
    """What a job returns on the first of so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(process, (count, port, job, given, folder), count, start_method="fork")  # imports nothing
    return torch.load(folder / "answer.pt", weights_only=True)


def process(rank: int, count: int, port: int, job: Callable[..., Any], given: tuple[Any, ...], folder: Path) -> None:
    """One of several processes, as torchrun starts them."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.start("cpu")
    answer = job(*given)
    if distributed.first():
        torch.save(answer, folder / "answer.pt")
    distributed.stop()


def gradients() -> list[Tensor]:
    """Of a generator, a network with batch statistics and a head, in double precision, through every kind of loss."""
    torch.manual_seed(0)
    network = distributed.synchronise(CNN(widths=[4, 8, 8], classes=4, channels=1)).double().train()
    generator, head = nn.Linear(8, 64).double(), nn.Linear(8, 8).double()
    role = Role(network, "student", Classification((), (1, 8, 8)))
    pictures = generator(torch.randn(16, 8).double()).view(16, 1, 8, 8)
    labels = torch.randint(4, (16,))
    answer = role(pictures)
    embedding = head(answer.embedding)
    (sensitivity,) = torch.autograd.grad(answer.logits.square().sum(), pictures, create_graph=True)
    loss = F.cross_entropy(answer.logits, labels) + torch.cdist(embedding, embedding).square().mean()
    loss = loss + answer.stages[0].square().mean() + pictures.square().mean() + 0.01 * sensitivity.square().mean()
    weights = [*network.parameters(), *generator.parameters(), *head.parameters()]
    loss.backward()
    distributed.average(weights)
    return [*(weight.grad for weight in weights), *(value.double() for value in network.buffers())]


def trained(cases: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    """The weights and statistics after a whole toy training, by method."""
    weights = {}
    for key, scheme in cases:
        run = toy_run(key, scheme)
        distill(run)
        for name, value in run.learners.items():
            weights |= {f"{key} {scheme} {name} {entry}": tensor for entry, tensor in value.state_dict().items()}
    return weights


def test_gradients_and_statistics_are_those_of_the_whole_batch(tmp_path):
    shared, alone = on_processes(2, gradients, folder=tmp_path), gradients()
    assert len(shared) == len(alone)
    for theirs, own in zip(shared, alone, strict=True):
        torch.testing.assert_close(theirs, own, rtol=1e-10, atol=1e-12)


def test_a_batch_that_does_not_divide_is_run_whole_by_each(tmp_path):
    shared, alone = on_processes(3, gradients, folder=tmp_path), gradients()  # 16 pictures, 3 processes
    for theirs, own in zip(shared, alone, strict=True):
        torch.testing.assert_close(theirs, own, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_methods_train_to_the_same_weights(tmp_path):
    shared, alone = on_processes(2, trained, CASES, folder=tmp_path), trained(CASES)
    assert shared.keys() == alone.keys()
    for name in alone.keys() - set(VOID):
        torch.testing.assert_close(shared[name], alone[name], rtol=1e-3, atol=1e-4,
                                   msg=lambda told, name=name: f"{name}: {told}")
