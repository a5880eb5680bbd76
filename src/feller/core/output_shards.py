"""Many samples in several files, and the manifest that says what is in them."""

import hashlib
import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from feller import __version__
from feller.core.errors import InputError, check_number
from feller.core.migrations import current_format, migrate
from feller.core.serialization import from_dict, read_json, to_dict, write_json

DAMAGED = "does not hold together: it was damaged, or is no manifest of shards"
MANIFEST = "manifest.json"
NUMBER_PLACEHOLDER = "{shard}"
"""Stands in the name of a shard for its number."""
MAX_SAMPLES = 2**53
"""Samples, more than anybody draws: whole numbers up to here are exact in every reader of JSON."""
MAX_NAME_BYTES = 255
"""Bytes of a file's name, on the disks that people have."""


@dataclass(frozen=True)
class OutputShard:
    """One file of samples, or a folder of them."""

    file: str
    """Its name in the folder."""
    first: int
    """Number of its first sample."""
    count: int
    bytes: int
    sha256: str
    """Of the file; of a folder that of the list of its files, as `sha256sum` would write it."""


@dataclass(frozen=True)
class ShardedSamples:
    """A folder of shards; walking over it yields their paths, in order."""

    folder: pathlib.Path
    n: int
    """Samples in all."""
    shard_size: int
    """Samples in each but the last."""
    name_pattern: str
    """Of a shard, with {shard} in the place of its number."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What decides the samples: hashes of the run's files, seed, and all that was asked."""
    shards: tuple[OutputShard, ...] = ()
    """Those that are there; all if `is_finished`."""
    version: str = __version__
    """Of the feller that wrote them."""

    def __iter__(self) -> Iterator[pathlib.Path]:
        return (self.folder / shard.file for shard in self.shards)

    def __len__(self) -> int:
        """Return how many shards there are when all is done."""
        return -(-self.n // self.shard_size)

    @property
    def is_finished(self) -> bool:
        """Whether all samples are there."""
        return len(self.shards) == len(self)

    @property
    def request(self) -> dict[str, Any]:
        """All that two samplings must have in common, so that one goes on with the other."""
        identity = {"n": self.n, "shard": self.shard_size, "name": self.name_pattern, "version": self.version}
        return {**self.settings, **identity}

    def file_name(self, number: int) -> str:
        """Return the name of a shard."""
        digits = max(5, len(str(len(self) - 1)))
        return self.name_pattern.replace(NUMBER_PLACEHOLDER, f"{number:0{digits}}")

    def shard_number(self, file: str) -> int | None:
        """Return the number of the shard of this name; None if it is none of ours."""
        before, after = self.name_pattern.split(NUMBER_PLACEHOLDER)
        digits = file.removeprefix(before).removesuffix(after)
        number = int(digits) if digits.isascii() and digits.isdecimal() else len(self)
        return number if number < len(self) and file == self.file_name(number) else None

    def matches_pattern(self, file: str) -> bool:
        """Tell whether a name follows the pattern, with any number."""
        before, after = self.name_pattern.split(NUMBER_PLACEHOLDER)
        digits = file.removeprefix(before).removesuffix(after)
        return digits.isascii() and digits.isdecimal() and len(digits) >= 5 and file == f"{before}{digits}{after}"

    def stray_files(self) -> list[str]:
        """Return the names in the folder that follow the pattern, and are none of its shards."""
        return sorted(
            path.name
            for path in self.folder.iterdir()
            if self.matches_pattern(path.name) and self.shard_number(path.name) is None
        )

    @property
    def are_folders(self) -> bool:
        """Whether each is a folder, with one file a sample."""
        return not pathlib.PurePath(self.name_pattern).suffix[1:2].isalpha()

    def rows(self, number: int) -> range:
        """Return the numbers of the samples of a shard."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.n))

    def verify(self) -> None:
        """Compare all shards with their hashes.

        Raises:
            InputError: If one is missing, or not what was written.
        """
        if not self.is_finished:
            raise InputError("is not finished: its command, given again, goes on", file=self.folder)
        for shard in self.shards:
            if not is_whole(self.folder, shard):
                raise InputError(
                    "is missing or damaged", remedy="Run the same command again", file=self.folder / shard.file
                )

    def write(self) -> None:
        """Write the manifest, whole or not at all."""
        content = {"n": self.n, "shard": self.shard_size, "name": self.name_pattern, "settings": self.settings}
        shards = [to_dict(shard) for shard in self.shards]
        write_json(
            self.folder / MANIFEST, {"format": current_format(), "version": self.version, **content, "shards": shards}
        )


def open_shards(folder: str | pathlib.Path) -> ShardedSamples:
    """Return the shards in a folder, as `feller sample --shard-size` wrote them.

    Raises:
        InputError: If there is no manifest, or it is damaged.
    """
    path = pathlib.Path(folder) / MANIFEST
    content = read_json(path, "Name the folder that `feller sample --shard-size` wrote")
    if not isinstance(content, dict):
        raise InputError("is no manifest of shards: expected an object with a number `format`", file=path)
    try:
        manifest = migrate(MANIFEST, content)
        missing = [name for name in ("n", "shard", "name", "settings", "shards") if name not in manifest]
        if missing:
            raise InputError(f"lacks {', '.join(map(repr, missing))}")
        if not isinstance(manifest["shards"], list):
            raise InputError(DAMAGED)
        written = tuple(from_dict(OutputShard, one) for one in manifest["shards"])
        n, size, name, settings = manifest["n"], manifest["shard"], manifest["name"], manifest["settings"]
        fits = type(n) is int and type(size) is int and min(n, size) > 0 and max(n, size) <= MAX_SAMPLES
        if not fits or not isinstance(settings, dict) or not is_name_pattern(name):
            raise InputError(DAMAGED)
        samples = ShardedSamples(pathlib.Path(folder), n, size, name, settings, written, str(content.get("version")))
        if not _is_consistent(samples):
            raise InputError(DAMAGED)
    except InputError as error:
        raise error.with_context(file=path) from error
    return samples


def check_sample_counts(**numbers: int) -> None:
    """Refuse numbers of samples, by the flags that ask for them, which nobody draws.

    Raises:
        UsageError: If one is less than 1, or more than `MAX_SAMPLES`.
    """
    for name, number in numbers.items():
        check_number(name, number, ge=1, le=MAX_SAMPLES)


def is_name_pattern(name: Any) -> bool:
    """Tell whether this is a pattern of names in a folder, and not too long for one."""
    if not isinstance(name, str) or "/" in name or "\0" in name or name.count(NUMBER_PLACEHOLDER) != 1:
        return False
    try:
        return len(os.fsencode(name.replace(NUMBER_PLACEHOLDER, str(MAX_SAMPLES)))) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


def _is_consistent(samples: ShardedSamples) -> bool:
    """Tell whether none is written, or all of them: their names come from the pattern alone, to lead nowhere else."""
    if not samples.shards:
        return True
    if len(samples.shards) != len(samples):  # before anything is made as large as a number of a stranger
        return False
    rows = ((samples.file_name(i), samples.rows(i)) for i in range(len(samples)))
    expected = ((file, numbers.start, len(numbers)) for file, numbers in rows)
    return all((one.file, one.first, one.count) == right for one, right in zip(samples.shards, expected, strict=True))


def is_whole(folder: pathlib.Path, shard: OutputShard) -> bool:
    """Tell whether a shard is there as it was written."""
    path = folder / shard.file
    return (
        (path.is_file() or path.is_dir())
        and not path.is_symlink()
        and size_and_hash(path) == (shard.bytes, shard.sha256)
    )


def size_and_hash(path: pathlib.Path) -> tuple[int, str]:
    """Return the size and the hash of a file, or of a folder of files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(one for one in path.rglob("*") if one.is_file())
    entries = [(one.relative_to(path).as_posix(), *size_and_hash(one)) for one in files]
    lines = "".join(f"{digest}  {name}\n" for name, _, digest in entries)
    return sum(size for _, size, _ in entries), hashlib.sha256(lines.encode()).hexdigest()
