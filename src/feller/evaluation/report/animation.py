"""Pictures that move, in one file that a browser plays without a script."""

import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from feller.core.errors import UsageError

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


def animated(
    frames: Sequence[Image.Image],
    milliseconds: Sequence[int],
    still: Image.Image,
    tries: Callable[[int], None] = lambda number: None,
) -> Animation:
    """Put pictures of one size one after the other, as sharp as the bound on the file allows.

    Args:
        frames: Two or more.
        milliseconds: How long each is shown.
        still: The same in one picture.
        tries: Hears how often they were packed before, each time that they are packed again.

    Raises:
        UsageError: If there are fewer frames, or others than times.
    """
    if len(frames) < 2 or len(frames) != len(milliseconds):
        raise UsageError(f"expected two frames or more and a time for each, got {len(frames)} and {len(milliseconds)}")
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
