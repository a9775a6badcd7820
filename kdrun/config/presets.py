"""Experiments of several rows: a preset whose `rows` are command lines, each an experiment of its own.

`conf/experiment/survey/gou_table_6.yaml` holds `rows: {fsp: method=fsp teacher=resnet32 student=resnet14, ...}`. Then
`experiment=survey/gou_table_6/fsp` is that row, with everything else as the preset has it, and
`-m experiment=survey/gou_table_6` is a sweep over all of them. `rows_of: Gou 6` is a row for each method that says it
is of that table, under its own scheme. Hydra knows nothing of all this: rows are registered as choices of the group,
and a preset's name is replaced by those of its rows before Hydra sees the command line.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from kdrun.config import registry
from kdrun.config.schema import SLOTS, ConfigError

if TYPE_CHECKING:
    from hydra.core.config_store import ConfigStore

__all__ = ["expanded", "names", "register", "rows", "settings", "without_plus"]

GROUP = "experiment"
ROLES = ("teacher", "student")


@cache
def rows(preset: str) -> dict[str, str]:
    """The rows of a preset, by name; empty for a plain experiment. Those that it spells out replace those of a method."""
    own = registry.load(GROUP, preset)
    cards = [registry.method_card(key) for key in registry.options("method")] if "rows_of" in own else []
    found = {card.key: f"method={card.key} scheme={card.schemes[0]}" for card in cards if own["rows_of"] in card.survey_tables}
    return found | {str(name): str(words) for name, words in (own.get("rows") or {}).items()}


def names() -> list[str]:
    """Every experiment, and every row of each."""
    return [name for preset in registry.options(GROUP) for name in (preset, *(f"{preset}/{row}" for row in rows(preset)))]


def without_plus(words: Sequence[str]) -> list[str]:
    """The words with +experiment= as experiment=.

    Hydra wants the plus for a group that is not in its defaults list, and refuses it for one that is; people write
    both. The group is in the list, so that it comes last and overrides the others: the plus goes.
    """
    return [word[1:] if word.startswith(f"+{GROUP}=") else word for word in words]


def expanded(words: Sequence[str], several: bool) -> list[str]:
    """The words with a preset of rows as the list of its rows.

    Raises:
        ConfigError: there are rows, but it is no sweep.
    """
    found = []
    for word in words:
        group, _, value = word.partition("=")
        chosen = value.split(",")
        if group != GROUP or not any(rows(name) for name in chosen if name in registry.options(GROUP)):
            found.append(word)
            continue
        if not several:
            first = next(name for name in chosen if rows(name))
            raise ConfigError([f"{word} has {len(rows(first))} rows; add -m to run them all, or name one, as "
                           f"{GROUP}={first}/{next(iter(rows(first)))}"])
        every = [name for preset in chosen for name in
                 ([f"{preset}/{row}" for row in rows(preset)] if preset in registry.options(GROUP) else []) or [preset]]
        found.append(f"{group}={','.join(every)}")
    return found


def register(store: "ConfigStore") -> None:
    """Make each row of each preset a choice of the group.

    Raises:
        ConfigError: a row cannot be read.
    """
    for preset in registry.options(GROUP):
        for name, words in rows(preset).items():
            store.store(group=f"{GROUP}/{preset}", name=name, node=node(preset, name, words), package="_global_")


def node(preset: str, name: str, words: str) -> dict[str, Any]:
    """A row as the config that Hydra composes: the preset's own, with what the row chooses and sets."""
    own = {key: value for key, value in registry.load(GROUP, preset).items() if key not in ("rows", "rows_of")}
    defaults: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        defaults |= entry if isinstance(entry, Mapping) else {}
    for key, value in settings(preset, name, words):
        if key in groups():
            defaults[f"override /{key}"] = value
        else:
            *above, last = key.split(".")
            place = own
            for part in above:
                place = place.setdefault(part, {})
            place[last] = value
    return {"defaults": [{key: value} for key, value in defaults.items()] + ["_self_"], **own}


def settings(preset: str, name: str, words: str) -> Iterator[tuple[str, Any]]:
    """Key and value of each word of a row, as Hydra's grammar reads them.

    Raises:
        ConfigError: a word is no setting.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for word in shlex.split(words):
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            raise ConfigError([f"{GROUP}={preset}/{name}: '{word}' is not a setting; a setting is KEY=VALUE"]) from error
        yield override.key_or_group, override.value()


def groups() -> set[str]:
    """What is chosen rather than set."""
    return {"dataset", "method", "scheme", "recipe", "launch", *ROLES,
            *(f"{group}/{slot}" for group, slots in SLOTS.items() for slot in slots)}
