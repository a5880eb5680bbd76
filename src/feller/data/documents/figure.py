"""Figures of documents: texts and images side by side, in reading order."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageOps

from feller.data.images.image_resizing import from_pixels
from feller.data.text.figure import LEAD, font

MAX_DOCUMENTS = 64
"""Maximum number of documents on a page; if there are more, the first documents are shown."""
SIDE = 96
"""Minimum longer side of an image in pixels; smaller images are magnified without interpolation."""
WIDE = 22
"""Number of characters per line of text."""
GAP = 8
"""Space between the texts and images of a document, in pixels."""
FRAME = "#d4d4cc"
"""Colour of the border around an image."""
LINES = 8
"""Maximum number of lines per text."""

DocumentPart = str | UInt8[np.ndarray, "h w c"]
"""Part of a document: a text or an image."""


def draw_documents(documents: Sequence[Sequence[DocumentPart]], columns: int | None = None) -> Image.Image:
    """Draw documents in a grid with `columns` per row; long texts are truncated."""
    strips = [_strip([_block(part) for part in parts]) for parts in documents[:MAX_DOCUMENTS]]
    strips = strips or [Image.new("RGB", (SIDE, SIDE), "white")]
    width = max(strip.width for strip in strips)
    per_row = min(len(strips), columns or max(1, round((1.6 * len(strips) * _tallest(strips) / width) ** 0.5)))
    rows = [strips[i : i + per_row] for i in range(0, len(strips), per_row)]
    heights = [_tallest(row) + 2 * GAP for row in rows]
    page = Image.new("RGB", (per_row * (width + 2 * GAP), sum(heights)), "#e9e9e4")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for i, strip in enumerate(row):
            left = i * (width + 2 * GAP)
            box = (left + GAP // 2, top + GAP // 2, left + width + 3 * GAP // 2, top + height - GAP // 2)
            ImageDraw.Draw(page).rectangle(box, fill="white")
            page.paste(strip, (left + GAP, top + GAP))
        top += height
    return page


def _tallest(strips: Sequence[Image.Image]) -> int:
    return max(strip.height for strip in strips)


def _strip(blocks: Sequence[Image.Image]) -> Image.Image:
    """Join the parts of a document horizontally."""
    blocks = blocks or [Image.new("RGB", (SIDE, LEAD), "white")]
    strip = Image.new("RGB", (sum(b.width for b in blocks) + GAP * (len(blocks) - 1), _tallest(blocks)), "white")
    left = 0
    for block in blocks:
        strip.paste(block, (left, 0))
        left += block.width + GAP
    return strip


def _block(part: DocumentPart) -> Image.Image:
    if isinstance(part, str):
        return _words(part)
    image = from_pixels(part).convert("RGB")
    factor = max(1, -(-SIDE // max(image.size)))
    magnified = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return ImageOps.expand(magnified, 1, FRAME)


def _words(text: str) -> Image.Image:
    """Draw text wrapped at `WIDE` characters; line breaks in the text are kept."""
    printable_lines = ["".join(char if char.isprintable() else "\ufffd" for char in line) for line in text.split("\n")]
    lines = [wrapped for line in printable_lines for wrapped in textwrap.wrap(line, WIDE)] or [""]
    lines = lines if len(lines) <= LINES else [*lines[: LINES - 1], "…"]
    width = int(max(font().getlength(line) for line in lines)) + 2
    block = Image.new("RGB", (max(width, GAP), len(lines) * LEAD), "white")
    draw = ImageDraw.Draw(block)
    for i, line in enumerate(lines):
        draw.text((0, i * LEAD), line, fill="#222222", font=font())
    return block
