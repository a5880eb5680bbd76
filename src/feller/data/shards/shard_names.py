"""Shard files: name patterns, change detection and fingerprints."""

import glob
import itertools
import pathlib
import re
from dataclasses import dataclass
from hashlib import sha256

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import require_package
from feller.data.database_urls import is_database
from feller.data.files import sample_folder
from feller.data.images.image_loading import ENDINGS as PICTURES
from feller.data.path_checks import COMPRESSED_TARS, is_outside, is_pattern

ENDINGS = (".tar", ".parquet")
MAX_SHARDS = 100_000
"""Maximum number of shards."""
FORMS = "'train-{000..099}.tar' or 'train-*.tar', in quotes"
RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True)
class ShardFile:
    """Shard file, with the size and modification time by which changes are detected."""

    path: pathlib.Path
    size: int
    """Size of the file in bytes."""
    mtime_ns: int
    """Modification time of the file in nanoseconds."""


@dataclass(frozen=True)
class ShardList:
    """All shards of one dataset, in the order of their names."""

    shards: tuple[ShardFile, ...]
    ending: str
    notes: tuple[str, ...] = ()


def is_sharded(source: str) -> bool:
    """Return True for a pattern with braces or wildcards, a .tar file, or a folder of .tar or .parquet files.

    A folder that also contains images or subfolders is an image folder.
    """
    if is_database(source):
        return False
    path = pathlib.Path(source)
    if path.is_dir():
        children = [child for child in path.iterdir() if not child.name.startswith(".")]
        if any(
            child.is_dir() or child.suffix.lower() in PICTURES or sample_folder.is_overview(child) for child in children
        ):
            return False
        return any(child.suffix in ENDINGS for child in children)
    if path.exists() and path.suffix != ".tar":
        return source.endswith(COMPRESSED_TARS)
    return is_pattern(source)


def find_shards(source: str) -> ShardList:
    """Return the shards denoted by a file, folder or pattern.

    Raises:
        InputError: If there are no shards, a shard is missing or compressed, or shards have different suffixes.
        UsageError: If braces are unbalanced, or the pattern expands to too many names.
    """
    path = pathlib.Path(source)
    if "://" in source or source.startswith("pipe:"):
        raise InputError("local files", "a URL", "Download the files, or mount the storage", file=source)
    if path.is_dir():
        return _in_folder(path)
    paths = [path] if path.exists() else _fitting(source) if glob.has_magic(source) else _expanded(source)
    suffixes = {shard_path.suffix for shard_path in paths}
    compressed = next((shard_path for shard_path in paths if shard_path.name.endswith(COMPRESSED_TARS)), None)
    if compressed is not None:
        raise InputError(
            "an uncompressed .tar (for random access)", "a compressed tar", "Decompress it to a .tar", place=compressed
        )
    if len(suffixes) > 1 or not suffixes <= {*ENDINGS}:
        found_suffixes = ", ".join(suffix or "names without a suffix" for suffix in sorted(suffixes))
        raise InputError("shards with the suffix .tar or .parquet", found_suffixes, file=source)
    missing = [shard_path for shard_path in paths if not shard_path.is_file()]
    if missing:
        problem = "no file" if len(missing) == len(paths) else f"{len(missing):,} missing"
        raise InputError(
            f"{len(paths):,} shards",
            f"{problem}; the first missing shard is {missing[0]}",
            "Correct the pattern",
            file=source,
        )
    return ShardList(tuple(map(_seen, paths)), suffixes.pop())


def _expanded(source: str) -> list[pathlib.Path]:
    """Expand brace patterns as webdataset does."""
    if "{" not in source:
        raise InputError(f"a shard at {source}", "none", "Check the path")
    # checked first, since braceexpand would build the full list
    if any(abs(int(first) - int(last)) >= MAX_SHARDS for first, last in RANGE.findall(source)):
        raise _too_many(source)
    braceexpand = require_package("braceexpand", "reading shards", "stream")
    try:
        names = list(itertools.islice(braceexpand.braceexpand(source), MAX_SHARDS + 1))
    except (ValueError, OverflowError) as error:
        raise UsageError(error, remedy="Write ranges as {000..099}, in quotes", file=source) from error
    if len(names) > MAX_SHARDS:
        raise _too_many(source)
    return [pathlib.Path(name) for name in names]


def _fitting(source: str) -> list[pathlib.Path]:
    """Return the files that match a wildcard pattern, sorted."""
    names = sorted(itertools.islice(glob.iglob(source), MAX_SHARDS + 1))
    if not names:
        raise InputError(f"shards that match {source}", "none", f"Use names such as {FORMS}")
    if len(names) > MAX_SHARDS:
        raise _too_many(source)
    return [pathlib.Path(name) for name in names]


def _too_many(source: str) -> UsageError:
    return UsageError(
        f"matches more than {MAX_SHARDS:,} shards", remedy="Give a folder, or a pattern for fewer shards", file=source
    )


def _in_folder(folder: pathlib.Path) -> ShardList:
    children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    links = [path for path in children if path.is_symlink() and is_outside(path, folder)]
    files = [path for path in children if path.suffix in ENDINGS and path.is_file() and path not in links]
    if len({path.suffix for path in files}) > 1:
        raise InputError("shards of one type", ".tar and .parquet", "Give a folder with one type", file=folder)
    if not files:
        raise InputError("shards in the folder", "links to files outside of it", file=folder)
    num_skipped = len(children) - len(files) - len(links)
    notes = [f"skipped {len(links)} links to files outside the folder"] if links else []
    notes += [f"skipped {num_skipped} files that are not shards"] if num_skipped else []
    return ShardList(tuple(map(_seen, files)), files[0].suffix, tuple(notes))


def _seen(path: pathlib.Path) -> ShardFile:
    stat = path.stat()
    if stat.st_size == 0:
        raise InputError("the file is empty", file=path)
    return ShardFile(path, stat.st_size, stat.st_mtime_ns)


def check_same(shard: ShardFile, size: int, changed: int) -> None:
    """Raise an InputError if a shard has changed since it was indexed.

    Args:
        shard: Shard with the size and modification time that were stored when it was indexed.
        size: Present size of the file in bytes.
        changed: Present modification time of the file in nanoseconds.
    """
    if (size, changed) != (shard.size, shard.mtime_ns):
        raise InputError("changed while it was read", remedy="Start again", file=shard.path)


MAX_HASHES = 10_000
"""Maximum number of shards for which the hash of each shard is kept."""


class FingerprintBuilder:
    """Incremental builder of a hash of all shards together, and of one hash per shard."""

    def __init__(self) -> None:
        self._together, self._each = sha256(), {}
        self._count = 0

    def add(self, shard: ShardFile, content: bytes) -> None:
        """Add a shard to the hashes, given bytes that identify its content."""
        self._together.update(content)
        self._each[shard.path.name] = sha256(content).hexdigest()[:8]
        self._count += 1

    @property
    def combined(self) -> str:
        """Hash of all shards together."""
        return self._together.hexdigest()[:16]

    @property
    def per_shard(self) -> dict[str, str]:
        """Hash of each shard by file name; empty if there are more than `MAX_HASHES` shards, or file names repeat."""
        return self._each if len(self._each) == self._count <= MAX_HASHES else {}


def shard_changes(before: dict[str, str], now: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of shards that are `gone`, `new` or `changed`; empty if `before` or `now` is empty."""
    if not before or not now:
        return {}
    changes = {
        "gone": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    return {change: sorted(names) for change, names in changes.items() if names}
