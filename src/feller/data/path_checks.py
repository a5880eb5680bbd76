"""Cheap checks of paths before work starts: existence, free output paths, links, and files in a folder."""

import glob
import os
import pathlib
from collections.abc import Iterator

from feller.core.errors import InputError, UsageError, best_match
from feller.data.database_urls import hide_password, is_database
from feller.data.examples.registry import EXAMPLE_INFOS, EXAMPLE_PREFIX, parse_example

RUN = ("recipe.json", "model.json")
"""Names of the files that every run folder contains."""
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Suffixes of compressed tar files, which allow no random access to examples."""


def require_data(source: str) -> None:
    """Check that a data source exists; patterns of files and database URLs pass, as the reader opens them later.

    InputError if the file, folder or bundled example does not exist, or the source is a run folder; UsageError if the
    example has no such part.
    """
    if is_database(source):
        hide_password(source)  # checks the login
    elif source.startswith(EXAMPLE_PREFIX):
        parse_example(source)
    elif all(os.path.isfile(os.path.join(source, name)) for name in RUN):
        raise InputError(
            "data", "a run folder", f"Name a data file, or evaluate the run: `feller evaluate {source}`", file=source
        )
    elif os.path.exists(source) or is_pattern(source):
        return
    elif ":" in source:
        names = [f"{EXAMPLE_PREFIX}{name}" for name in EXAMPLE_INFOS]
        raise InputError.unknown_name("data", source.partition("/")[0], names, alternatives=", or a file")
    else:
        require_exists(pathlib.Path(source))


def require_exists(place: pathlib.Path, what: str = "a file or a folder") -> None:
    """Raise an InputError if the path `place` does not exist.

    The message states that `what`, a noun phrase, was expected, and suggests a file or folder with a similar name if
    there is one.
    """
    if os.path.islink(place) and not os.path.exists(place):
        raise InputError(what, "a symbolic link to a missing file, or to itself", "Repair the link", file=place)
    if not os.path.exists(place):
        is_home = str(place).startswith("~")
        remedy = f"~ is not expanded within quotes; write {os.path.expanduser(place)}" if is_home else None
        raise InputError(what, "none", remedy or _suggest_similar(place), file=place)


def require_free(out: str | None, *, overwrite: bool) -> None:
    """Raise a UsageError if the output file `out` exists and `overwrite` is False.

    Pipes, devices and None are always free. Folders are not checked here, but in `feller.data.files.sample_folder`.
    """
    if out is not None and os.path.isfile(out) and not overwrite:
        raise UsageError("file exists", remedy="Replace the file with --overwrite, or name another file", file=out)


def _suggest_similar(path: pathlib.Path) -> str | None:
    """Suggest the most similar name in the same folder; None if no name is similar."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return None
    match = best_match(path.name, names, cutoff=0.7)
    return f"Did you mean {path.parent / match}{os.sep if (path.parent / match).is_dir() else ''}?" if match else None


def is_pattern(source: str) -> bool:
    """Return True if a source denotes shards: if it contains braces or wildcards, or has the suffix .tar."""
    return "{" in os.path.basename(source) or glob.has_magic(source) or source.endswith((".tar", *COMPRESSED_TARS))


def is_outside(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Return True if the real path of a file is outside of a folder; a link in untrusted data may lead anywhere."""
    return not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


MAX_DEPTH = 4
"""Maximum depth of nested folders that are searched for files."""


def walk_files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the files of a folder and its subfolders in sorted order, without hidden files."""
    for root, folders, files in os.walk(folder):
        directory = pathlib.Path(root)
        depth = len(directory.relative_to(folder).parts)
        folders[:] = sorted(
            name for name in folders if not name.startswith((".", "__MACOSX")) and depth + 1 < MAX_DEPTH
        )
        yield from (directory / name for name in sorted(files) if not name.startswith("."))
