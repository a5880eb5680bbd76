"""From what a person names to a data set."""

import pathlib

from feller.data.arrays import interpret
from feller.data.examples import EXAMPLES, PARTS
from feller.data.find import find
from feller.data.found import about
from feller.data.images import Images, images
from feller.data.modality import Dataset, Modality
from feller.data.points import points
from feller.errors import UsageError
from feller.record import nearest

EXAMPLE = "example:"


def read(source: str, *, size: int | None = None, like: Modality | None = None) -> Dataset:
    """Read a file, a folder, or `example:NAME`, whose held-out part is `example:NAME/test`.

    Args:
        source: What to read.
        size: Longer side of pictures, in pixels; without it they keep theirs up to 64.
        like: Modality of a model to test on the data, which then take its columns, classes, levels and size
            instead of their own.

    Raises:
        InputError: If the data are missing, damaged, or unlike the modality.
        UsageError: If there is no such example, or `size` does not apply.
    """
    if size is not None and size < 1:
        raise UsageError(f"expected a size of at least 1 pixel, got {size}")
    if isinstance(like, Images):
        size = max(like.height, like.width)
    with about(source):
        if source.startswith(EXAMPLE):
            example = _example(source)
            if size is None and like is None:
                return example
            found = interpret(example.modality.arrays(example.values, example.given), source, size, None)
        else:
            found = find(pathlib.Path(source), size)
        if like is not None:
            return Dataset(*like.accept(found), like, found.notes)
        if found.values.ndim == 4:
            return images(found)
        if size is not None:
            raise UsageError(f"{source} holds points, which have no size; leave it out")
        return points(found)


def _example(source: str) -> Dataset:
    name, _, part = source.removeprefix(EXAMPLE).partition("/")
    if name not in EXAMPLES:
        raise UsageError(f"there is no example {name!r}: {nearest(name, list(EXAMPLES))}")
    if (part or PARTS[0]) not in PARTS:
        raise UsageError(f"{EXAMPLE}{name} has no part {part!r}: {nearest(part, list(PARTS))}")
    return EXAMPLES[name].load(part or PARTS[0])
