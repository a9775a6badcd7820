"""Which network here is the one that a table prints, and what the table leaves open about it."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kdrun.config import registry

__all__ = ["Printed", "printed_networks"]


@dataclass(frozen=True)
class Printed:
    """A network as a table names it.

    Attributes:
        choice: as in `teacher=choice` and `student=choice`.
        note: what the table does not say and how it is read here; empty where nothing is open.
    """

    choice: str
    note: str

    @property
    def name(self) -> str:
        """What results call it."""
        return registry.network_name(registry.network(self.choice))


@cache
def printed_networks() -> dict[str, Printed]:
    """The networks of Gou's Tables 5 and 6 and of the table of CRD's toolkit (RepDistiller), by the names printed there."""
    lines = files("kdrun.analysis").joinpath("networks.csv").read_text().splitlines()
    return {row["printed"]: Printed(row["choice"], row["note"]) for row in csv.DictReader(lines)}
