"""Figures embedded in the page, of bounded size; animations."""

import base64
import functools
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from feller.core.errors import UsageError
from feller.data import figures

MAX_ANIMATION_BYTES = 1_000_000
"""Bytes of an animation, at most; a page that holds it grows by a third more."""
QUALITIES = (85, 70, 50, 30)
"""Tried in turn until it is light enough."""


@dataclass(frozen=True, eq=False)
class Animation:
    """An animated WebP that begins anew for ever."""

    data: bytes
    size: tuple[int, int]
    """Width and height in pixels."""
    still: Image.Image
    """What people see who print the page, or want nothing to move."""


def make_animation(
    frames: Sequence[Image.Image],
    milliseconds: Sequence[int],
    still: Image.Image,
    tries: Callable[[int], None] = lambda number: None,
) -> Animation:
    """Put pictures of one size one after the other, as sharp as the bound on the file allows.

    `still` is the same in one picture. `tries` hears how often they were packed before, each time that they are packed
    again. UsageError if there are fewer than two frames, or others than times in milliseconds.
    """
    if len(frames) < 2 or len(frames) != len(milliseconds):
        raise UsageError("two frames or more and a time for each", f"{len(frames)} and {len(milliseconds)}")
    frames = [frame.convert("RGB") for frame in frames]
    tried = itertools.count()
    while True:
        for quality in QUALITIES:
            tries(next(tried))
            file = io.BytesIO()
            frames[0].save(
                file,
                "WEBP",
                save_all=True,
                append_images=frames[1:],
                duration=list(milliseconds),
                loop=0,
                quality=quality,
                method=4,
            )
            if file.tell() <= MAX_ANIMATION_BYTES:
                return Animation(file.getvalue(), frames[0].size, still)
        wide, high = frames[0].size
        frames = [frame.resize((wide * 3 // 4, high * 3 // 4), Image.Resampling.LANCZOS) for frame in frames]


PAGE_PIXELS = 560
"""Pixels of the page that a picture may take beside another."""
DENSITY = 2
"""Pixels of a good screen for each pixel of the page."""
MAX_SIDE = 2000
"""Pixels on the longer side of an embedded picture, at most."""
MAX_PICTURE_BYTES = 2_000_000
"""Bytes of an embedded picture, at most."""
ReportPicture = Image.Image | Animation
MODES = ("L", "LA", "RGB", "RGBA")


@dataclass(frozen=True)
class Scale:
    """How many pixels one pixel of a picture gets; whole numbers, so that all stay alike."""

    page: int
    file: int


def common_scale(pictures: Sequence[ReportPicture]) -> Scale:
    """Choose the scale for pictures that are to be compared; animations have their own.

    Small pictures grow by a whole number in the file, beyond what is shown, and the browser shrinks them the rest of
    the way: at any width their pixels have sharp edges and equal sizes. Browsers that are told `image-rendering:
    pixelated` give some pixels a dot more than others.
    """
    longest = max((max(picture.size) for picture in pictures if isinstance(picture, Image.Image)), default=PAGE_PIXELS)
    page = max(1, PAGE_PIXELS // longest)
    return Scale(page, max(page, -(-DENSITY * PAGE_PIXELS // longest)))


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as the page holds it."""

    caption: str
    source: str
    """Address that holds the data."""
    width: int
    height: int
    still: str = ""
    """Of an animation: what is shown instead to those who asked their system for less motion, and on paper."""


def embed_picture(caption: str, picture: ReportPicture, scale: Scale) -> EmbeddedPicture:
    """Return a picture with its data."""
    if isinstance(picture, Animation):
        moving = base64.b64encode(picture.data).decode()
        still = base64.b64encode(_png(picture.still, Scale(1, 1))).decode()
        return EmbeddedPicture(
            caption, f"data:image/webp;base64,{moving}", *picture.size, f"data:image/png;base64,{still}"
        )
    data = base64.b64encode(_png(picture, scale)).decode()
    width, height = picture.width * scale.page, picture.height * scale.page
    return EmbeddedPicture(caption, f"data:image/png;base64,{data}", width, height)


def page_width(picture: ReportPicture, scale: Scale) -> int:
    """Return how many pixels of the page a picture would like to have."""
    return picture.size[0] if isinstance(picture, Animation) else picture.width * scale.page


def _png(picture: Image.Image, scale: Scale) -> bytes:
    """Magnify without blur, then shrink as far as the bounds ask for."""
    if picture.mode not in MODES:
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    picture = picture.resize((picture.width * scale.file, picture.height * scale.file), Image.Resampling.NEAREST)
    while True:
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        picture.save(file, "PNG")
        if file.tell() <= MAX_PICTURE_BYTES or max(picture.size) <= PAGE_PIXELS:
            return file.getvalue()
        picture.thumbnail((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)


new_figure = functools.partial(figures.blank_figure, dpi=150)
"""An empty figure of so many inches, with half as many pixels again as the page shows."""
