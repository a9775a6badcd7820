"""kdrun: run, compare and tabulate knowledge-distillation experiments.

What is public: `kdrun.load`, a trained network from a file; `kdrun.functional`, the losses as functions of tensors.
Everything else is loaded when it is asked for, so that importing kdrun takes no time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdrun import functional
    from kdrun.loading import load

__all__ = ["__version__", "functional", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":
        from kdrun.loading import load  # with torch

        return load
    if name == "functional":
        import kdrun.functional as functional  # with torch

        return functional
    raise AttributeError(f"module 'kdrun' has no attribute {name!r}")
