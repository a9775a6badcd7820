"""One run on several processes (torchrun): pictures are shared out, losses see the whole batch.

Every process holds the same networks and makes the same batch. A network runs on its own part of the batch, and what a
method reads of the answer is gathered from all, so each process computes the loss of the whole batch: relations between
samples and contrasts come out as on one process, and no method knows of any of this. Batch statistics are those of the
whole batch too. What remains different are the last bits (sums in another order) and, where a network draws at random
inside (dropout), the draws.

The gradients fit together by two rules. A tensor that all processes have alike has its true gradient on each of them. A
tensor that is one process's part has `count()` times its share, so that the mean over the processes is the true gradient
of a weight, whether the weight worked on parts or on the whole.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["any_of", "asked", "average", "count", "first", "gather", "part", "rank", "same", "sharing", "start", "stop",
           "synchronise", "wait"]

T = TypeVar("T")

_sharing = False  # whether the network that runs just now has a part of the batch alone


def asked() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def start(device: str) -> torch.device:
    """Join the other processes; returns the device of this one.

    Args:
        device: as configured: auto, cpu or cuda; each process of a machine takes a GPU of its own.

    Raises:
        ValueError: there are more processes than GPUs on this machine.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if cuda and local >= torch.cuda.device_count():
        raise ValueError(f"device: process {local} of this machine has no GPU of its own, there are "
                         f"{torch.cuda.device_count()}; start as many processes as there are GPUs, or set device=cpu")
    chosen = torch.device("cuda", local) if cuda else torch.device("cpu")
    if not dist.is_initialized():
        if cuda:
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if cuda else "gloo")
    return chosen


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes there are; 1 where nothing was started."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; known before the others are joined."""
    return int(os.environ.get("RANK", "0")) if asked() else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if count() > 1:
        dist.barrier()


def same(value: T) -> T:
    """What the first process has, on every process."""
    if count() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether a flag is up on any process."""
    raised = torch.tensor(float(flag), device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


class Gather(torch.autograd.Function):
    """The parts of all processes [n, ...], one below the other [N, ...]."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(count())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Part.apply(gradient) * count()


class Part(torch.autograd.Function):
    """The part [n, ...] of this process in what all have alike [N, ...]."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        return whole.chunk(count())[rank()].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Gather.apply(gradient) / count()


class Sum(torch.autograd.Function):
    """The sum over the processes of what each has."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Sum.apply(gradient)


def gather(own: Tensor) -> Tensor:
    """The parts of all processes, one below the other, differentiable any number of times."""
    return Gather.apply(own)


def part(whole: Tensor) -> Tensor:
    """The part of this process in what all have alike, differentiable any number of times."""
    return Part.apply(whole) if whole.requires_grad else whole.chunk(count())[rank()]


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Meanwhile the network that runs has a part of the batch alone, and batch statistics are those of the whole."""
    global _sharing
    _sharing = True
    try:
        yield
    finally:
        _sharing = False


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the whole batch; elsewhere what it always is.

    torch's own `SyncBatchNorm` does this on GPUs alone; this one does it anywhere, and twice differentiable.
    """

    counted: ClassVar[tuple[int, ...]] = (0, 2, 3)  # the dimensions that statistics are over

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps [n, C, H, W]."""
        if not self.training or not _sharing:
            return super().forward(x)
        whole = x.to(torch.promote_types(x.dtype, torch.float32))
        samples = whole.numel() // whole.shape[1] * count()
        mean = Sum.apply(whole.sum(self.counted)) / samples
        centred = whole - mean[:, None, None]
        variance = Sum.apply(centred.square().sum(self.counted)) / samples
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                pace = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.detach(), pace)
                self.running_var.lerp_(variance.detach() * samples / max(samples - 1, 1), pace)
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)


def synchronise(network: nn.Module) -> nn.Module:
    """Let a network's batch statistics be those of the whole batch. Its weights and their names stay as they are."""
    if count() > 1:
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SynchronisedBatchNorm2d
    return network


def average(weights: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes: all of them in one exchange."""
    if count() == 1:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= count()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
