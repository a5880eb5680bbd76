"""Samples that a visitor asks for, drawn into a file of the page's own."""

import pathlib
from typing import Any, cast

from feller.data.modality import Dataset, Modality
from feller.journeys.sample import sample
from feller.journeys.tell import Tell
from feller.studio.guide import given_of, guidance_of
from feller.studio.made import place_in
from feller.studio.opened import Opened
from feller.studio.tab import Answers, Place


def drawn_of(one: Opened, place: Place, answers: Answers, tell: Tell, **more: Any) -> tuple[Dataset, pathlib.Path]:
    """Draw as many as asked for, with the conditions, the guidance and the seed that were set.

    Args:
        one: The run.
        place: Of the page.
        answers: What was set.
        tell: Hears how it goes.
        more: What else `feller.journeys.sample` takes; what is named here comes first.

    Returns:
        The samples, and the file that holds them, alone in its folder.
    """
    modality = cast(Modality, one.modality)
    if "given" not in more:
        more["given"] = given_of(answers, modality)
    if "guidance" not in more:
        more["guidance"] = guidance_of(answers)
    out = str(place_in(place.scratch.room(), modality))
    return sample(one.run, answers["n"], out=out, seed=answers["seed"], tell=tell, **more)
