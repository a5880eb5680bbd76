"""Parsing of the state costs of a bridge from texts such as `2 * walls.png`, and of the files that the texts name."""

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
"""Regular expression for a separator between costs, which detects several costs in one argument."""


def split(text: str) -> tuple[float | None, str]:
    """Split the text of a cost into its factor (None if there is no factor) and its name.

    Raises:
        UsageError: If the text is not a single cost.
    """
    match = _TERM.fullmatch(text)
    if match is None:
        raise UsageError("a cost such as room.png, walls.py:FUNCTION or 2 * congestion", repr(text), argument="cost")
    costs = [cost for cost in _BETWEEN.split(text.strip()) if cost]
    if len(costs) > 1 and all(map(_means, names_of(costs))) and not pathlib.Path(*names_of([text])).exists():
        raise UsageError(
            "each cost as a word of its own", repr(text), f"Write --cost {shlex.join(costs)}", argument="cost"
        )
    return None if match["factor"] is None else float(match["factor"]), match["name"]


def walls_of(texts: Sequence[str], frame: tuple[float, ...] = ()) -> tuple[ImageWalls, ...]:
    """Return the state costs that are wall images, as functions of states in data units."""
    return tuple(ImageWalls.from_image(read_grey(path), frame_at(frame)) for path in pictures_of(texts))


def common_frame(texts: Sequence[str], frame: tuple[float, ...] = ()) -> Extent | None:
    """Return the rectangle that all wall images cover, in data units; outside of it there are walls.

    The result is None without wall images.
    """
    shapes = [read_grey(path).shape for path in pictures_of(texts)]
    if not shapes or frame:
        return frame_at(frame) if shapes else None
    return 0.0, float(min(w for _, w in shapes)), 0.0, float(min(h for h, _ in shapes))


def surface_of(texts: Sequence[str]) -> Float[Tensor, "n 3"] | None:
    """Return the points of the first surface among state costs; None without a surface."""
    for name in names_of(texts):
        if name.startswith(SURFACE_PREFIXES):
            return read(name.partition("=")[2], space=FLAT).values.double()
    return None


def changed_pictures(texts: Sequence[str], code: Sequence[str]) -> tuple[str, ...]:
    """Return the paths of the wall images in the costs `texts` that are missing or have changed since the fit.

    An image has changed if its hash is not in `code`, the hashes recorded at the fit.
    """
    return tuple(str(path) for path in pictures_of(texts) if not path.is_file() or fingerprint(path) not in code)


def files_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the hash of each existing file named in the state costs."""
    paths = map(_file, names_of(texts))
    return tuple(fingerprint(path) for path in paths if path is not None and path.is_file())


def names_of(texts: Sequence[str]) -> list[str]:
    """Return the names of state costs without their factors, such as walls.png for `2 * walls.png`."""
    return [match["name"] for match in map(_TERM.fullmatch, texts) if match is not None]


def pictures_of(texts: Sequence[str]) -> list[pathlib.Path]:
    """Return the paths of the wall images among state costs."""
    names = [name for name in names_of(texts) if not is_code_reference(name) and not name.startswith(SURFACE_PREFIXES)]
    return [pathlib.Path(name) for name in names if pathlib.Path(name).suffix.lower() in PICTURES]


def _file(name: str) -> pathlib.Path | None:
    if is_code_reference(name):
        return None if name.startswith(MEMORY_PREFIX) else pathlib.Path(name.rpartition(":")[0])
    if name.startswith(SURFACE_PREFIXES):
        return pathlib.Path(name.partition("=")[2])
    return pathlib.Path(name)


def _means(name: str) -> bool:
    """Return True if `name` can name a state cost: code, surface, wall image or built-in cost."""
    is_named = is_code_reference(name) or name.startswith(SURFACE_PREFIXES) or name in COST_NAMES
    return is_named or pathlib.Path(name).suffix.lower() in PICTURES


def check_kind(name: str) -> None:
    """Raise an error, with the correct syntax of a state cost, if `name` is only a file or an example.

    Raises:
        UsageError: If the name is a Python file, another existing file, or an example.
    """
    if name.endswith(".py"):
        remedy = f"Name a function in the file, as {name}:FUNCTION"
        raise UsageError("a function of a Python file", name, remedy, argument="cost")
    if name.startswith(EXAMPLE_PREFIX) or pathlib.Path(name).is_file():
        raise UsageError(
            "an image of walls, a function or a built-in cost",
            name,
            f"Use surface={name} to stay near a surface of points x, y, z, or valleys={name} to stay near it at low"
            " heights",
            argument="cost",
        )


def frame_at(frame: tuple[float, ...]) -> Extent | None:
    """Return the extent of a wall image in data units; None if `frame` is empty, that is, if the units are pixels."""
    if not frame:
        return None
    left, right, low, high = frame
    return left, right, low, high
