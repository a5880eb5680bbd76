"""How one number of a report is to be read."""

from dataclasses import dataclass

from feller.evaluation.report.wording import MISSING, is_number, number, percent

AGAINST_ITSELF = "real against real"
HELD_OUT = "there are no held-out data, or too few"
"""Why what needs unseen data is missing."""


@dataclass(frozen=True)
class Measure:
    """One number and how to read it."""

    label: str
    floor: str = ""
    """Name of the number that real data reach; empty if there is none."""
    real: str = AGAINST_ITSELF
    """What real data were compared with."""
    level: float | None = None
    """What real data reach by the definition of the number."""
    unit: str = ""
    is_share: bool = False

    def text(self, value: object) -> str:
        """Write a value in the form of this measure."""
        if isinstance(value, str):
            return value
        if not is_number(value):
            return MISSING
        return percent(value) if self.is_share else number(value)
