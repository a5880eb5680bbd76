"""Pictures that a model explains from what was measured of them: what filling in and restoring have in common."""

import pathlib
import secrets
from typing import Any

from PIL import Image

from feller.app.reporter import Tell
from feller.app.webui.guide import given_of, guidance_of
from feller.app.webui.loaded_run import Opened
from feller.app.webui.made import place_in
from feller.app.webui.tab import Answers, Place
from feller.app.webui.tabs.sample import MOST_SEED
from feller.app.workflows.sample import sample
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.paths import Affine

MOST_PICTURES = 16
"""Pictures, each of which has a search of its own."""
METHOD = "pigdm"
"""Guidance towards what is seen, the quickest way that keeps to it."""


def explains_pictures(one: Opened, place: Place) -> bool:
    """Tell whether the model's pictures are numbers that flow straight, which `steer --observe` needs."""
    about = one.about
    return about is not None and isinstance(one.modality, Images) and type(about.path) is Affine and one.draws


def any_sample(one: Opened, modality: Images, room: pathlib.Path) -> Dataset:
    """Draw one picture, another each time, in few calls."""
    place = str(place_in(room, modality))
    return sample(one.run, 1, out=place, calls=16, seed=secrets.randbelow(MOST_SEED))[0]


def at_size(image: Image.Image, modality: Images) -> Image.Image:
    """Bring a picture to the size and the colours of the model's."""
    mode = "L" if modality.channels == 1 else "RGB"
    return image.convert("RGB").convert(mode).resize((modality.width, modality.height), Image.Resampling.BOX)


def explained(
    one: Opened, modality: Images, file: pathlib.Path, operator: str, answers: Answers, tell: Tell, **more: Any
) -> Any:
    """Return what the model finds to explain a measurement, whose samples lie beside its file.

    Args:
        one: The run.
        modality: Of its pictures.
        file: What was measured.
        operator: How, as `feller steer` names it.
        answers: How many, conditions, guidance and seed, as they were set.
        tell: Hears how it goes.
        more: What else `feller.app.workflows.steering.inverse_problems` takes.
    """
    from feller.app.workflows.steering.inverse_problems import observe  # takes long to load

    return observe(
        one.run,
        str(file),
        operator,
        answers["n"],
        method=METHOD,
        out=str(place_in(file.parent, modality)),
        given=given_of(answers, modality),
        guidance=guidance_of(answers),
        seed=answers["seed"],
        tell=tell,
        **more,
    )
