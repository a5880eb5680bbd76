"""Pictures on their way: one row for each path, one column for each time."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from feller.data.files.sample_folder import GAP, tile

ROWS, COLUMNS = 6, 9
"""Paths and times that are shown, at most."""
SIDE = 84
"""Pixels a side to which small pictures are magnified, about."""
LETTER, ROOM = 16, 28
"""Height of the letters of a time, and of the band that they stand in, in pixels."""


def film(paths: UInt8[np.ndarray, "n s h w c"], times: Sequence[str]) -> Image.Image:
    """Lay out some pictures of the first paths, each row from where it begins to where it ends.

    Args:
        paths: Pictures at each time of each path.
        times: Of the pictures, in words.
    """
    places = np.unique(np.linspace(0, len(times) - 1, COLUMNS).round().astype(int))
    some = paths[:ROWS, places]
    flat = some.reshape(-1, *some.shape[2:])
    factor = max(1, SIDE // max(flat.shape[1:3]))
    pictures = tile(flat.repeat(factor, 1).repeat(factor, 2), len(places)).convert("RGB")
    wide = (pictures.width - GAP) / len(places)
    strip = Image.new("RGB", (pictures.width, pictures.height + ROOM), "white")
    strip.paste(pictures, (0, ROOM))
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", LETTER)
    draw = ImageDraw.Draw(strip)
    for column, place in enumerate(places.tolist()):
        draw.text((GAP / 2 + (column + 0.5) * wide, ROOM / 2), times[place], "black", font, anchor="mm")
    return strip
