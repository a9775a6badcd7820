"""What Hydra is told that is in no file: roles that share the networks, bases of others, rows of presets, the run's folder."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrun.config import presets, registry, speed
from kdrun.config.identity import run_folder
from kdrun.config.schema import SLOTS, STUDENT_OWN, TEACHER_OWN, Settings

__all__ = ["register"]


class Choices(dict[str, Any]):
    """What Hydra's store of configs holds.

    Hydra copies the store for every job that it composes, and then the config that it takes from it once more. With a
    choice for every network and method the first copy takes longer than the rest of the composition.
    """

    def __deepcopy__(self, memo: object) -> "Choices":
        return self


def register(folders: Collection[Path], rows: bool = True) -> None:
    """Tell Hydra what is not in files: the roles that share the networks, the bases of others, the folder's name.

    Args:
        folders: of the user's own configs.
        rows: whether the rows of presets too, which take longer than all else and are seldom asked for.
    """
    from hydra.core.config_store import ConfigStore

    # Hydra takes plugins from a package `hydra_plugins` on the path alone
    plugins = str(Path(__file__).parents[1] / "sweeps" / "plugins")
    if plugins not in sys.path:
        sys.path.append(plugins)
    registry.use(folders)
    store = ConfigStore.instance()
    if not isinstance(store.repo, Choices):
        store.repo = Choices(store.repo)

    def choice(group: str, name: str, node: dict[str, Any]) -> None:
        place = store.repo
        for part in group.split("/"):
            place = place.get(part, {})
        if f"{name}.yaml" not in place:  # by an earlier call: a node depends on its name alone
            store.store(group=group, name=name, node=node)

    for role, own in (("teacher", TEACHER_OWN), ("student", STUDENT_OWN)):
        for name in registry.options("model"):
            choice(role, name, {"defaults": [{"/model@_here_": name}, "_self_"], **own})
    for group, slots in SLOTS.items():
        for name in registry.options(group):
            for slot in slots:
                choice(f"{group}/{slot}", name, {"defaults": [{f"/{group}@_here_": name}]})

    if rows:
        presets.register(store)

    def folder(*, _root_: DictConfig) -> str:
        return str(run_folder(Settings.read(_root_, _root_.hydra.runtime.choices)))

    OmegaConf.register_new_resolver("run_folder", folder, replace=True)
    OmegaConf.register_new_resolver("precision_of", speed.precision_of, replace=True)
