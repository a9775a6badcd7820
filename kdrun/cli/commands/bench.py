"""What kdrun costs beyond the arithmetic of its networks, measured on this machine.

loop        the engine against bare loops, written by hand, of the same networks and losses
data        the share of a step that making its batch takes
teacher     a live teacher, and one whose answers are remembered
formats     memory format, precision, optimizer, memory kept: the defaults against what else there is
evaluation  validation, checkpoints, measures and tables
startup     --help, list, completion, and the start of a job
compile     torch.compile: what it takes and what it gives (a minute; only where named)
sweep       a small sweep, a job a core and otherwise (minutes, all cores; only where named)
files       pictures read from files by 0, 1 and 2 workers beside timm's loader, and memory (minutes; only where named)
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from kdrun.cli.commands import Arguments, at_least
from kdrun.config import registry
from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from kdrun.bench.measure import Row

USUAL = ("loop", "data", "teacher", "formats", "evaluation", "startup")
PARTS = (*USUAL, "compile", "sweep", "files")
METHODS = ("vanilla", "kd", "fitnets", "at", "rkd", "crd", "dml")


def main(words: Sequence[str]) -> int:
    """Measure, and print a table. Returns the exit status: 0 whatever was measured.

    Raises:
        ConfigError: an argument is wrong.
    """
    given = arguments().parse_args(list(words))
    parts, methods, pair = given.part or USUAL, given.methods.split(","), given.pair
    teacher, student = pair
    refuse_unknown("part", parts, PARTS)
    refuse_unknown("--methods: method", methods, METHODS)
    refuse_unknown("--pair: network", pair, registry.options("model"))
    for library in ("OMP", "MKL"):  # they read it once, when torch is loaded
        os.environ[f"{library}_NUM_THREADS"] = str(given.threads)
    import tempfile
    from pathlib import Path

    import torch

    from kdrun.bench import files, in_process, loop, processes, table
    from kdrun.bench.workload import Subject
    from kdrun.config.validation import device_problems
    from kdrun.utils.console import plain_console

    if lines := device_problems(given.device):
        raise ConfigError([f"--{line}" for line in lines])
    screen, rows = plain_console(stderr=True), list["Row"]()
    with tempfile.TemporaryDirectory(prefix="kdrun-bench-") as folder:
        subject = Subject(teacher, student, given.side, given.samples, given.batch_size, given.threads, given.rounds,
                          given.steps, given.device, Path(folder))
        made: dict[str, Callable[[], Iterable[Row]]] = {
            "loop": lambda: loop.loop(subject, methods), "data": lambda: in_process.data(subject),
            "teacher": lambda: in_process.teacher(subject), "formats": lambda: in_process.formats(subject),
            "evaluation": lambda: in_process.evaluation(subject), "startup": lambda: processes.startup(subject),
            "compile": lambda: in_process.compilation(subject), "sweep": lambda: processes.sweep(subject),
            "files": lambda: files.files(subject, shown(given.pictures))}
        for part in dict.fromkeys(parts):
            for row in made[part]():
                rows.append(row)
                screen.print(f"{row.part}: {row.what}: {table.compared(row)}", style="dim")
        clock = subject.clock.by if set(parts) - {"startup", "sweep", "files"} else "cpu"
    console = plain_console()
    title = f"{teacher} to {student}, {given.side}x{given.side}, batches of {given.batch_size}, threads: {given.threads}"
    console.print(table.table(rows, f"{title}, torch {torch.__version__}"))
    console.print({"cpu": "Times are the CPU's, of this process (of the children for startup), but for compiling, "
                          "sweeps and files;",
                   "wall": "Times are of the clock on the wall (the CPU's for startup);"}[clock]
                  + " ratios and shares are medians over rounds in turns.")
    if given.csv:
        table.write(rows, Path(given.csv))
    return 0


def arguments() -> Arguments:
    """What can be asked."""
    found = Arguments("bench", __doc__ or "")
    found.words = lambda: PARTS
    found.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; without: all but compile and sweep")
    found.add_argument("--pair", type=two, default=("resnet20", "resnet8"), metavar="TEACHER:STUDENT",
                       help="networks [resnet20:resnet8]")
    found.add_argument("--methods", default=",".join(METHODS[1:]), help="of the part loop [%(default)s]")
    numbers: dict[str, tuple[int, int, str]] = {
        "side": (32, 8, "pixels of a side of the pictures, which are noise"),
        "samples": (50_000, 2_000, "pictures, a tenth of them for validation; what CRD and the data path depend on"),
        "batch-size": (64, 2, "of a step"), "threads": (1, 1, "of the CPU, for the parts in this process"),
        "rounds": (6, 1, "measured, in turns"), "steps": (2, 1, "of a round")}
    for name, (usual, least, told) in numbers.items():
        found.add_argument(f"--{name}", type=at_least(least), default=usual, metavar="N", help=f"{told} [%(default)s]")
    found.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... [%(default)s]")
    found.add_argument("--pictures", metavar="NAME", help="of the part files: the data set whose pictures are written as PNG "
                       "files; without, noise")
    found.add_argument("--csv", metavar="FILE", help="write the rows there too")
    return found


def shown(name: str | None) -> "Tensor | None":
    """The training pictures [N, H, W, C] of a data set; None for none.

    Raises:
        ConfigError: they cannot be read, or are of several sizes.
    """
    if name is None:
        return None
    refuse_unknown("--pictures: data set", [name], registry.options("dataset"))
    from hydra import compose, initialize_config_dir

    from kdrun.config.registration import register
    from kdrun.config.schema import Settings
    from kdrun.data.configured import read_dataset

    register([])
    with initialize_config_dir(str(registry.shipped()), version_base="1.3", job_name="kdrun"):
        cfg = compose("config", overrides=[f"dataset={name}"], return_hydra_config=True)
    inputs = read_dataset(Settings.read(cfg, cfg.hydra.runtime.choices).node("dataset")).train.inputs
    if getattr(inputs, "ndim", 0) != 4:
        raise ConfigError([f"--pictures: {name} has no pictures"])
    return inputs


def two(word: str) -> tuple[str, str]:
    """A teacher and a student."""
    teacher, _, student = word.partition(":")
    if not teacher or not student or ":" in student:
        raise ArgumentTypeError(f"got '{word}', wanted TEACHER:STUDENT")
    return teacher, student


def refuse_unknown(what: str, words: Iterable[str], known: Iterable[str]) -> None:
    """Refuse words that are not known.

    Raises:
        ConfigError: naming each.
    """
    if found := [f"{what} '{word}' is not known" + (closest(word, known) or f"; there is {', '.join(known)}")
                 for word in words if word not in known]:
        raise ConfigError(found)
