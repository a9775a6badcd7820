"""What a run is called: a digest of everything that its results depend on, and the folder that is named by it."""

import hashlib
import json
from pathlib import Path

from kdrun import __version__
from kdrun.config import speed
from kdrun.config.schema import Settings, own_recipe
from kdrun.utils.files import digest_of
from kdrun.utils.names import file_name

__all__ = ["identity", "run_folder"]


def identity(settings: Settings) -> str:
    """A digest of everything that the results depend on: equal digests, equal runs."""
    ignored = {"outputs", "rerun", "checkpoint_seconds", "launch", "sweep"}
    if speed.on_gpu(str(settings.values.get("device"))):
        ignored.add("threads")  # the CPU only feeds the GPU, which does what depends on the order of additions
    if settings.values.get("teacher_classes") is None:
        ignored.add("teacher_classes")  # which runs of earlier versions do not have
    values = {key: value for key, value in settings.values.items() if key not in ignored}
    values["speed"] = speed.shaping(values["speed"])
    values["dataset"] = {key: value for key, value in values.get("dataset", {}).items() if key != "workers"}
    teacher = values.get("teacher", {})
    exact = {"remember_gb", *({"remember"} if teacher.get("remember") != "half" else ())}  # change no bit of any result
    values["teacher"] = {**{key: value for key, value in teacher.items() if key not in exact}, "recipe": own_recipe(values)}
    for role in ("teacher", "student"):
        checkpoint = values.get(role, {}).get("checkpoint")
        if checkpoint and Path(checkpoint).is_file():
            values[role] = {**values[role], "checkpoint": digest_of(Path(checkpoint))}
    whole = json.dumps([__version__, settings.choices, values], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()


def run_folder(settings: Settings) -> Path:
    """The folder of a run: readable, and named by content.

    Raises:
        ValueError: what was chosen cannot be in its name.
    """
    scheme = settings.choices["scheme"]
    parts = [settings.choices["dataset"], settings.method, *([scheme] if scheme != "offline" else []),
             settings.choices["student"], f"s{settings.seed}", identity(settings)[:8]]
    return settings.outputs / "runs" / file_name(*parts)
