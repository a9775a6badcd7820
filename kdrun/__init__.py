"""kdrun: run, compare and tabulate knowledge-distillation experiments."""

__version__ = "0.1.0"
