"""Emoji with their names, from packages that a person has fetched: `emoji-datasource-twitter` and `emojibase-data`.

Both are on npm: `npm install emoji-datasource-twitter emojibase-data`. The pictures are Twemoji, by Twitter and others,
CC BY 4.0; the lists are under the MIT licence.
"""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.examples.shapes import Picks, picks
from feller.data.examples.write_documents import Picture, Written, check_empty, write_pairs
from feller.data.images.load_images import read_pictures

PACKAGE, LABELLED = "emoji-datasource-twitter", "emojibase-data"
LIST = "emoji.json"
PICTURES = pathlib.Path("img", "twitter", "64")
LABELS = pathlib.Path("en", "data.json")
SIDE = 32
"""Pixels of a side, where nothing else is asked for."""
WITH_COLOURS = "FE0F"
"""Code point that asks for a coloured picture; some lists name it and some do not."""
PARTS = "Component"
"""Category of what is no emoji alone, such as tones of skin."""


@dataclass(frozen=True, eq=False)
class Emoji:
    """A picture with a name."""

    code: str
    """Code points, upper-case hexadecimal, joined by hyphens, without FE0F."""
    name: str
    tags: tuple[str, ...]
    """Other words for it, without those of its name."""
    picture: UInt8[np.ndarray, "side side 3"]

    def caption(self, pick: Picks) -> str:
        """Return the name, or as often the name and two tags, where there are two."""
        if len(self.tags) < 2 or pick.below(2):
            return self.name
        first = pick.one(self.tags)
        return f"{self.name}, {first}, {pick.one([tag for tag in self.tags if tag != first])}"


def read_emoji(folder: pathlib.Path, labels: pathlib.Path | None = None, side: int = SIDE) -> list[Emoji]:
    """Read all emoji that have a picture, those of people in their base form only, without tones of skin.

    Args:
        folder: That of `emoji-datasource-twitter`: `emoji.json`, and pictures in `img/twitter/64`.
        labels: That of `emojibase-data`, whose names and tags are taken where it has them; None to do without.
        side: Of the pictures, in pixels; they are laid on white.

    Raises:
        UsageError: If the side is below 1.
        InputError: If a folder is not what it must be, or a picture is missing.
    """
    if side < 1:
        raise UsageError(f"expected pictures with a side of 1 pixel or more, got {side}; 32 is usual")
    known = {} if labels is None else {plain(one["hexcode"]): one for one in _listed(labels / LABELS, "hexcode")}
    entries = [one for one in _listed(folder / LIST, "unified", "image", "name") if _drawn(one)]
    if not entries:
        raise InputError(f"{folder / LIST} lists no emoji with pictures; expected the list of emoji-datasource-twitter")
    values, _ = read_pictures([folder / PICTURES / pathlib.Path(one["image"]).name for one in entries], side, None)
    if values.shape[1:3] != (side, side):
        raise InputError(f"expected square pictures in {folder / PICTURES}, got {values.shape[2]} x {values.shape[1]}")
    found = []
    for entry, picture in zip(entries, np.broadcast_to(values, (*values.shape[:3], 3)), strict=True):
        code = plain(entry["unified"])
        about = known.get(code, {})
        name = str(about.get("label", entry["name"])).lower()
        tags = tuple(tag for tag in map(str.lower, about.get("tags", ())) if tag not in name.split())
        found.append(Emoji(code, name, tags, picture))
    return found


def emoji_pairs(emoji: Sequence[Emoji], draws: Draws) -> list[Written]:
    """Write each emoji as a caption and its picture."""
    chosen = picks(len(emoji), "emoji", draws)
    return [Written((one.caption(pick), Picture(one.picture))) for one, pick in zip(emoji, chosen, strict=True)]


def write_emoji(modules: pathlib.Path, out: pathlib.Path, seed: int, side: int = SIDE) -> dict[str, Any]:
    """Write all emoji as pairs of files in a new folder, and say how many there are.

    Args:
        modules: Folder that npm has put the packages in, `node_modules`; emojibase-data may be missing.
        out: Where they go.
        seed: Of the choice of tags.
        side: Of the pictures, in pixels.

    Raises:
        UsageError: If the side is below 1.
        InputError: If a package is missing or damaged, the new folder is not empty, or the disk refuses.
    """
    check_empty(out)
    labels = modules / LABELLED
    emoji = read_emoji(modules / PACKAGE, labels if labels.is_dir() else None, side)
    write_pairs(emoji_pairs(emoji, Draws(seed)), out)
    return {"out": str(out), "emoji": len(emoji), "with_tags": sum(len(one.tags) > 1 for one in emoji)}


def plain(code: str) -> str:
    """Return code points as every list has them: upper-case and without the one that asks for colours."""
    return "-".join(part for part in code.upper().split("-") if part != WITH_COLOURS)


def _drawn(entry: dict[str, Any]) -> bool:
    return bool(entry.get("has_img_twitter")) and entry.get("category") != PARTS


def _listed(path: pathlib.Path, *keys: str) -> list[dict[str, Any]]:
    """Read a list of objects that all have these texts."""
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); name where npm put its packages"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); name where npm put its packages") from error
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys) for entry in entries
    ):
        raise InputError(f"{path} is no list of emoji, each with {', '.join(keys)}; name where npm put its packages")
    return entries
