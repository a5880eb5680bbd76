"""Infilling of rows of frames: what is hidden, what is learned, and how gaps are filled."""

from feller.infilling.durations import DurationInfilling
from feller.infilling.fill import infill, infill_durations
from feller.infilling.frames import Counted, Everywhere, Hidden, Infilling
from feller.infilling.learned_durations import LearnedDurations
from feller.infilling.segments import Segments

__all__ = [
    "Counted",
    "DurationInfilling",
    "Everywhere",
    "Hidden",
    "Infilling",
    "LearnedDurations",
    "Segments",
    "infill",
    "infill_durations",
]
