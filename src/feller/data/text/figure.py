"""Overview images that show each text in a box."""

import functools
import pathlib
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MAX_TEXTS = 24
"""Maximum number of texts in an image; later texts are not shown."""
WIDE = 64
"""Maximum line length, in characters."""
MAX_LINES = 16
"""Maximum number of lines shown per text."""
SIZE = 13
"""Font height in pixels."""
LEAD = 17
"""Line spacing in pixels."""
GAP = 12
"""Padding around a text in pixels."""


def page(texts: Sequence[str], labels: Sequence[str] | None, columns: int | None = None) -> Image.Image:
    """Draw an image with at most `MAX_TEXTS` texts, each in a box with its label if labels are given.

    A row has `columns` boxes; by default one box if there are fewer than four texts, else two.
    """
    boxes = [_broken(text) for text in texts[:MAX_TEXTS]] or [[""]]
    if labels is not None:
        boxes = [[f"[{label}]", *lines] for label, lines in zip(labels, boxes, strict=False)]
    num_columns = min(len(boxes), columns or (1 if len(boxes) < 4 else 2))
    char_width = font().getlength("m")
    width = int(char_width * max(len(line) for lines in boxes for line in lines)) + 2 * GAP
    rows = [boxes[i : i + num_columns] for i in range(0, len(boxes), num_columns)]
    heights = [max(map(len, row)) * LEAD + GAP for row in rows]
    image = Image.new("RGB", (max(width, 120) * num_columns, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(image)
    top = GAP // 2
    for row, height in zip(rows, heights, strict=True):
        for i, lines in enumerate(row):
            left = i * max(width, 120)
            draw.rectangle((left + 4, top, left + max(width, 120) - 5, top + height - 4), fill="#f4f4f1")
            for j, line in enumerate(lines):
                position = left + GAP, top + j * LEAD + 2
                draw.text(position, line, fill="#1f5fa8" if labels is not None and j == 0 else "#222222", font=font())
        top += height
    return image


def _broken(text: str) -> list[str]:
    """Wrap a text into lines and truncate it."""
    lines = [line[i : i + WIDE] for line in text.split("\n") for i in range(0, max(len(line), 1), WIDE)]
    lines = ["".join(character if character.isprintable() else "\ufffd" for character in line) for line in lines]
    return lines if len(lines) <= MAX_LINES else [*lines[: MAX_LINES - 1], "…"]


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """Return a monospaced font; characters that it lacks are shown as boxes."""
    import matplotlib as mpl

    return ImageFont.truetype(pathlib.Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf", SIZE)
