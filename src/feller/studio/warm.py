"""What is done once before anybody asks: the first network call of a process takes far longer than the others."""

import contextlib

from feller.journeys.sample import sample
from feller.studio.made import place_in
from feller.studio.tab import Place


def warm(place: Place) -> None:
    """Draw one sample of the first run that can; what fails says so when somebody asks."""
    one = next((one for one in place.runs if one.is_plain and one.run.average.is_file()), None)
    if one is None or one.modality is None:
        return
    with contextlib.suppress(Exception):
        sample(one.run, 1, out=str(place_in(place.scratch.room(), one.modality)))
