"""The data that a configuration names."""

from collections.abc import Mapping
from typing import Any

from kdrun.config.dataset import DatasetSettings
from kdrun.config.instantiation import locate
from kdrun.config.schema import ConfigError
from kdrun.data.data import Data, read
from kdrun.data.latest import kept
from kdrun.utils.memory_limits import allowed

__all__ = ["read_dataset"]


def read_dataset(node: Mapping[str, Any]) -> Data:
    """The data that a config of dataset/ names.

    Raises:
        ConfigError: they cannot be read, or are not fit to train on.
    """
    common = {field: node[field] for field in DatasetSettings.__dataclass_fields__ if field in node}
    reader = {key: value for key, value in node.items() if key not in common and key != "_target_"}
    try:
        with allowed():
            return kept(node, lambda: read(DatasetSettings(**common), locate(node["_target_"], "reader"), reader))
    except (ValueError, OSError) as error:
        raise ConfigError([f"dataset: {line}" for line in str(error).splitlines()]) from error
