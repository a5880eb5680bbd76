"""Size-limited figures and animations embedded in the report page."""

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
"""Maximum size of an animation in bytes, before base64 encoding, which adds a third."""
QUALITIES = (85, 70, 50, 30)
"""WebP quality levels, tried in this order until the file is small enough."""


@dataclass(frozen=True, eq=False)
class Animation:
    """Animated WebP image that loops forever."""

    data: bytes
    size: tuple[int, int]
    """Width and height in pixels."""
    still: Image.Image
    """Still image that replaces the animation in print and with reduced motion."""


def make_animation(
    frames: Sequence[Image.Image],
    milliseconds: Sequence[int],
    still: Image.Image,
    tries: Callable[[int], None] = lambda number: None,
) -> Animation:
    """Encode frames of equal size as an animation, at the highest quality within the size limit.

    Args:
        frames: Images of the animation, at least two.
        milliseconds: Duration of each frame.
        still: Still image that replaces the animation in print.
        tries: Callback, called before each encoding with the number of previous encodings.

    Raises:
        UsageError: If there are fewer than two frames, or if the number of durations differs from that of frames.
    """
    if len(frames) < 2 or len(frames) != len(milliseconds):
        raise UsageError("at least two frames, and a duration for each", f"{len(frames)} and {len(milliseconds)}")
    frames = [frame.convert("RGB") for frame in frames]
    attempts = itertools.count()
    while True:
        for quality in QUALITIES:
            tries(next(attempts))
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
        width, height = frames[0].size
        frames = [frame.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS) for frame in frames]


PAGE_PIXELS = 560
"""Maximum width of a figure beside another figure, in CSS pixels."""
DENSITY = 2
"""Number of device pixels per CSS pixel on a high-density screen."""
MAX_SIDE = 2000
"""Maximum length of the longer side of an embedded image, in pixels."""
MAX_PICTURE_BYTES = 2_000_000
"""Maximum size of an embedded image in bytes."""
ReportPicture = Image.Image | Animation
MODES = ("L", "LA", "RGB", "RGBA")


@dataclass(frozen=True)
class Scale:
    """Integer magnification factors of an image: as displayed on the page, and as stored in the file."""

    page: int
    file: int


def common_scale(pictures: Sequence[ReportPicture]) -> Scale:
    """Return the common scale for images that are to be compared; animations are ignored.

    Small images are stored with an integer magnification larger than displayed, and the browser downscales them. The
    pixels then have sharp edges and equal sizes at any width, unlike with `image-rendering: pixelated`.
    """
    longest = max((max(image.size) for image in pictures if isinstance(image, Image.Image)), default=PAGE_PIXELS)
    page = max(1, PAGE_PIXELS // longest)
    return Scale(page, max(page, -(-DENSITY * PAGE_PIXELS // longest)))


@dataclass(frozen=True)
class EmbeddedPicture:
    """Image or animation as a data URL, with its caption and size."""

    caption: str
    source: str
    """Data URL of the image or animation."""
    width: int
    height: int
    still: str = ""
    """Data URL of an animation's still image, for print and reduced motion; empty if `source` is an image."""


def embed_picture(caption: str, picture: ReportPicture, scale: Scale) -> EmbeddedPicture:
    """Encode an image or animation as a data URL, with its caption; `scale` magnifies images, but not animations."""
    if isinstance(picture, Animation):
        animated = base64.b64encode(picture.data).decode()
        still = base64.b64encode(_png(picture.still, Scale(1, 1))).decode()
        return EmbeddedPicture(
            caption, f"data:image/webp;base64,{animated}", *picture.size, f"data:image/png;base64,{still}"
        )
    data = base64.b64encode(_png(picture, scale)).decode()
    width, height = picture.width * scale.page, picture.height * scale.page
    return EmbeddedPicture(caption, f"data:image/png;base64,{data}", width, height)


def page_width(picture: ReportPicture, scale: Scale) -> int:
    """Return the preferred width of an image or animation on the page, in CSS pixels."""
    return picture.size[0] if isinstance(picture, Animation) else picture.width * scale.page


def _png(image: Image.Image, scale: Scale) -> bytes:
    """Magnify by an integer without interpolation, then downscale to the limits."""
    if image.mode not in MODES:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    image = image.resize((image.width * scale.file, image.height * scale.file), Image.Resampling.NEAREST)
    while True:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "PNG")
        if file.tell() <= MAX_PICTURE_BYTES or max(image.size) <= PAGE_PIXELS:
            return file.getvalue()
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)


new_figure = functools.partial(figures.blank_figure, dpi=150)
"""Function (width, height in inches) that returns an empty figure at 150 dpi, with 1.5 times the displayed pixels."""
