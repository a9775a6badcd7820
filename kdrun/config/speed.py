"""How fast a process computes: settings of torch, of the C library and of OpenMP, none of which changes what is computed.

Nothing here imports torch before it is needed: some of it has to be set before torch is loaded.
"""

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["SpeedSettings", "apply", "cores", "environment", "keep_memory", "memory_format", "on_gpu", "precision_of",
           "release_memory", "shaping", "without_dynamo"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
GIGABYTE, MOST_OF_OLD_GLIBC = 1 << 30, 32 << 20


@dataclass(kw_only=True)
class SpeedSettings:
    """How the arithmetic is done; what comes out is the same up to the last bits.

    Attributes:
        memory_format: of networks and maps. `channels_last` keeps the channels of a place side by side; `auto` takes what
            was measured to be fastest, which is channels last everywhere.
        compile: run networks that train through `torch.compile`. It takes from ten seconds to a minute before the first
            step, and methods that differentiate twice cannot have it.
        cudnn_benchmark: let cuDNN try its algorithms on the first batch and keep the fastest. Which one that is may differ
            from run to run, and with it the last bits.
        keep_memory: keep freed memory in the process, where glibc would hand it back and fetch it again in every step.
    """

    memory_format: Literal["auto", "channels_last", "contiguous"]
    compile: bool
    cudnn_benchmark: bool
    keep_memory: bool

    def shaping(self) -> dict[str, Any]:
        """Those on which the last bits of a result depend."""
        return shaping(asdict(self))


def shaping(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings on which the last bits of a result depend."""
    return {key: value for key, value in settings.items() if key != "keep_memory"}


def environment() -> None:
    """What has to be in the environment before torch is loaded; the user's own settings stand.

    Threads of OpenMP that wait for each other spin. Where another process wants the core, they spin while the one they
    wait for does not run: a training of two threads beside busy neighbours took 1.5 to 6 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def apply(settings: SpeedSettings, device: "torch.device") -> None:
    """Set this process up for a run.

    Args:
        settings: of the run.
        device: likewise.
    """
    import torch

    if settings.keep_memory:
        release_memory()  # what reading the data has left
        keep_memory()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = settings.cudnn_benchmark
    if not settings.compile:
        without_dynamo()


def keep_memory() -> bool:
    """Tell glibc's malloc to keep what is freed, for the next step wants it again; False where there is no glibc.

    Without this every large map is mapped and unmapped in each step, and the kernel fills its pages with zeros each time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no C library by that name, or one that has no such function
        return False
    large = mallopt(M_MMAP_THRESHOLD, GIGABYTE) or mallopt(M_MMAP_THRESHOLD, MOST_OF_OLD_GLIBC)
    return bool(large and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def release_memory() -> None:
    """Hand memory that is free by now back to the system: what reading data or a training has left, and nobody needs again."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def without_dynamo() -> None:
    """Let torch's optimizers not load its compiler, which takes 1.3 s at the start and serves those alone who compile.

    They hide some of their functions from the compiler and break its graphs around each step, and load it to do so. Here
    they are told to use their functions as they are. Where torch is built otherwise, or the compiler is loaded already,
    nothing happens.
    """
    import torch
    from torch.optim import SGD, Adam, Optimizer

    if "torch._dynamo" in sys.modules:
        return
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        own = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if own is not None and not hasattr(own, "__dynamo_disable"):
            own.__dynamo_disable = own

    def plain(step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def stepped(self: Optimizer, *given: Any, **named: Any) -> Any:
            with torch.set_grad_enabled(self.defaults["differentiable"]):
                return step(self, *given, **named)

        return stepped

    for kind in (SGD, Adam):  # AdamW is an Adam
        own = getattr(kind.step, "__wrapped__", None)
        if own is not None and not hasattr(own, "__wrapped__") and not hasattr(kind.step, "hooked"):
            kind.step = plain(own)  # type: ignore[method-assign]


def memory_format(name: str) -> "torch.memory_format":
    """The memory format that a setting names."""
    import torch

    return torch.contiguous_format if name == "contiguous" else torch.channels_last


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_gpu(device: str) -> bool:
    """Whether a run with this setting of `device` computes on a GPU."""
    if device != "auto":
        return device.startswith("cuda")
    import torch

    return torch.cuda.is_available()


def precision_of(device: str) -> str:
    """The precision that is fastest where a run goes: bf16 on a GPU that computes in it, fp32 elsewhere.

    On processors it is fp32: autocast to bf16 took twice the time on one, and two thirds of it on another, which has
    instructions for it; `kdrun bench formats` tells.

    Args:
        device: as configured: auto, cpu, cuda, cuda:1, ...
    """
    if not on_gpu(device):
        return "fp32"
    import torch

    fit = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fit else "fp32"
