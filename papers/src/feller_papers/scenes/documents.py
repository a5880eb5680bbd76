"""Documents of texts and pictures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a document."""

    values: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Answer:
    """Text that is always masked in training."""

    text: str


@dataclass(frozen=True)
class Break:
    """Separator of two texts; adjacent texts and answers are one text without it."""


Item = str | Picture | Answer | Break


@dataclass(frozen=True, eq=False)
class Document:
    """A document."""

    items: tuple[Item, ...]
    task: str = ""
    """Name of the task; empty for pretraining data."""

    def pictures(self) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
        """Return the pictures in order."""
        return tuple(item.values for item in self.items if isinstance(item, Picture))

    def text(self) -> str:
        """Return texts and answers, one text per line."""
        lines = [""]
        for item in self.items:
            if isinstance(item, str | Answer):
                lines[-1] += item.text if isinstance(item, Answer) else item
            elif lines[-1]:
                lines.append("")
        return "\n".join(line for line in lines if line)
