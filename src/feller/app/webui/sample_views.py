"""Samples that a visitor asks for, drawn into a file of the page's own."""

import pathlib
from typing import Any, cast

from feller.app.reporter import Tell
from feller.app.webui.guide import given_of, guidance_of
from feller.app.webui.loaded_run import Opened
from feller.app.webui.made import place_in
from feller.app.webui.tab import Answers, Place
from feller.app.workflows.sample import sample
from feller.data.modality import Dataset, Modality


def drawn_of(one: Opened, place: Place, answers: Answers, tell: Tell, **more: Any) -> tuple[Dataset, pathlib.Path]:
    """Draw as many as asked for, with the conditions, the guidance and the seed that were set.

    Args:
        one: The run.
        place: Of the page.
        answers: What was set.
        tell: Hears how it goes.
        more: What else `feller.app.workflows.sample` takes; what is named here comes first.

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
