"""Settings of one method among those of a sweep: `method.kd.temperature=2,4` beside `method=kd,at` is of kd's jobs alone."""

from collections.abc import Callable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from kdrun.config import registry
from kdrun.config.hydra_internals import basic_sweeper
from kdrun.config.schema import SLOTS, ConfigError

__all__ = ["chosen", "jobs", "of_other_methods", "owner", "parted", "settled"]


def owner(key: str) -> str | None:
    """The method that a key like `method.kd.temperature` is of; None for a key of whatever method is chosen."""
    group, _, rest = key.partition(".")
    name, _, setting = rest.partition(".")
    own = group == "method" and setting and name not in SLOTS["method"] and name in registry.options("method")
    return name if own else None


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words for every job, and those of one method's jobs alone."""
    own = [word for word in words if owner(key_of(word)) is not None]
    return [word for word in words if word not in own], own


def settled(words: Sequence[str], method: str) -> list[str]:
    """The words of a job with this method: its own settings stand before those of every job, other methods' are left out."""
    common, own = parted(words)
    mine = [without_owner(word) for word in own if owner(key_of(word)) == method]
    keys = {key_of(word) for word in mine}
    return [*(word for word in common if key_of(word) not in keys), *mine]


def chosen(words: Sequence[str]) -> str | None:
    """The method that the words choose; None where they leave it to the configuration."""
    return next((value for key, _, value in (word.partition("=") for word in reversed(words)) if key == "method"), None)


def jobs(overrides: Sequence[Override], method_of: Callable[[Sequence[str]], str]) -> list[list[str]]:
    """The words of every combination of what a command line gives; a method's own settings multiply its jobs alone.

    Args:
        overrides: all of them, for every job and of one method.
        method_of: tells the method of a job from its words.

    Raises:
        ConfigError: a setting is of a method that no job has.
    """
    common = [override for override in overrides if owner(override.key_or_group) is None]
    own = [override for override in overrides if owner(override.key_or_group) is not None]
    every: list[list[str]] = basic_sweeper().split_arguments(common, max_batch_size=None)[0]
    if not own:
        return every
    found, methods = [], []
    for words in every:
        methods.append(method := method_of(words))
        mine = [parse(without_owner(str(one.input_line)), one) for one in own if owner(one.key_or_group) == method]
        combinations = basic_sweeper().split_arguments(mine, max_batch_size=None)[0] if mine else [[]]
        keys = {one.key_or_group for one in mine}
        found += [[*(word for word in words if key_of(word) not in keys), *more] for more in combinations]
    if lines := of_other_methods([str(one.input_line) for one in own], methods):
        raise ConfigError(lines)
    return found


def of_other_methods(words: Sequence[str], methods: Sequence[str]) -> list[str]:
    """A line for each word that is of a method that is not among these."""
    there = ", ".join(dict.fromkeys(methods))
    return [f"{word}: it is a setting of method={owner(key_of(word))}, and what is to be run has method={there}"
            for word in words if owner(key_of(word)) not in (None, *methods)]


def parse(word: str, like: Override) -> Override:
    """A word as Hydra reads it, with what another override knows of the choices there are."""
    found = OverridesParser.create().parse_override(word)
    found.config_loader = like.config_loader
    return found


def key_of(word: str) -> str:
    """The key of a setting."""
    return word.partition("=")[0]


def without_owner(word: str) -> str:
    """A method's own setting as that of whatever method is chosen: method.temperature=2."""
    _, _, rest = word.partition(".")
    return f"method.{rest.partition('.')[2]}"
