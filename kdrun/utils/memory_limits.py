"""What a machine can hold: asked for while networks are built, so that what is too large is refused and nothing is killed."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registry

__all__ = ["LEARNING", "MODULES", "allowed", "free_memory"]

MODULES = 20_000  # four times those of a ResNet-1202: building so many takes seconds already
LEARNING = 3  # of each weight that learns there are so many: itself, its gradient, what the optimizer keeps of it

MEMORY = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
GROUPS = ((Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
          (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")))


def free_memory() -> int | None:
    """Bytes that this process may still take, of the machine and of its container; None where the system does not tell."""
    try:
        found = [1024 * number_in(MEMORY, "MemAvailable")]
    except (OSError, ValueError):
        return None
    for limit, used in GROUPS:
        with contextlib.suppress(OSError, ValueError):  # not there, or no limit: "max"
            found.append(int(limit.read_text()) - int(used.read_text()))
    return max(min(found), 0)


def number_in(path: Path, name: str) -> int:
    """The number behind a name in a file of the system."""
    found = re.search(rf"^{name}:\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} does not tell {name}")
    return int(found[1])


@contextlib.contextmanager
def allowed(copies: int = 1, on_host: bool = True) -> Iterator[None]:
    """Build within: networks, data, a small step of a training. What is larger than the machine is refused at once.

    Allocations beyond the memory that is free fail instead of being granted and then paid for by the system's killing
    somebody; modules and the weights they own are counted while they are made.

    Args:
        copies: how many there will be of each weight.
        on_host: whether it is in the machine's own memory, and not a GPU's, that there has to be room for everything.

    Raises:
        ValueError: it takes too much, with a line that says how much.
    """
    free = free_memory()
    count = Count(free, copies)
    hooks = [registry.register_module_module_registration_hook(count.module),
             registry.register_module_parameter_registration_hook(count.weight)]
    try:
        with limited(free if on_host else None):
            yield
    except MemoryError as error:
        raise ValueError(f"it takes more memory than the {gigabytes(free)} that are free") from error
    except torch.OutOfMemoryError as error:  # of a GPU
        raise ValueError(str(error).splitlines()[0]) from error
    except (RuntimeError, TypeError, OverflowError) as error:
        wanted = re.search(r"allocate (\d+) bytes|([Oo]verflow|too large)", str(error))
        if wanted is None:
            raise
        size = gigabytes(int(wanted[1])) if wanted[1] else "more than can be counted"
        raise ValueError(f"it takes {size} of memory at once, and {gigabytes(free)} are free") from error
    finally:
        for hook in hooks:
            hook.remove()


class Count:
    """The modules made so far, and the bytes that training their weights takes.

    Args:
        free: bytes that there are; None for unknown.
        copies: of each weight.
    """

    def __init__(self, free: int | None, copies: int) -> None:
        self.free, self.copies, self.modules, self.bytes = free, copies, 0, 0

    def module(self, owner: nn.Module, name: str, made: nn.Module | None) -> None:
        """One more.

        Raises:
            ValueError: it is one too many.
        """
        self.modules += 1
        if self.modules > MODULES:
            raise ValueError(f"it has more than {MODULES:,} modules (layers, blocks, ...), which is more than can be trained; "
                             "give a smaller depth or fewer networks")

    def weight(self, owner: nn.Module, name: str, made: Any) -> None:
        """One more.

        Raises:
            ValueError: together they take more than there is.
        """
        if made is not None:
            self.bytes += self.copies * made.numel() * made.element_size()
        if self.free is not None and self.bytes > self.free:
            more = ", their gradients and what the optimizer keeps" if self.copies > 1 else " alone"
            raise ValueError(f"its weights{more} take {gigabytes(self.bytes)} of memory or more; {gigabytes(self.free)} are "
                             "free; give smaller or fewer networks")


@contextlib.contextmanager
def limited(free: int | None) -> Iterator[None]:
    """Grant this process no more memory inside than there is, where the system can be told so."""
    if free is None or not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = 1024 * number_in(STATUS, "VmData") + free
    bounds = [bound for bound in (most, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def gigabytes(size: int | None) -> str:
    """A number of bytes for people."""
    return "an unknown number of GB" if size is None else f"{size / 1e9:,.1f} GB"
