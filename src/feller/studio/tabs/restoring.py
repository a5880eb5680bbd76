"""Restore pictures from what was measured of them: fewer pixels, a blur, no colours, sums, magnitudes."""

import pathlib
import secrets
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.data.images.modality import Images
from feller.errors import UsageError
from feller.journeys.sample import sample
from feller.journeys.tell import Tell
from feller.studio.controls import Choice, Number, Picture
from feller.studio.guide import given_of, guidance_of, guides
from feller.studio.made import picture, place_in, saved
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome, Shown
from feller.studio.tab import Ability, Answers, Kind, Place, Tab
from feller.studio.tabs.fill import METHOD, MOST_FILLED, fills_pictures
from feller.studio.tabs.sample import MOST_SEED, seeded

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
        from feller.journeys.observe import observe  # takes long to load
        from feller.journeys.observed import operator_of

        room, words = place.scratch.room(), operators[answers["how"]]
        sharp = _sharp(one, modality, answers["picture"], room)
        measured = operator_of(words, None, tuple(sharp.shape[1:]))(sharp)
        np.save(room / "measured.npy", measured.numpy())
        found = observe(
            one.run,
            str(room / "measured.npy"),
            words,
            answers["n"],
            method=METHOD,
            out=str(place_in(room, modality)),
            given=given_of(answers, modality),
            guidance=guidance_of(answers),
            seed=answers["seed"],
            tell=tell,
        )
        shown = [saved(_image(sharp, modality), room, "The picture"), *_seen(measured, modality, room)]
        shown += [picture(found.samples, room, "Restored"), picture(found.mean, room, "Mean of those")]
        said = (
            f"they leave {found.numbers['residual']:.3g} unexplained of what was measured, of {modality.levels} levels"
        )
        return Outcome(said=said, pictures=tuple(shown), files=(found.place,))

    return Tab(
        about="Spoil a picture, and see which pictures of the model explain what is left of it. Without one of yours,"
        " it is a sample of the model.",
        controls={
            "picture": Picture(label="Picture"),
            "how": Choice(label="What happens to it", options=tuple(operators), value=next(iter(operators))),
            "n": Number(label="How many", value=4, least=1, most=MOST_FILLED),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Spoil and restore",
        pictures=4,
    )


def _sharp(one: Opened, modality: Images, file: pathlib.Path | None, room: pathlib.Path) -> Tensor:
    """Return a picture in the levels of the data, [1, c, h, w]."""
    if file is None:
        place = str(place_in(room, modality))
        return sample(one.run, 1, out=place, calls=16, seed=secrets.randbelow(MOST_SEED))[0].values.float().cpu()
    try:
        with Image.open(file) as there:
            mode = "L" if modality.channels == 1 else "RGB"
            small = there.convert("RGB").convert(mode).resize((modality.width, modality.height), Image.Resampling.BOX)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError("this is no picture that can be read; upload a PNG or JPEG") from error
    levels = np.asarray(small, dtype=np.float32).reshape(modality.height, modality.width, modality.channels)
    return torch.from_numpy(levels.transpose(2, 0, 1).copy())[None] * (modality.levels / 255)


def _image(values: Tensor, modality: Images) -> Image.Image:
    """Return one picture of levels as an image."""
    levels = (values[0] * (255 / modality.levels)).clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def _seen(measured: Tensor, modality: Images, room: pathlib.Path) -> list[Shown]:
    """Draw what was measured, where it is a picture."""
    if measured.ndim != 4 or measured.shape[1] not in (1, 3):
        return []
    return [saved(_image(measured, modality), room, "What is left of it")]


RESTORE = Ability(
    name="Restore", has=lambda one, place: fills_pictures(one, place) and bool(_operators(cast(Images, one.modality))),
    tab=_tab,
)  # fmt: skip
