"""What the gallery tells of one paper."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from feller_papers.claims import Claim

Draw = Callable[[pathlib.Path | None], tuple[Figure, Claim]]
"""(folder of larger data, or file of claims) -> the picture, and the claim that it shows."""


@dataclass(frozen=True)
class Paper:
    """A paper, and how its picture comes about."""

    title: str
    arxiv: str
    run: str
    """What was run for the picture, for people: seeds and lengths of training."""
    caption: str
    """What the picture shows."""
    draw: Draw
    anchor: str
    """Of the section of reference/reproductions.md, which has the figures of the whole run."""
