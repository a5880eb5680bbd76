"""Pictures and captions of emoji, from two npm packages in a folder.

`emoji-datasource-twitter` has the pictures: Twemoji graphics, copyright Twitter, Inc. and other contributors, licensed
under CC BY 4.0; its own data are MIT. `emojibase-data` has names and keywords (MIT). Neither is part of this package:
`npm pack` downloads them, and they are unpacked into folders of these names.
"""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller_papers.scenes.documents import Document, Picture

PICTURES, NAMES = "emoji-datasource-twitter", "emojibase-data"
"""Names of the npm packages, and of their folders."""
GROUPS = (0, 1, 3, 4, 5, 6, 7, 8)
"""Groups of emojibase-data that are used: all but components (2) and flags (9)."""
SYMBOLS = 8
"""Group of symbols, many of which are letters or arrows, which are not mirrored."""
SIDED = ("left", "right", "clock", "arrow")
"""Parts of names of pictures that are not mirrored."""
MIN_SCALE, MAX_SHIFT, MAX_GAIN = 0.8, 0.06, 0.12
"""Smallest size of an emoji and largest shift, relative to the picture, and largest relative change of a colour."""
MAX_KEYWORDS = 3
"""Largest number of keywords in a caption."""


@dataclass(frozen=True)
class Emoji:
    """An emoji with its keywords, and the files of its pictures."""

    name: str
    keywords: tuple[str, ...]
    files: tuple[pathlib.Path, ...]
    """Pictures of 64 x 64 pixels with transparency: the plain one, then one for each skin tone."""
    is_mirrored: bool
    """True if the mirror image shows the same."""


def read_emoji(folder: pathlib.Path, count: int) -> tuple[Emoji, ...]:
    """Return up to `count` emoji, evenly spaced in the order of the package.

    Raises:
        InputError: If a package is missing from the folder, or has no emoji in common with the other.
    """
    pictures = _read_json(folder / PICTURES / "emoji.json")
    names = {entry["hexcode"]: entry for entry in _read_json(folder / NAMES / "en" / "data.json")}
    images = folder / PICTURES / "img" / "twitter" / "64"
    found = []
    for entry in sorted(pictures, key=lambda entry: entry["sort_order"]):
        named = names.get(entry["unified"]) or names.get(entry["non_qualified"] or "")
        if named is None or named.get("group") not in GROUPS or not entry["has_img_twitter"]:
            continue
        tones = entry.get("skin_variations", {}).values()
        files = [images / entry["image"], *(images / tone["image"] for tone in tones if tone["has_img_twitter"])]
        name = _plain(named["label"])
        words = [_plain(word) for word in named.get("tags", [])]
        is_mirrored = named["group"] != SYMBOLS and not any(part in name for part in SIDED)
        keywords = tuple(word for word in words if word not in name.split())
        found.append(Emoji(name, keywords, tuple(file for file in files if file.is_file()), is_mirrored))
    found = [emoji for emoji in found if emoji.files]
    if len(found) < 2:
        raise InputError("at least two emoji with pictures and names", len(found), file=folder)
    index = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return tuple(found[i] for i in index.tolist())


def _read_json(path: pathlib.Path) -> list[dict]:
    if not path.is_file():
        package = path.parts[-2] if path.name == "emoji.json" else NAMES
        raise InputError("an unpacked npm package", "none", f"Run `npm pack {package}`, and unpack it", file=path)
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(text: str) -> str:
    """Return a lower-case text with plain apostrophes."""
    return text.lower().replace("\u2019", "'").replace("\u201c", "").replace("\u201d", "")


def emoji_documents(emoji: Emoji, count: int, side: int, rng: Rng) -> list[Document]:
    """Return documents of a caption and a picture: variants in keywords, tone, side, size, place and colour."""
    u = rng.stream("variants").uniform((count, 8 + MAX_KEYWORDS)).tolist()
    return [Document((caption(emoji, row[8:]), Picture(draw_emoji(emoji, row[:8], side)))) for row in u]


def caption(emoji: Emoji, u: Sequence[float]) -> str:
    """Return the name and up to `MAX_KEYWORDS` keywords, chosen by uniform numbers."""
    rest, chosen = list(emoji.keywords), []
    for value in u:
        if rest:
            chosen.append(rest.pop(int(value * len(rest))))
    return f"{emoji.name}: {', '.join(chosen)}" if chosen else emoji.name


def draw_emoji(emoji: Emoji, u: Sequence[float], side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Return a picture on white, with tone, mirroring, size, place and colours from eight uniform numbers."""
    tone, mirror, size, right, down, *colours = u
    with Image.open(emoji.files[int(tone * len(emoji.files))]) as file:
        pixels = np.asarray(file.convert("RGBA"), dtype=np.float32)
    gains = 1 + MAX_GAIN * (2 * np.array(colours, dtype=np.float32) - 1)
    alpha = pixels[:, :, 3:] / 255
    rgb = (pixels[:, :, :3] * gains).clip(0, 255) * alpha + 255 * (1 - alpha)
    image = Image.fromarray(rgb.round().astype(np.uint8))
    if emoji.is_mirrored and mirror < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    inner = round(side * (MIN_SCALE + (1 - MIN_SCALE) * size))
    image = image.resize((inner, inner), Image.Resampling.LANCZOS)
    left, top = ((side - inner) / 2 + side * MAX_SHIFT * (2 * value - 1) for value in (right, down))
    page = Image.new("RGB", (side, side), "white")
    page.paste(image, (round(left), round(top)))
    return np.asarray(page)
