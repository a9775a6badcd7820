"""Teacher assistants."""

from collections.abc import Iterator
from typing import ClassVar

from kdrun.config.constraints import NetworkName
from kdrun.methods.base import Method, Phase, Run
from kdrun.methods.shapes import Curriculum
from kdrun.models.roles import frozen


class TAKD(Curriculum):
    """Bridge the gap between teacher and student by assistants of sizes in between (Mirzadeh et al. 2020).

    The teacher teaches the first assistant, each assistant the next, the last one the student. Without assistants this
    is the base method.

    Args:
        base: the method of each hop; the paper's is Hinton's.
        assistants: names of networks, from the teacher's side to the student's.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    source = "Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh: Improved knowledge distillation via teacher " \
             "assistant. AAAI 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 5", "Zhu section III-B")

    def __init__(self, *, base: Method, assistants: list[NetworkName]) -> None:
        super().__init__(base=base)
        self.assistants = assistants

    def phases(self, run: Run) -> Iterator[Phase]:
        """Each assistant, then the student."""
        student = run.networks.student
        for number, name in enumerate(self.assistants, 1):
            run.networks.student = run.factory.named(name, f"assistant {number}")
            yield from self.base_phases(run, f"assistant {number} {name}")  # numbered, for a network may come twice
            run.networks.teachers = [frozen(run.networks.student, f"assistant {number} {name}")]
        run.networks.student = student
        yield from self.base_phases(run, "student")
