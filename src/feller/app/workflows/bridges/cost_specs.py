"""Words for costs: what they name, and which files are behind them."""

import pathlib
import re
import shlex
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.costs.walls import Extent, ImageWalls, read_grey
from feller.core.errors import UsageError
from feller.core.user_code import MEMORY_PREFIX, fingerprint, is_code_reference
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.images.image_loading import ENDINGS as PICTURES
from feller.data.loading.dataset_reader import read
from feller.data.points.named_spaces import FLAT

COST_NAMES = ("congestion", "density", "entropy", "surface=FILE", "valleys=FILE")
SURFACE_PREFIXES = ("surface=", "valleys=")
_TERM = re.compile(r"\s*(?:(?P<factor>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*)?(?P<name>.+?)\s*")

_BETWEEN = re.compile(r"\s*\+\s*|(?<!\*)\s+(?!\*)")
"""What lies between costs that are written as one."""


def split(text: str) -> tuple[float | None, str]:
    """Return the factor of a cost, None where there is none, and its name.

    Raises:
        UsageError: If the words are no cost, or several.
    """
    match = _TERM.fullmatch(text)
    if match is None:
        raise UsageError("a cost such as room.png, walls.py:FUNCTION or 2 * congestion", repr(text))
    _check_alone(text)
    return None if match["factor"] is None else float(match["factor"]), match["name"]


def walls_of(texts: Sequence[str], frame: tuple[float, ...] = ()) -> tuple[ImageWalls, ...]:
    """Return the pictures among costs, of values in the units of the data."""
    return tuple(ImageWalls.from_image(read_grey(picture), frame_at(frame)) for picture in pictures_of(texts))


def common_frame(texts: Sequence[str], frame: tuple[float, ...] = ()) -> Extent | None:
    """Return the rectangle that all pictures among costs share, beyond which there is wall; None without any."""
    shapes = [read_grey(picture).shape for picture in pictures_of(texts)]
    if not shapes or frame:
        return frame_at(frame) if shapes else None
    return 0.0, float(min(w for _, w in shapes)), 0.0, float(min(h for h, _ in shapes))


def surface_of(texts: Sequence[str]) -> Float[Tensor, "n 3"] | None:
    """Return the points of the first surface among costs; None without any."""
    for name in names_of(texts):
        if name.startswith(SURFACE_PREFIXES):
            return read(name.partition("=")[2], space=FLAT).values.double()
    return None


def changed_pictures(texts: Sequence[str], code: Sequence[str]) -> tuple[str, ...]:
    """Return the pictures among costs that are gone, or not what they were when their hashes were noted."""
    return tuple(str(one) for one in pictures_of(texts) if not one.is_file() or fingerprint(one) not in code)


def files_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the hash of each file that costs name."""
    names = map(_file, names_of(texts))
    return tuple(fingerprint(name) for name in names if name is not None and name.is_file())


def names_of(texts: Sequence[str]) -> list[str]:
    """Return costs without their factors."""
    return [match["name"] for match in map(_TERM.fullmatch, texts) if match is not None]


def pictures_of(texts: Sequence[str]) -> list[pathlib.Path]:
    """Return the pictures of walls among costs."""
    names = [name for name in names_of(texts) if not is_code_reference(name) and not name.startswith(SURFACE_PREFIXES)]
    return [pathlib.Path(name) for name in names if pathlib.Path(name).suffix.lower() in PICTURES]


def _file(name: str) -> pathlib.Path | None:
    if is_code_reference(name):
        return None if name.startswith(MEMORY_PREFIX) else pathlib.Path(name.rpartition(":")[0])
    if name.startswith(SURFACE_PREFIXES):
        return pathlib.Path(name.partition("=")[2])
    return pathlib.Path(name)


def _check_alone(text: str) -> None:
    """Refuse several costs in one word."""
    pieces = [piece for piece in _BETWEEN.split(text.strip()) if piece]
    if len(pieces) > 1 and all(map(_means, names_of(pieces))) and not pathlib.Path(*names_of([text])).exists():
        raise UsageError(f"each cost is a word of its own, and they add up: --cost {shlex.join(pieces)}")


def _means(name: str) -> bool:
    """Tell whether a name looks like that of a cost."""
    is_named = is_code_reference(name) or name.startswith(SURFACE_PREFIXES) or name in COST_NAMES
    return is_named or pathlib.Path(name).suffix.lower() in PICTURES


def check_kind(name: str) -> None:
    """Refuse a file that is no cost by itself.

    Raises:
        UsageError: If there is such a file, or an example; says how it may be meant.
    """
    if name.endswith(".py"):
        raise UsageError(f"{name} is code", remedy=f"Name its function, too, as {name}:FUNCTION")
    if name.startswith(EXAMPLE_PREFIX) or pathlib.Path(name).is_file():
        raise UsageError(
            f"{name} is no picture of walls; paths keep to a surface of points x, y, z by surface={name}, and on it to"
            f" what is low by valleys={name}"
        )


def frame_at(frame: tuple[float, ...]) -> Extent | None:
    """Return where a picture lies; None for its pixels."""
    if not frame:
        return None
    left, right, low, high = frame
    return left, right, low, high
