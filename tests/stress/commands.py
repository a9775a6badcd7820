"""Command lines that are wrong, and some that are odd: each is refused in clear lines within seconds, and nothing is written.

Wrong for certain: names, keys, options and choices with a letter changed, values of another kind, numbers beyond any machine.
Odd: values that may be good for all that is known here; these may also be taken, which is where the training would begin.
"""

import os
import random
import string
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kdrun import experiment
from kdrun.cli import commands, main
from kdrun.config import registry
from kdrun.config.schema import GROUPS
from kdrun.storage import resume
from kdrun.utils.progress import Progress
from tests.stress.child import Ending, forked
from tests.toy import NEEDS, TINY, settings_of, toy_settings

ACCEPTED = 77  # the exit status of a command that would now begin to train
SECONDS = 10.0  # of a processor
TEXT = ["''", "' '", "x", "../x", "/x", "[/x]", "'=1'", "'<b>'", "'\\n'", "null", "true", "[]", "{}", "[1,2]", "[[]]", "{a:1}",
        "$", "'${seed}'", "${nothing}", "???", "{_target_:builtins.print}", "{_target_:os.system}",
        "kdrun.cli.main.main", "\udc80",
        "é"]
NUMBERS = ["0", "-1", "-0.0", "0.5", "1e308", "1e-320", "nan", "inf", "-inf", "9223372036854775808", "1e999", "1000000000",
           "1000000", "100000", "0x10", "1_0", "'1'"]
NEVER = ["nan", "{_target_:builtins.print}", "{_target_:os.system}", "[[]]", "{a:1}"]  # good for no number, text or choice
GRAMMAR = ["=", "=1", "a", "method", "x=[", "x={", "x='", "seed=1,", "~seed", "++x.y=1", "+method=kd", "@x=1", "a@b=c", "/a=b",
           "hydra.run.dir=x", "hydra/launcher=x", "seed=choice(1,2)", "seed=range(1,3)", "seed=glob(*)"]
OPTIONS = ["multirun", "config-dir", "cfg", "info", "package"]
ARGUMENTS = [*TEXT, "--where", "--outputs", "--csv", "--sort", "--seed"]
CHOICES = [[], [], ["teacher=cnn", "student=cnn"], ["teacher=vgg8", "student=vgg8"], ["dataset=pair"],
           ["launch=parallel", "-m", "seed=1,2"], ["-m", "seed=1,2"], ["teacher.remember=true"], ["dataset=multiview"]]


def changed(word: str, draws: random.Random) -> str:
    """A word with a letter more, less, other or in another place."""
    place = draws.randrange(len(word))
    letter = draws.choice(string.ascii_lowercase)
    head, tail = word[:place], word[place:]
    return draws.choice([head + tail[1:], head + letter + tail, head + letter + tail[1:], word + letter, word[::-1]])


def leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that is no group: (its dotted key, its value)."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{key}.")
        elif key != "_target_":
            yield f"{above}{key}", value


def base(draws: random.Random) -> tuple[list[str], list[tuple[str, Any]]]:
    """A good command line of some method, and the settings it has."""
    method = draws.choice(list(registry.options("method")))
    more = draws.choice(CHOICES)
    trained = registry.method_card(method).schemes[0] == "offline"
    words = [*TINY[:5], f"method={method}", *NEEDS.get(method, ()), *(more if trained else [])]
    return words, settings(*(word for word in words if word not in ("-m", "seed=1,2")))


@cache
def settings(*words: str) -> list[tuple[str, Any]]:
    """The settings of a good command line."""
    return [(key, value) for key, value in leaves(settings_of(*words).values) if key != "outputs"]


def case(draws: random.Random) -> tuple[list[str], bool]:
    """A command line, and whether it is wrong for certain."""
    kind = draws.choice(["key", "choice", "never", "never", *["odd"] * 4, "two", "command", "option", "grammar"])
    words, own = base(draws)
    key, value = draws.choice(own)
    if kind == "key":
        head, _, last = key.rpartition(".")
        wrong = f"{head}{'.' * bool(head)}{changed(last, draws)}"
        return [*words, f"{wrong}=1"], wrong not in dict(own) and wrong not in GROUPS
    if kind == "choice":
        group = draws.choice(GROUPS)
        known = registry.options("model" if group in ("teacher", "student") else group)
        wrong = changed(draws.choice(list(known)), draws)
        return [*words, f"{group}={wrong}"], wrong not in known
    if kind == "never":  # a text may be anything
        return [*words, f"{key}={draws.choice(NEVER)}"], isinstance(value, bool | int | float)
    if kind in ("odd", "two"):
        keys = [key, *([draws.choice(own)[0]] if kind == "two" else [])]
        return [*words, *(f"{one}={draws.choice([*TEXT, *NUMBERS, *NUMBERS])}" for one in keys)], False
    if kind == "command":
        name = draws.choice(commands.names())
        wrong = changed(name, draws)
        return draws.choice([([wrong], wrong not in commands.names()), ([name, f"--{changed('outputs', draws)}"], True),
                             ([name, *draws.choices(ARGUMENTS, k=2)], False)])
    if kind == "option":
        return [draws.choice(["-", "--"]) + changed(draws.choice(OPTIONS), draws), *words], False
    return [*words, draws.choice(GRAMMAR)], False


def take() -> None:
    """From now on a command that is not refused ends where its first training would begin."""
    def begin(*_: object, **__: object) -> None:
        os._exit(ACCEPTED)

    resume.begin = resume.begin_sweep = begin


def run(count: int, seed: str) -> Iterator[dict[str, object]]:
    """So many command lines; each as what was typed and what went wrong, which is empty where nothing did."""
    draws = random.Random(f"commands {seed}")
    with tempfile.TemporaryDirectory() as folder:
        experiment.run(toy_settings("kd", f"outputs={folder}"), Progress(None))  # imports what there is, and reads the digits
    for number in range(count):
        words, certain = case(draws)
        with tempfile.TemporaryDirectory() as folder:
            def typed(words: list[str] = words) -> int:
                take()
                return main.main(words)

            ended = forked(typed, Path(folder))
            fault = ended.fault or verdict(ended, certain, Path(folder))
            outcome = {2: "refused", ACCEPTED: "taken"}.get(ended.status or 0, "done")
            told = {"case": number, "words": words, "fault": fault, "outcome": outcome, "status": ended.status,
                    "seconds": round(ended.seconds, 2)}
            yield told | ({"err": ended.err[-1500:], "out": ended.out[-300:]} if fault else {})


def verdict(ended: Ending, certain: bool, folder: Path) -> str:
    """What a command did wrong that was well-behaved in itself."""
    if ended.status not in (0, 2, ACCEPTED):
        return f"status {ended.status}"
    if certain and ended.status != 2:
        return "taken, though it is wrong"
    if ended.status == 2 and (left := sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))):
        return f"refused, and left {', '.join(left[:5])}"
    return "slow" if ended.seconds > SECONDS else ""
