"""What `kdrun list` and `kdrun --help` tell: what there is to choose from, read from files so that it is instant."""

import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdrun.cli import commands
from kdrun.config import presets, registry

__all__ = ["TABLES", "help_text"]


class Methods:
    """Every method, by family: what it is in columns as wide as the screen allows, below that what it does and its paper."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cards = [registry.method_card(key) for key in registry.options("method")]
        narrow = options.max_width < 120
        widths = [max(len(card.key) for card in cards), 9 if narrow else 18, 15 if narrow else 24, 16 if narrow else 21, 8]
        widths.append(max(options.max_width - sum(widths) - 2 * len(widths), 17))
        yield Text("method=", style="bold")
        yield line(widths, "key", "knowledge", "survey's scheme", "runs under", "teachers", "survey rows", style="bold")
        for family, members in groupby(sorted(cards, key=lambda card: (card.family, card.key)), lambda card: card.family):
            yield Text(f"\n{family}", style="bold underline")
            for card in members:
                yield line(widths, card.key, ", ".join(card.knowledge) or "none", card.survey_scheme or "-",
                           ", ".join(card.schemes), card.teachers, whole(card.survey_tables, widths[-1]) or "-")
                for told in (card.summary, card.source, card.given_for, *card.cautions.values()):
                    if told:
                        yield Padding(Text(told, style="dim"), (0, 0, 0, 4))
        yield Text()


def whole(parts: Sequence[str], width: int) -> str:
    """The parts with commas between, in lines that break between parts only."""
    hard = "\u00a0"  # textwrap breaks at no such space
    return textwrap.fill(", ".join(part.replace(" ", hard) for part in parts), width).replace(hard, " ")


def line(widths: Sequence[int], *cells: str, style: str = "") -> Table:
    """Cells side by side, each folded to its width."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for width in widths:
        grid.add_column(width=width, overflow="fold")
    grid.add_row(*(Text(cell, style=style) for cell in cells))
    return grid


def networks() -> Table:
    """Every network, for teacher and student alike."""
    table = titled("teacher=, student=", "name", "what it is", "settings")
    for name, path in registry.options("model").items():
        settings = registry.load("model", name)
        hidden = ("_target_",) if "library" in settings else ("_target_", "name")  # there the name is a choice
        told = ", ".join(f"{key}={'null' if value is None else value}" for key, value in settings.items() if key not in hidden)
        table.add_row(name, Text(introduction(path) or settings.get("_target_", "").rpartition(".")[2]), Text(told))
    return table


def introduction(path: Path) -> str:
    """The comment that a file starts with; empty where it starts with none."""
    first = path.read_text().partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def described(group: str) -> Callable[[], Table]:
    """A table of a group whose files say in their first comment what they are, or in their settings."""
    def make() -> Table:
        table = titled(f"{group}=", "name", "what it is", "settings")
        for name, path in registry.options(group).items():
            settings = registry.load(group, name)
            told = ", ".join(f"{key}={value}" for key, value in settings.items()
                             if key not in ("_target_", "name", "defaults") and value is not None)
            table.add_row(name, Text(introduction(path)), Text(told))
        return table
    return make


def experiments() -> Table:
    """Every experiment, with the names of its rows."""
    table = titled("experiment=, and experiment=NAME/ROW", "name", "what it is", "rows")
    for name, path in registry.options("experiment").items():
        table.add_row(name, Text(introduction(path)), Text(", ".join(presets.rows(name))))
    return table


def titled(title: str, *columns: str) -> Table:
    """An empty table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


TABLES: dict[str, Callable[[], RenderableType]] = {
    "methods": Methods, "networks": networks, "datasets": described("dataset"), "schemes": described("scheme"),
    "recipes": described("recipe"), "experiments": experiments,
}


HELP = """\
kdrun: run, compare and tabulate knowledge-distillation experiments

  kdrun method=fitnets student=resnet8              teacher, baseline and student, and their measures
  kdrun -m method=kd,at,rkd seed=1,2,3              a sweep: one teacher and one baseline per seed
  kdrun method=takd 'method.assistants=[resnet14]'  any setting by its name
  kdrun teacher=resnet56 teacher.checkpoint=PATH    your own teacher
  kdrun -m experiment=survey/gou_table_6_mini       every row of a survey's table; then kdrun tables

Sub-commands (kdrun NAME --help)
{commands}

Groups (GROUP=CHOICE); * the default, but a dataset may have a recipe of its own
{groups}

Settings (KEY=VALUE), and what they are by default
{settings}

Settings of a group: GROUP.KEY=VALUE, as they stand in {folder}/GROUP/CHOICE.yaml
{chosen}
Options
  -m                    run all combinations of the values given with commas
  --cfg job             print the whole configuration that would run
  --config-dir DIR      your own groups and choices beside these
  -sc install=SHELL     completion in bash, zsh or fish: eval "$(kdrun -sc install=bash)", or kdrun -sc install=fish | source
  --version
"""


def help_text(words: Sequence[str]) -> str:
    """The help, with the settings of the choices named in the words."""
    groups = {group: registry.options(group) for group in ("dataset", "method", "scheme", "recipe", "launch", "sweep",
                                                            "experiment")}
    groups |= dict.fromkeys(("teacher", "student"), registry.options("model"))
    usual = registry.defaults()
    lines = [f"  {group:<12} {', '.join(f'{choice}*' if choice == usual.get(group) else choice for choice in choices)}"
             for group, choices in groups.items() if choices]
    folded = [textwrap.fill(line, 110, subsequent_indent=" " * 15) for line in lines]
    whole = (registry.shipped() / "config.yaml").read_text().partition("\nhydra:")[0]
    root = whole[whole.index("\n\n"):]  # behind the list of defaults
    chosen = ""
    for word in words:
        group, _, choice = word.removeprefix("+").partition("=")
        if choice in groups.get(group, {}):
            text = groups[group][choice].read_text().strip()
            chosen += f"\n  {word}\n{textwrap.indent(text, '    ')}\n"
    told = "\n".join(f"  kdrun {name:<10} {commands.summary(name)}" for name in commands.names())
    return HELP.format(commands=told, groups="\n".join(folded), settings=textwrap.indent(root.strip(), "  "),
                       folder=registry.shipped(), chosen=chosen)
