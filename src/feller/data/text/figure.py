"""Texts on a page, for people."""

import functools
import pathlib
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MAX_TEXTS = 24
"""Texts on a page, at most; the first ones."""
WIDE = 64
"""Characters of a line, at most."""
MAX_LINES = 16
"""Lines of a text, at most."""
SIZE = 13
"""Height of the letters in pixels."""
LEAD = 17
"""Pixels from line to line."""
GAP = 12
"""Pixels around a text."""


def page(texts: Sequence[str], labels: Sequence[str] | None, columns: int | None = None) -> Image.Image:
    """Write the first texts in boxes, their labels above them, `columns` boxes in a row."""
    shown = [_broken(text) for text in texts[:MAX_TEXTS]] or [[""]]
    if labels is not None:
        shown = [[f"[{label}]", *lines] for label, lines in zip(labels, shown, strict=False)]
    across = min(len(shown), columns or (1 if len(shown) < 4 else 2))
    cell = font().getlength("m")
    width = int(cell * max(len(line) for lines in shown for line in lines)) + 2 * GAP
    rows = [shown[i : i + across] for i in range(0, len(shown), across)]
    heights = [max(map(len, row)) * LEAD + GAP for row in rows]
    image = Image.new("RGB", (max(width, 120) * across, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(image)
    top = GAP // 2
    for row, height in zip(rows, heights, strict=True):
        for i, lines in enumerate(row):
            left = i * max(width, 120)
            draw.rectangle((left + 4, top, left + max(width, 120) - 5, top + height - 4), fill="#f4f4f1")
            for j, line in enumerate(lines):
                at = left + GAP, top + j * LEAD + 2
                draw.text(at, line, fill="#1f5fa8" if labels is not None and j == 0 else "#222222", font=font())
        top += height
    return image


def _broken(text: str) -> list[str]:
    """Break a text into lines of the page, and end it where it is too long."""
    lines = [line[i : i + WIDE] for line in text.split("\n") for i in range(0, max(len(line), 1), WIDE)]
    lines = ["".join(letter if letter.isprintable() else "\ufffd" for letter in line) for line in lines]
    return lines if len(lines) <= MAX_LINES else [*lines[: MAX_LINES - 1], "…"]


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """Return a font of letters that are equally wide; a box stands for those that it lacks."""
    import matplotlib as mpl

    return ImageFont.truetype(pathlib.Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf", SIZE)
