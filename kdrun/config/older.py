"""Settings that older versions recorded, as they are written now: what they named has moved, what came since had no effect."""

from collections.abc import Mapping
from typing import Any

__all__ = ["upgraded"]

MOVED: Mapping[str, str] = {"kdrun.schemes.": "kdrun.training.schemes.", "kdrun.launchers.": "kdrun.sweeps.launchers.",
                            "kdrun.search.": "kdrun.sweeps.search."}
"""Where the code of a `_target_` was, and where it is."""

RECIPE: Mapping[str, Any] = {"no_decay": False, "mixup": 0.0, "cutmix": 0.0, "accumulate": 1, "ema": None}
DATASETS: Mapping[str, Mapping[str, Any]] = {
    "kdrun.data.readers.torchvision_set": {"augment": None, "workers": 0},
    "kdrun.data.readers.image_folder": {"stream": False, "workers": 0, "resize": None, "augment": None, "measured_on": 5000},
}
"""By reader: what it takes by now, set so that it does what it did."""


RENAMED: Mapping[str, Mapping[str, str]] = {"kdrun.models.gaussian.GaussianProcess": {"length": "length_scale"}}
"""By `_target_`: settings that have another name by now."""


def upgraded(settings: Any) -> Any:
    """Recorded settings as this version would have recorded them; whatever is no group of settings stays what it is."""
    if not isinstance(settings, Mapping):
        return settings
    found = renamed(settings)
    for group, added in (("recipe", RECIPE), ("dataset", added_to(found.get("dataset")))):
        if isinstance(found.get(group), dict):
            found[group] = {**added, **found[group]}
    return found


def added_to(dataset: Any) -> Mapping[str, Any]:
    """What the reader of a data set takes by now and did not take before."""
    return DATASETS.get(str(dataset.get("_target_")), {}) if isinstance(dataset, Mapping) else {}


def renamed(node: Any) -> Any:
    """Settings whose `_target_`s are called what they are called now."""
    if isinstance(node, Mapping):
        names = RENAMED.get(str(node.get("_target_")), {})
        return {names.get(key, key): present(value) if key == "_target_" else renamed(value) for key, value in node.items()}
    return [renamed(entry) for entry in node] if isinstance(node, list) else node


def present(target: Any) -> Any:
    """What a `_target_` is called now."""
    before = next((one for one in MOVED if str(target).startswith(one)), None)
    return target if before is None else MOVED[before] + str(target).removeprefix(before)
