"""torchvision, imported in one place.

A torchvision wheel built for CUDA beside a torch without it cannot load its compiled part, and its Python part then
fails at import because two operators were never declared. Nothing here needs those operators: declaring them is enough
for readers, transforms and networks to work.
"""

import torch


def _declare_missing_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                   "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
        library.define(schema)
    globals()["_library"] = library  # the declaration lasts as long as this object


try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declare_missing_operators()
    import torchvision

from torchvision.transforms import v2 as transforms  # noqa: E402

datasets, models = torchvision.datasets, torchvision.models

__all__ = ["datasets", "models", "torchvision", "transforms"]
