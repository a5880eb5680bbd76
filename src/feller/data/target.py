"""What a network is to tell of examples, instead of drawing others."""

import math
from dataclasses import dataclass

from feller.core.errors import InputError


@dataclass(frozen=True)
class Target:
    """Numbers with their means and deviations in the training data, or one class of several."""

    names: tuple[str, ...]
    """What files call them."""
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    """Deviations; means and these have one entry for each name, and none where it is a class."""
    classes: tuple[str, ...] = ()
    """Names of the classes; then there is one name only."""
    among: tuple[str, ...] = ()
    """All classes that data have, where only some of these are told apart."""

    def __post_init__(self) -> None:
        numbers = 0 if self.classes else len(self.names)
        right = len(self.means) == len(self.scales) == numbers and all(0 < s < math.inf for s in self.scales)
        if not {*self.classes} <= {*(self.among or self.classes)}:
            raise InputError(f"expected classes among {', '.join(self.among)}, got {', '.join(self.classes)}")
        if not self.names or not right or (self.classes and len(self.names) > 1):
            raise InputError(f"expected a mean and a positive deviation for each number, or classes of one, got {self}")

    @property
    def answers(self) -> int:
        """How many numbers a network answers with: one for each name, or a logit for each class."""
        return len(self.classes) or len(self.names)
