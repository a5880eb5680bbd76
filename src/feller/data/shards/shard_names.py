"""Names and patterns to shard files, and their hashes."""

import glob
import itertools
import pathlib
import re
from dataclasses import dataclass
from hashlib import sha256

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import require_package
from feller.data.files import sample_folder
from feller.data.images.image_loading import ENDINGS as PICTURES
from feller.data.path_checks import COMPRESSED_TARS, is_outside, is_pattern

ENDINGS = (".tar", ".parquet")
MAX_SHARDS = 100_000
"""Shards that one name may stand for."""
FORMS = "'train-{000..099}.tar' or 'train-*.tar', in quotes"
RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True)
class ShardFile:
    """A file, as it was when it was looked at."""

    path: pathlib.Path
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last written, in nanoseconds."""


@dataclass(frozen=True)
class ShardList:
    """All shards of one data set, in the order of their names."""

    shards: tuple[ShardFile, ...]
    ending: str
    notes: tuple[str, ...] = ()


def is_sharded(source: str) -> bool:
    """Tell whether a name stands for shards: with braces or stars, a .tar, or a folder that holds .tar or .parquet.

    One with folders or pictures in it is one of pictures, whatever else lies there.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        inside = [child for child in path.iterdir() if not child.name.startswith(".")]
        if any(
            child.is_dir() or child.suffix.lower() in PICTURES or sample_folder.is_overview(child) for child in inside
        ):
            return False
        return any(child.suffix in ENDINGS for child in inside)
    if path.exists() and path.suffix != ".tar":
        return source.endswith(COMPRESSED_TARS)
    return is_pattern(source)


def find_shards(source: str) -> ShardList:
    """Return the files that a name stands for.

    Raises:
        InputError: If there is none, one is missing or packed, or they are of two kinds.
        UsageError: If braces do not close, or stand for too many.
    """
    path = pathlib.Path(source)
    if "://" in source or source.startswith("pipe:"):
        raise InputError("files of this machine", "an address", "Copy them, or mount what holds them", file=source)
    if path.is_dir():
        return _in_folder(path)
    paths = [path] if path.exists() else _fitting(source) if glob.has_magic(source) else _expanded(source)
    endings = {one.suffix for one in paths}
    packed = next((one for one in paths if one.name.endswith(COMPRESSED_TARS)), None)
    if packed is not None:
        raise InputError(
            "is packed, so that no example in it can be reached alone", remedy="Unpack it to a .tar", place=packed
        )
    if len(endings) > 1 or not endings <= {*ENDINGS}:
        got = ", ".join(ending or "names without an ending" for ending in sorted(endings))
        raise InputError("shards that end with .tar, or with .parquet", got, file=source)
    missing = [one for one in paths if not one.is_file()]
    if missing:
        few = "none of them is there" if len(missing) == len(paths) else f"{len(missing):,} are missing"
        raise InputError(
            f"stands for {len(paths):,} shards, and {few}, first {missing[0]}", remedy="Mend the name", file=source
        )
    return ShardList(tuple(map(_seen, paths)), endings.pop())


def _expanded(source: str) -> list[pathlib.Path]:
    """Write out what braces stand for, as webdataset does."""
    if "{" not in source:
        raise InputError(f"a shard at {source}", "none")
    if any(
        abs(int(first) - int(last)) >= MAX_SHARDS for first, last in RANGE.findall(source)
    ):  # it would be written out
        raise _too_many(source)
    braces = require_package("braceexpand", "reading shards", "stream")
    try:
        names = list(itertools.islice(braces.braceexpand(source), MAX_SHARDS + 1))
    except (ValueError, OverflowError) as error:
        raise UsageError(error, remedy="Write ranges as {000..099}, in quotes", file=source) from error
    if len(names) > MAX_SHARDS:
        raise _too_many(source)
    return [pathlib.Path(name) for name in names]


def _fitting(source: str) -> list[pathlib.Path]:
    """Return the files that a pattern with stars fits, in the order of their names."""
    names = sorted(itertools.islice(glob.iglob(source), MAX_SHARDS + 1))
    if not names:
        raise InputError(f"shards that fit {source}", "none", f"Names are such as {FORMS}")
    if len(names) > MAX_SHARDS:
        raise _too_many(source)
    return [pathlib.Path(name) for name in names]


def _too_many(source: str) -> UsageError:
    return UsageError(f"stands for more than {MAX_SHARDS:,} shards", remedy="Give a folder, or fewer", file=source)


def _in_folder(folder: pathlib.Path) -> ShardList:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    out = [path for path in inside if path.is_symlink() and is_outside(path, folder)]
    files = [path for path in inside if path.suffix in ENDINGS and path.is_file() and path not in out]
    if len({path.suffix for path in files}) > 1:
        raise InputError("shards of one kind", ".tar and .parquet", "Give a folder with one alone", file=folder)
    if not files:
        raise InputError("shards in it", "none but links that lead out of it", file=folder)
    rest = len(inside) - len(files) - len(out)
    notes = [f"skipped {len(out)} links that lead out of the folder"] if out else []
    notes += [f"skipped {rest} that are no shards"] if rest else []
    return ShardList(tuple(map(_seen, files)), files[0].suffix, tuple(notes))


def _seen(path: pathlib.Path) -> ShardFile:
    about = path.stat()
    if about.st_size == 0:
        raise InputError("the file is empty", file=path)
    return ShardFile(path, about.st_size, about.st_mtime_ns)


def check_same(shard: ShardFile, size: int, changed: int) -> None:
    """Raise an InputError on a shard that is another by now."""
    if (size, changed) != (shard.size, shard.mtime_ns):
        raise InputError(
            "was written to while it was read", remedy="Start again with what it holds now", file=shard.path
        )


MAX_HASHES = 10_000
"""Shards beyond which the hash of each is not kept."""


class FingerprintBuilder:
    """Takes shards one after the other."""

    def __init__(self) -> None:
        self._together, self._each = sha256(), {}
        self._count = 0

    def add(self, shard: ShardFile, content: bytes) -> None:
        """Take what tells a shard from others."""
        self._together.update(content)
        self._each[shard.path.name] = sha256(content).hexdigest()[:8]
        self._count += 1

    @property
    def combined(self) -> str:
        """Hash of all."""
        return self._together.hexdigest()[:16]

    @property
    def per_shard(self) -> dict[str, str]:
        """Hash of each, by its name; none where they are many, or some share a name."""
        return self._each if len(self._each) == self._count <= MAX_HASHES else {}


def shard_changes(before: dict[str, str], now: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of shards, by what became of them: gone, new or changed; nothing where either is not known."""
    if not before or not now:
        return {}
    became = {
        "gone": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    return {what: sorted(names) for what, names in became.items() if names}
