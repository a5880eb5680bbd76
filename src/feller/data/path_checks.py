"""Cheap checks of paths before any work: existence, free output paths, symlinks, files of a folder."""

import glob
import os
import pathlib
from collections.abc import Iterator

from feller.core.errors import InputError, UsageError, best_match
from feller.data.examples.registry import EXAMPLE_INFOS, EXAMPLE_PREFIX, parse_example

RUN = ("recipe.json", "model.json")
"""What every run folder holds."""
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Shards in which no example can be reached alone."""


def require_data(source: str) -> None:
    """Refuse data that are not there; which files a pattern stands for is found out where they are read.

    InputError if neither file nor folder is there; UsageError if there is no such example, or no such part of it.
    """
    if source.startswith(EXAMPLE_PREFIX):
        parse_example(source)
    elif all(os.path.isfile(os.path.join(source, name)) for name in RUN):
        raise InputError(f"is a run folder and no data; `feller evaluate {source}` tells what it is worth", file=source)
    elif os.path.exists(source) or is_pattern(source):
        return
    elif ":" in source:
        name = source.partition(":")[2].partition("/")[0]
        raise InputError.unknown_name(
            "example", name, EXAMPLE_INFOS, alternatives=f", called {EXAMPLE_PREFIX}NAME, or a file", file=source
        )
    else:
        require_exists(pathlib.Path(source))


def require_exists(place: pathlib.Path, what: str = "a file or a folder") -> None:
    """Raise an InputError on a path at which nothing is; `what` should be there."""
    if not os.path.exists(place):
        raise InputError(what, "none", _suggest_similar(place), file=place)


def require_free(out: str | None, *, overwrite: bool) -> None:
    """Refuse a file that is there already: who wrote it, and whether anybody needs it, cannot be seen.

    A folder is known by what lies in it, see `feller.data.files.sample_folder`; a pipe or a device keeps nothing, and
    None is a place of feller's own. UsageError if a file is there, and may not be replaced.
    """
    if out is not None and os.path.isfile(out) and not overwrite:
        raise UsageError("is there already", remedy="Replace it with --overwrite, or name another file", file=out)


def _suggest_similar(place: pathlib.Path) -> str | None:
    """Ask whether the name in the same folder is meant that is most like it; nothing where none is like it."""
    try:
        names = os.listdir(place.parent)
    except OSError:
        return None
    close = best_match(place.name, names, cutoff=0.7)
    return f"Did you mean {place.parent / close}{os.sep if (place.parent / close).is_dir() else ''}?" if close else None


def is_pattern(source: str) -> bool:
    """Tell whether a name at which nothing is stands for shards: with braces or stars in it, or as a .tar."""
    return "{" in os.path.basename(source) or glob.has_magic(source) or source.endswith((".tar", *COMPRESSED_TARS))


def is_outside(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Tell whether a file, or what it is a link to, lies outside a folder: a stranger's data show none of ours."""
    return not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


MAX_DEPTH = 4
"""Folders inside folders that are looked into."""


def walk_files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the files in a folder and in folders inside, but for hidden ones, folder by folder."""
    for root, folders, files in os.walk(folder):
        place = pathlib.Path(root)
        deep = len(place.relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")) and deep + 1 < MAX_DEPTH)
        yield from (place / name for name in sorted(files) if not name.startswith("."))
