"""A folder of outputs in which one file is damaged: commands still answer in clear lines, and runs are healed.

What is damaged: any file of finished runs, of an interrupted one, of a sweep, of the store and of remembered answers. How: cut,
emptied, a bit turned, zeros, other text, odd values inside JSON and CSV, removed, a folder or a dangling link or a FIFO in its
place. Then one command runs. None may hang, print a traceback, write elsewhere, or end with 1; the command that made the runs
must end with 0 and leave every table and every weight as it was; diagnose must not take damaged weights in silence.
"""

import csv
import io
import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kdrun.cli import main
from kdrun.utils import progress
from tests.forks import forked_workers
from tests.stress.child import Ending, forked
from tests.stress.kills import results
from tests.toy import TINY

SWEEP = ["-m", *TINY, "device=cpu", "method=kd,fitnets", "teacher.remember=true"]
ONE = [*TINY, "device=cpu", "method=kd", "teacher.remember=true"]  # of the sweep's, by itself
ANOTHER = [*TINY, "device=cpu", "method=dkd", "teacher.remember=true"]
STOPPED = [*TINY, "device=cpu", "method=at", "seed=1", "checkpoint_seconds=0.000001"]
ODD = [None, True, -1, 7, 1e308, float("nan"), float("inf"), 10**400, "", " ", "../../x", "/x", "[/x]", "[red]", "=1+1", "<b>",
       "\ud800", "a\nb", [], {}, [[]], {"_target_": "builtins.print"}, "kdrun.cli.main.main"]

Damage = Callable[[Path, random.Random], None]


def cut(path: Path, draws: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:draws.randrange(len(content) or 1)])


def emptied(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def bit(path: Path, draws: random.Random) -> None:
    content = bytearray(path.read_bytes()) or bytearray(1)
    content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    path.write_bytes(content)


def zeros(path: Path, _: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def text(path: Path, draws: random.Random) -> None:
    path.write_bytes(draws.choice([b"[]", b"{}", b"null", b"hello", b"\xff\xfe\x00", b'"\\ud800"', b"[/x]", b"1e999"]))


def longer(path: Path, _: random.Random) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def removed(path: Path, _: random.Random) -> None:
    path.unlink()


def folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def fifo(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def above(path: Path, _: random.Random) -> None:
    """A file where its folder should be."""
    shutil.rmtree(path.parent)
    path.parent.write_text("not a folder")


def odd_json(path: Path, draws: random.Random) -> None:
    told = json.loads(path.read_text())
    places = list(inner(told))
    if not places:
        return path.write_text(json.dumps(draws.choice(ODD)))
    owner, key = draws.choice(places)
    if draws.random() < 0.2:
        del owner[key]
    else:
        owner[key] = draws.choice(ODD)
    return path.write_text(json.dumps(told))


def inner(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place inside JSON, as its owner and its key."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()):
        yield node, key
        yield from inner(value)


def odd_csv(path: Path, draws: random.Random) -> None:
    rows = list(csv.reader(io.StringIO(path.read_text())))
    row = draws.choice(rows)
    if row and draws.random() < 0.8:
        row[draws.randrange(len(row))] = str(draws.choice(ODD)).encode(errors="replace").decode()
    elif draws.random() < 0.5:
        row.append("1")
    else:
        rows.remove(row)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


ANY: dict[str, Damage] = {"cut": cut, "emptied": emptied, "bit": bit, "zeros": zeros, "text": text, "longer": longer,
                          "removed": removed, "folder": folder, "dangling": dangling, "fifo": fifo, "above": above}
INSIDE: dict[str, Damage] = {".json": odd_json, ".csv": odd_csv}


def typed(words: list[str]) -> int:
    """What a command line comes to; the jobs of a sweep are forks, too."""
    with forked_workers():
        return main.main(words)


def prepare(home: Path, spare: Path) -> dict[str, object]:
    """A sweep that is done and a run that was interrupted, in `home/outputs`; what these and another run make of it."""
    for work, status in ((lambda: typed(SWEEP), 0), (stopped, 130)):
        ended = forked(work, home, limit=300)
        assert ended.status == status, ended.err
    shutil.copytree(home, spare, dirs_exist_ok=True)
    for words in (ANOTHER, STOPPED):
        ended = forked(lambda words=words: typed(words), spare, limit=300)
        assert ended.status == 0, ended.err
    return runs(spare)


def runs(home: Path) -> dict[str, object]:
    """What the runs of a folder have made; the store mends an entry when somebody asks for it."""
    return {name: content for name, content in results(home / "outputs") if name.startswith("runs/")}


def stopped() -> int:
    """A run that Ctrl-C stops while the student is trained."""
    epoch = progress.Lines.epoch

    def signalled(self, *arguments):
        epoch(self, *arguments)
        if "student" in self.title:
            signal.raise_signal(signal.SIGINT)

    progress.Lines.epoch = signalled
    return typed(STOPPED)


def commands(home: Path) -> dict[str, list[str]]:
    """What may be typed next, by how often it is (see `WEIGHTS`)."""
    (sweep,) = (home / "outputs/sweeps").iterdir()
    (unfinished,) = [run for run in (home / "outputs/runs").iterdir() if not (run / "run.json").exists()]
    done = sorted(run.name for run in (home / "outputs/runs").iterdir() if (run / "run.json").exists())
    run, first = f"outputs/runs/{unfinished.name}", f"outputs/runs/{done[0]}"
    return {"again": ONE, "the sweep again": SWEEP, "another run": ANOTHER, "the interrupted command": STOPPED,
            "resume the run": ["resume", run], "resume a finished run": ["resume", first],
            "resume the sweep": ["resume", f"outputs/sweeps/{sweep.name}"], "results": ["results"],
            "league": ["tables", "league"], "store": ["store"], "diagnose": ["diagnose", "calibration"],
            "report": ["report"], "plot": ["plot", "pareto", "curves"]}


WEIGHTS = {"again": 5, "the sweep again": 1, "another run": 3, "the interrupted command": 2, "resume the run": 2,
           "resume a finished run": 1, "resume the sweep": 1, "results": 5, "league": 4, "store": 2, "diagnose": 3, "report": 1,
           "plot": 1}
MAKES = {"again": ("-kd-",), "the sweep again": ("-kd-", "-fitnets-"), "another run": ("-dkd-",),
         "the interrupted command": ("-at-",), "resume the run": ("-at-",)}  # what the runs that a command does are called


def run(count: int, seed: str) -> Iterator[dict[str, object]]:
    """So many cases; each as what was done and what went wrong, which is empty where nothing did."""
    draws = random.Random(f"damage {seed}")
    with tempfile.TemporaryDirectory() as folder:
        whole, spare = Path(folder) / "whole", Path(folder) / "spare"
        whole.mkdir()
        made = prepare(whole, spare)
        words = commands(whole)
        files = sorted(path.relative_to(whole) for path in (whole / "outputs").rglob("*")
                       if path.is_file() and path.suffix != ".lock" and path.name != ".lock")
        for number in range(count):
            home = Path(folder) / "home"
            shutil.copytree(whole, home)
            file = draws.choice(files)
            kinds = ANY | ({"odd inside": INSIDE[file.suffix]} if file.suffix in INSIDE else {})
            kind = draws.choice([*kinds, *["odd inside"] * (4 if file.suffix in INSIDE else 0)])
            name = draws.choices(list(words), [WEIGHTS[one] for one in words])[0]
            before = shutil.copy(home / file, Path(folder) / "before") if kind == "odd inside" else None
            kinds[kind](home / file, draws)
            changed = {} if before is None else {"content": (home / file).read_text(errors="replace")[:20000]}
            ended = forked(lambda name=name: typed(words[name]), home)
            fault = ended.fault or verdict(name, file, kind, ended, home, made)
            told = {"case": number, "file": str(file), "damage": kind, "command": name, "fault": fault,
                    "status": ended.status, "seconds": round(ended.seconds, 2)}
            yield told | ({"err": ended.err[-2000:], "out": ended.out[-500:], **changed} if fault else {})
            shutil.rmtree(home)


def verdict(name: str, file: Path, kind: str, ended: Ending, home: Path, made: dict[str, object]) -> str:
    """What a command did wrong that was well-behaved in itself."""
    if strange := sorted(path.name for path in home.iterdir() if path.name != "outputs"):
        return f"wrote elsewhere: {', '.join(strange)}"
    if ended.status not in (0, 2):
        return f"status {ended.status}"
    if name in MAKES:
        if ended.status:
            # kdrun removes nobody's folders and links, and resumes nothing but what was recorded
            mine = kind in ("above", "folder", "fifo", "dangling") or (name == "resume the run" and file.name == "asked.json")
            return "" if mine else "not healed: refused"
        now = runs(home)
        lost = [path for path in made if any(part in path for part in MAKES[name]) and now.get(path) != made[path]]
        return f"not healed: {', '.join(lost)}" if lost else ""
    weights = file.name in ("student.safetensors", "weights.safetensors")  # which diagnose loads
    if name == "diagnose" and weights and file.name not in ended.err:
        return "damaged weights taken in silence"
    return ""
