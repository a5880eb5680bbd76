"""The gallery entry of one paper."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from feller_papers.claims import Claim

Draw = Callable[[pathlib.Path | None], tuple[Figure, Claim]]
"""(folder of larger data, or claims file) -> the figure, and the claim that it illustrates."""


@dataclass(frozen=True)
class Paper:
    """A paper, and the function that draws its figure."""

    title: str
    arxiv: str
    run: str
    """Description of the run behind the figure: seeds and training steps."""
    caption: str
    """Caption of the figure."""
    draw: Draw
    anchor: str
    """Anchor of the section in reference/reproductions.md with the results of the full run."""
