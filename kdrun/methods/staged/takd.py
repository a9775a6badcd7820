"""Teacher assistants."""

from collections.abc import Iterator
from typing import ClassVar

from kdrun.bounds import NetworkName
from kdrun.cast import frozen
from kdrun.engine import Run
from kdrun.method import Curriculum, Method, Phase


class TAKD(Curriculum):
    """Bridge the gap between teacher and student by assistants of sizes in between (Mirzadeh et al. 2020).

    The teacher teaches the first assistant, each assistant the next, the last one the student. Without assistants this
    is the base method.

    Args:
        base: the method of each hop; the paper's is Hinton's.
        assistants: names of networks, from the teacher's side to the student's.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = "response"
    source = "Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh: Improved knowledge distillation via teacher " \
             "assistant. AAAI 2020"
    survey_scheme = "offline"
    rows = ("Gou section 5", "Zhu section III-B")

    def __init__(self, *, base: Method, assistants: list[NetworkName]) -> None:
        super().__init__(base=base)
        self.assistants = assistants

    def phases(self, run: Run) -> Iterator[Phase]:
        """Each assistant, then the student."""
        student = run.cast.student
        for number, name in enumerate(self.assistants, 1):
            run.cast.student = run.networks.named(name, f"assistant {number}")
            yield from self.hop(run, f"assistant {number} {name}")  # numbered, for a network may come twice
            run.cast.teachers = [frozen(run.cast.student, f"assistant {number} {name}")]
        run.cast.student = student
        yield from self.hop(run, "student")
