"""How well two kinds of sounds are told apart, and how sure that is."""

import math
from dataclasses import dataclass

SURE = 1.959964
"""Deviations of a normal law that hold 95 % of it."""


@dataclass(frozen=True)
class Apart:
    """How many of two kinds were told right."""

    spared: int
    """Real ones that were taken for real."""
    real: int
    caught: int
    """Made ones that were taken for made."""
    made: int

    @property
    def accuracy(self) -> float:
        """The mean of the shares of both kinds that were told right; 0.5 is chance, however many there are of each."""
        return (self.spared / self.real + self.caught / self.made) / 2

    @property
    def interval(self) -> tuple[float, float]:
        """Where it lies with a confidence of 95 %, if the sounds are independent.

        Wilson's limits of both shares, put together as Newcombe does for differences. Source: Newcombe 1998, "Interval
        estimation for the difference between independent proportions", Statistics in Medicine 17, 873.
        """
        below, above = 0.0, 0.0
        for right, n in ((self.spared, self.real), (self.caught, self.made)):
            low, high = wilson(right, n)
            below, above = below + (right / n - low) ** 2, above + (high - right / n) ** 2
        return max(self.accuracy - math.sqrt(below) / 2, 0.0), min(self.accuracy + math.sqrt(above) / 2, 1.0)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the limits of a share by the score test, with a confidence of 95 %.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209.
    """
    share, z2 = right / n, SURE**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = SURE / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)
