"""How counts and names are worded in messages, tables and headings."""

from collections.abc import Mapping
from typing import Any

__all__ = ["counted", "formatted", "measure_name", "printable"]


MEASURES = {"miou": "mIoU", "map": "mAP", "map_50": "mAP@0.5", "map_50_95": "mAP@[.5:.95]", "pck_05": "PCK@0.05",
            "pck_10": "PCK@0.1", "ndcg_at_10": "NDCG@10", "hit_rate_at_10": "hit rate@10", "mrr": "MRR",
            "recall_at_1": "recall@1", "recall_at_20": "recall@20", "roc_auc": "ROC AUC", "tar_at_far": "TAR@FAR",
            "eer": "EER"}
"""What the field writes for measures whose columns cannot be called so."""


def measure_name(key: str) -> str:
    """A measure for people, from the name of its column: "mIoU", "frame accuracy"."""
    return MEASURES.get(key, key.replace("_", " "))


def counted(number: int, noun: str, plural: str = "") -> str:
    """A count and what is counted: "1 epoch", "2 epochs", "0 rows".

    Args:
        number: how many.
        noun: one of them.
        plural: several of them, where that is not the noun with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    """A text for a terminal: what would move its cursor, or is no character at all, is written as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def formatted(value: Any) -> str:
    """A value as YAML would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(formatted, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {formatted(entry)}" for key, entry in value.items()) + "}"
    return repr(value)
