"""Pictures inside the page, sharp on every screen and of bounded size."""

import base64
import io
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from PIL import Image

from feller.report.html import element

SHOWN = 560
"""Pixels of the page that a picture may take beside another."""
DENSITY = 2
"""Pixels of a good screen for each pixel of the page."""
LONGEST = 2000
"""Pixels on the longer side of an embedded picture, at most."""
HEAVIEST = 2_000_000
"""Bytes of an embedded picture, at most."""
MODES = ("L", "LA", "RGB", "RGBA")


@dataclass(frozen=True)
class Scale:
    """How many pixels one pixel of a picture gets; whole numbers, so that all stay alike."""

    page: int
    file: int


def common_scale(pictures: list[Image.Image]) -> Scale:
    """Choose the scale for pictures that are to be compared.

    Small pictures grow by a whole number in the file, beyond what is shown, and the browser shrinks them the rest of
    the way: at any width their pixels have sharp edges and equal sizes. Browsers that are told `image-rendering:
    pixelated` give some pixels a dot more than others.
    """
    longest = max(max(picture.size) for picture in pictures)
    page = max(1, SHOWN // longest)
    return Scale(page, max(page, -(-DENSITY * SHOWN // longest)))


def figure(caption: str, picture: Image.Image, scale: Scale) -> Element:
    """Make a figure of a picture and what it shows."""
    data = base64.b64encode(_png(picture, scale)).decode()
    image = {
        "src": f"data:image/png;base64,{data}",
        "width": str(picture.width * scale.page),
        "height": str(picture.height * scale.page),
        "alt": f"Picture: {caption}",
    }
    return element("figure", None, element("figcaption", None, caption), element("img", image))


def _png(picture: Image.Image, scale: Scale) -> bytes:
    """Magnify without blur, then shrink as far as the bounds ask for."""
    if picture.mode not in MODES:
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    picture = picture.resize((picture.width * scale.file, picture.height * scale.file), Image.Resampling.NEAREST)
    while True:
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        picture.save(file, "PNG")
        if file.tell() <= HEAVIEST or max(picture.size) <= SHOWN:
            return file.getvalue()
        picture.thumbnail((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)
