"""What finished networks do to classes, single pictures, confidence, corrupted and attacked pictures.

impact      per class: is it helped or harmed more than all are? (Hooker et al. 2019; Welch's t test over seeds)
exemplars   compression-identified exemplars: pictures whose most frequent answer over seeds changes
mismatches  pictures that a network answers otherwise than its teacher, and who was right (Joseph et al. 2020)
calibration ECE, NLL and Brier score, before and after a temperature fitted on the validation split
robustness  accuracy on corrupted pictures (Hendrycks and Dietterich 2019), under FGSM and PGD
views       where each class has two views (dataset=multiview): which of them were learned (Allen-Zhu and Li 2023)
parts       what the parts of the teacher's answer bring (runs of method=kd_parts; Tang et al. 2020)
capacity    students of teachers of several sizes, stopped early or not (runs of method=kd, es_kd; Cho and Hariharan 2019)
concepts    how many places of a picture features rest on, in foreground and background (Cheng et al. 2020)
boundary    the mean transition error between student and reference (Micaelli and Storkey 2019)
"""

from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdrun.cli.commands import Arguments, at_least
from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

WHAT = ("impact", "exemplars", "mismatches", "calibration", "robustness", "views", "parts", "capacity", "concepts", "boundary")


def main(words: Sequence[str]) -> int:
    """Diagnose the networks of finished runs. Returns the exit status.

    Raises:
        ConfigError: an argument is wrong, a run names code that is not kdrun's, or there is no run.
    """
    given = arguments().parse_args(list(words))
    what = given.what or list(WHAT)
    for word in what:
        if word not in WHAT:
            raise ConfigError([f"cannot diagnose '{word}'" + (closest(word, WHAT) or f"; there is {', '.join(WHAT)}")])
    from kdrun.evaluation.diagnostics.corruptions import CORRUPTIONS

    names = tuple(CORRUPTIONS) if given.corruptions is None else tuple(name for name in given.corruptions.split(",") if name)
    for name in names:
        if name not in CORRUPTIONS:
            raise ConfigError([f"--corruptions: unknown corruption '{name}'"
                           + (closest(name, CORRUPTIONS) or f"; there is {', '.join(CORRUPTIONS)}")])
    import torch

    from kdrun.analysis.run_index import collect
    from kdrun.config.validation import device_problems
    from kdrun.evaluation.diagnostics.calibration import calibration
    from kdrun.evaluation.diagnostics.capacity import capacity_of
    from kdrun.evaluation.diagnostics.concepts import Probe, concepts_of
    from kdrun.evaluation.diagnostics.impact import class_impacts, compression_exemplars
    from kdrun.evaluation.diagnostics.mismatches import mismatches_of
    from kdrun.evaluation.diagnostics.multi_view import views_learned
    from kdrun.evaluation.diagnostics.parts import parts_of
    from kdrun.evaluation.diagnostics.robustness import Stress, boundary, robustness
    from kdrun.evaluation.diagnostics.stored import NetworkLoader, populations
    from kdrun.evaluation.result_tables import write_csv
    from kdrun.utils.console import plain_console
    from kdrun.utils.progress import Progress

    screen = Progress(plain_console(stderr=True))
    if lines := device_problems(given.device):
        raise ConfigError([f"--{line}" for line in lines])
    outputs = Path(given.outputs)
    found = collect(outputs, given.where)
    runs = populations(found, given.trust, screen.note)
    torch.set_num_threads(given.threads or torch.get_num_threads())
    place = given.device if given.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    loader = NetworkLoader(outputs, torch.device(place), screen.note)
    stress = Stress(given.pictures, names, given.eps, given.steps, given.seed)
    probe = Probe(given.probed, given.noises, given.noise_steps, given.seed)
    made: dict[str, Callable[[], Any]] = {
        "impact": lambda: class_impacts(loader, runs, given.against),
        "exemplars": lambda: compression_exemplars(loader, runs, given.against),
        "mismatches": lambda: mismatches_of(loader, runs),
        "calibration": lambda: calibration(loader, runs),
        "robustness": lambda: robustness(loader, runs, stress, given.against),
        "views": lambda: views_learned(loader, runs, given.each),
        "parts": lambda: parts_of(loader, runs),
        "capacity": lambda: capacity_of(loader, runs),
        "concepts": lambda: concepts_of(loader, runs, probe),
        "boundary": lambda: boundary(loader, runs, given.against, given.walks, given.walk_steps, given.rate),
    }
    console = plain_console()
    folder = outputs / "diagnostics" if given.to is None else Path(given.to)
    for word in dict.fromkeys(what):
        findings = made[word]()
        for table in findings.tables:
            console.print(table)
        for note in dict.fromkeys(findings.notes):
            console.print(note)
        for name, (rows, columns) in findings.files.items():
            write_csv(folder / f"{name}.csv", rows, columns)
            console.print(str(folder / f"{name}.csv"), soft_wrap=True)
    return 0


def arguments() -> Arguments:
    """What the command takes."""
    parser = Arguments("diagnose", __doc__ or "")
    parser.words = lambda: WHAT
    parser.add_argument("what", nargs="*", help=f"of {', '.join(WHAT)}; all without")
    parser.add_argument("--outputs", default="outputs", metavar="DIR", help="the folder that holds runs/ and store/ (outputs)")
    parser.add_argument("--where", metavar="CONDITION", help="which runs: 'method == \"kd\" and seed in [1, 2, 3]'")
    parser.add_argument("--against", choices=("teacher", "baseline"), default="teacher", help="the reference (teacher)")
    parser.add_argument("--to", metavar="DIR", help="where the CSVs go (outputs/diagnostics)")
    parser.add_argument("--trust", action="store_true", help="run code outside kdrun where a run's settings name it")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="of the CPU (all)")
    stress = parser.add_argument_group("robustness")
    stress.add_argument("--pictures", type=at_least(0), default=1000, metavar="N",
                        help="of the test set, classes balanced; 0 for all (1000)")
    stress.add_argument("--corruptions", metavar="A,B", help="of those of CIFAR-10-C, '' for none (all)")
    stress.add_argument("--eps", type=radii, default=(2 / 255, 8 / 255), metavar="E,E",
                        help="how far attacks may move a pixel, from 0 to 1; '' for none (2/255,8/255)")
    stress.add_argument("--steps", type=at_least(1), default=10, metavar="N", help="of PGD (10)")
    stress.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of noise and random starts (0)")
    views = parser.add_argument_group("views")
    views.add_argument("--each", type=at_least(1), default=100, metavar="N", help="pictures of each view of each class (100)")
    probe = parser.add_argument_group("concepts")
    probe.add_argument("--probed", type=at_least(1), default=50, metavar="N", help="pictures of the test set (50)")
    probe.add_argument("--noises", type=at_least(1), default=16, metavar="N", help="drawn of each in each step (16)")
    probe.add_argument("--noise-steps", type=at_least(1), default=80, metavar="N", help="in which noise is fitted (80)")
    walk = parser.add_argument_group("boundary")
    walk.add_argument("--walks", type=at_least(1), default=100, metavar="N", help="pictures that walks start from (100)")
    walk.add_argument("--walk-steps", type=at_least(1), default=30, metavar="N", help="of each walk (30)")
    walk.add_argument("--rate", type=above_zero, default=1.0, metavar="R", help="step length per unit of gradient (1)")
    return parser


def above_zero(text: str) -> float:
    """A number above 0, or a fraction of two: 8/255."""
    above, _, below = text.partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"got '{text}', wanted a number above 0, like 0.5 or 8/255")
    return value


def radii(text: str) -> tuple[float, ...]:
    """Numbers above 0, apart by commas."""
    return tuple(above_zero(part) for part in text.split(",") if part.strip())
