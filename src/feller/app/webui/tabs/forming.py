"""Watch samples form on their way from noise to data."""

from typing import cast

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.webui.controls import Number
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import drawn_of, large
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Rows, Shown, Tab, guides
from feller.app.webui.tabs.sample import in_time, seeded
from feller.core.pytree import State
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.points.modality import Rows as Points
from feller.data.text.modality import Text

MOST = 25
"""Samples that are watched at once: they go through the network together."""
POINTS = 500
CALLS = 32
LAST = 1500
"""Milliseconds for which the end is shown."""
EACH = 120
"""And each time before."""
BAND, LETTER, GAP = 28, 16, 8
"""Height of the band that the time stands in, of its letters, and how far it is from the edge, in pixels."""
MISSING = "·"
"""A symbol that is not decided yet."""


def _has(one: Opened, place: Place) -> bool:
    return one.is_plain and in_time(one) and isinstance(one.modality, Images | Labelled | Points | Text)


def _tab(one: Opened, place: Place) -> Tab:
    modality = cast(Modality, one.modality)
    points, text = isinstance(modality, Points), isinstance(modality, Text)
    most = POINTS if points else 1 if text else MOST

    def does(answers: Answers, tell: Tell) -> Outcome:
        from feller.evaluation.report.figure import animated  # takes long to load

        way: list[tuple[float, State]] = []

        def seen(t: float, x: State) -> None:
            way.append((t, x))

        drawn, file = drawn_of(one, place, answers, tell, calls=answers["calls"], seen=seen)
        if isinstance(modality, Text):
            return Outcome(table=Rows(("time", "text"), tuple((f"{t:.2f}", partly(modality, x)) for t, x in way)))
        frames = [timed(large(modality.show(modality.decode(_decided(modality, x)), drawn.given)), t) for t, x in way]
        film = animated(frames, [*[EACH] * (len(frames) - 1), LAST], frames[-1])
        path = file.with_name("forming.webp")
        path.write_bytes(film.data)
        return Outcome(pictures=(Shown("From noise to data", path),), files=(path, file))

    controls = {
        **({} if text else {"n": Number(label="How many", value=min(most, 300 if points else 9), least=1, most=most)}),
        "calls": Number(
            label="Calls",
            hint=f"One {'line' if text else 'picture'} for each step.",
            value=CALLS,
            least=4,
            most=100,
            flags=("--calls",),
        ),
        **guides(one),
        "seed": seeded(),
    }
    return Tab(
        about="See how samples form, from noise at time 0 to data at time 1.",
        controls=controls,
        does=does if not text else lambda answers, tell: does({**answers, "n": 1}, tell),
        shows=(Kind.TABLE,) if text else (Kind.PICTURES, Kind.FILES),
        button="Watch",
    )


def timed(frame: Image.Image, t: float) -> Image.Image:
    """Write the time above a picture."""
    whole = Image.new("RGB", (frame.width, frame.height + BAND), "white")
    whole.paste(frame.convert("RGB"), (0, BAND))
    ImageDraw.Draw(whole).text((GAP, BAND / 2), f"time {t:.2f}", "black", ImageFont.load_default(LETTER), anchor="lm")
    return whole


def _decided(modality: Modality, x: State) -> State:
    """Return states without masks, which no picture has: symbols that are not decided yet are black."""
    if isinstance(modality, Labelled):
        return {"image": _decided(modality.pictures, x["image"]), "label": _within(x["label"], modality)}
    if isinstance(modality, Images) and isinstance(x, Tensor) and not x.is_floating_point():
        return torch.where(x > modality.levels, 0, x)
    return x


def _within(label: Tensor, modality: Labelled) -> Tensor:
    return label.clamp(max=len(modality.pictures.classes) - 1)


def partly(modality: Text, x: Tensor) -> str:
    """Return the first of some texts, with a dot for each symbol that is not decided yet."""
    words, run = "", []
    for symbol in x[0].tolist():
        if symbol < modality.vocabulary.count:
            run.append(symbol)
            continue
        words, run = words + modality.vocabulary.decode(run), []
        if symbol == modality.end:
            return words
        words += MISSING
    return words + modality.vocabulary.decode(run)


WATCH = Ability(name="Watch", has=_has, tab=_tab)
