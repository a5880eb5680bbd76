"""Tab: restore images from measurements."""

import pathlib
import secrets
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice, Number, Picture
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import picture, place_in, saved
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Shown, Tab, given_of, guidance_of, guides
from feller.app.webui.tabs.sample import MOST_SEED, seeded
from feller.app.workflows.sample import sample
from feller.data.images.load_images import FORMATS
from feller.data.images.modality import Images
from feller.data.images.resize import picture as image_of
from feller.data.modality import Dataset

MOST_PICTURES = 16
"""Pictures, each of which has a search of its own."""
METHOD = "pigdm"
"""Guidance towards what is seen, the quickest way that keeps to it."""


def explains_pictures(one: Opened, place: Place) -> bool:
    """Tell whether the model's pictures are numbers that flow straight, which `steer --observe` needs."""
    about = one.about
    if about is None or not about.family.in_time or about.path.affine_schedule is None:
        return False
    return isinstance(one.modality, Images) and one.draws


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


GREY = "colours gone"
HOW = {
    "2 x 2 pixels become one": "pool=2",
    "4 x 4 pixels become one": "pool=4",
    "blurred a little": "blur=0.7",
    "blurred": "blur=1.5",
    GREY: "grey",
    "16 random sums of all pixels": "sums=16",
}
"""What happens to a picture -> the operator of `feller steer`; one's own are code, which no visitor names."""


def _operators(modality: Images) -> dict[str, str]:
    """Return those that suit the size of the pictures."""
    sides = (modality.height, modality.width)
    fits = {f"pool={n}" for n in (2, 4) if all(side % n == 0 and side > n for side in sides)}
    return {
        said: words
        for said, words in HOW.items()
        if (words in fits if words.startswith("pool") else said != GREY or modality.channels == 3)
    }


def _tab(one: Opened, place: Place) -> Tab:
    modality = cast(Images, one.modality)
    operators = _operators(modality)

    def does(answers: Answers, tell: Tell) -> Outcome:
        from feller.app.workflows.steering.measurements import operator_of

        room, words = place.scratch.room(), operators[answers["how"]]
        sharp = _sharp(one, modality, answers["picture"], room)
        measured = operator_of(words, None, tuple(sharp.shape[1:]))(sharp)
        np.save(room / "measured.npy", measured.numpy())
        found = explained(one, modality, room / "measured.npy", words, answers, tell)
        shown = [saved(_image(sharp, modality), room, "The picture"), *_seen(measured, modality, room)]
        shown += [picture(found.samples, room, "Restored"), picture(found.mean, room, "Mean of those")]
        said = _told(found.numbers["residual"], words, modality.levels)
        return Outcome(said=said, pictures=tuple(shown), files=(found.place,))

    return Tab(
        about="Spoil a picture, and see which pictures of the model explain what is left of it. Without one of yours,"
        " it is a sample of the model.",
        controls={
            "picture": Picture(label="Picture", flags=("--observe",)),
            "how": Choice(
                label="What happens to it",
                options=tuple(operators),
                value=next(iter(operators)),
                flags=("--operator",),
            ),
            "n": Number(label="How many", value=4, least=1, most=MOST_PICTURES),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Spoil and restore",
        pictures=4,
    )


def _told(residual: float, words: str, levels: int) -> str:
    """Say how far what is left of the restored pictures is from what was left of the one that was spoiled."""
    unit = "" if words.startswith("sums") else f" of {levels} gray levels"
    much = "less than 0.01" if residual < 0.01 else f"{residual:.2f}"
    return f"What is left of the restored pictures differs from what was left by {much}{unit} on average."


def _sharp(one: Opened, modality: Images, file: pathlib.Path | None, room: pathlib.Path) -> Tensor:
    """Return a picture in the levels of the data, [1, c, h, w]."""
    if file is None:
        return any_sample(one, modality, room).values.float().cpu()
    with Image.open(file, formats=FORMATS) as there:
        small = at_size(there, modality)
    levels = np.asarray(small, dtype=np.float32).reshape(modality.height, modality.width, modality.channels)
    return torch.from_numpy(levels.transpose(2, 0, 1).copy())[None] * (modality.levels / 255)


def _image(values: Tensor, modality: Images) -> Image.Image:
    """Return one picture of levels as an image."""
    return image_of(modality.as_bytes(values[0]))


def _seen(measured: Tensor, modality: Images, room: pathlib.Path) -> list[Shown]:
    """Draw what was measured, where it is a picture."""
    if measured.ndim != 4 or measured.shape[1] not in (1, 3):
        return []
    return [saved(_image(measured, modality), room, "What is left of it")]


def _has(one: Opened, place: Place) -> bool:
    return explains_pictures(one, place) and bool(_operators(cast(Images, one.modality)))


RESTORE = Ability(name="Restore", has=_has, tab=_tab)
