"""Folders of sharded samples: numbered files, and a manifest that lists them with their hashes."""

import hashlib
import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from feller import __version__
from feller.core.errors import InputError, check_number, error_context
from feller.core.migrations import current_format, migrate
from feller.core.serialization import from_dict, read_json, to_dict, write_json

DAMAGED = "is inconsistent: the shard manifest is damaged, or this file is not a shard manifest"
MANIFEST = "manifest.json"
NUMBER_PLACEHOLDER = "{shard}"
"""Placeholder for the shard number in file names."""
MAX_SAMPLES = 2**53
"""Maximum number of samples: JSON readers represent integers exactly up to 2^53."""
MAX_NAME_BYTES = 255
"""Maximum length of a file name in bytes on common file systems."""


@dataclass(frozen=True)
class OutputShard:
    """Shard: a file or folder with a contiguous range of the samples."""

    file: str
    """File name within the output folder."""
    first: int
    """Index of the first sample in the shard."""
    count: int
    bytes: int
    sha256: str
    """SHA-256 of the file, or of the `sha256sum` listing of a folder's files."""


@dataclass(frozen=True)
class ShardedSamples:
    """Folder of sample shards; iterating yields their paths in order."""

    folder: pathlib.Path
    n: int
    """Total number of samples."""
    shard_size: int
    """Number of samples per shard; the last shard may have fewer."""
    name_pattern: str
    """File name of a shard, in which {shard} stands for the shard number."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that determine the samples: hashes of the run's files, seed and sampling options."""
    shards: tuple[OutputShard, ...] = ()
    """Shards written so far; all shards if `is_finished`."""
    version: str = __version__
    """Version of feller that wrote the shards."""

    def __iter__(self) -> Iterator[pathlib.Path]:
        return (self.folder / shard.file for shard in self.shards)

    def __len__(self) -> int:
        """Return the number of shards of the finished output."""
        return -(-self.n // self.shard_size)

    @property
    def is_finished(self) -> bool:
        """True if all shards have been written."""
        return len(self.shards) == len(self)

    @property
    def request(self) -> dict[str, Any]:
        """Settings that must be equal in an interrupted sampling command and in the command that resumes it."""
        identity = {"n": self.n, "shard": self.shard_size, "name": self.name_pattern, "version": self.version}
        return {**self.settings, **identity}

    def file_name(self, number: int) -> str:
        """Return the file name of the shard with this number."""
        digits = max(5, len(str(len(self) - 1)))
        return self.name_pattern.replace(NUMBER_PLACEHOLDER, f"{number:0{digits}}")

    def shard_number(self, file: str) -> int | None:
        """Return the shard number of a file name; None if the name belongs to no shard."""
        prefix, suffix = self.name_pattern.split(NUMBER_PLACEHOLDER)
        digits = file.removeprefix(prefix).removesuffix(suffix)
        number = int(digits) if digits.isascii() and digits.isdecimal() else len(self)
        return number if number < len(self) and file == self.file_name(number) else None

    def matches_pattern(self, file: str) -> bool:
        """Return True if a file name matches the name pattern with any shard number."""
        prefix, suffix = self.name_pattern.split(NUMBER_PLACEHOLDER)
        digits = file.removeprefix(prefix).removesuffix(suffix)
        return digits.isascii() and digits.isdecimal() and len(digits) >= 5 and file == f"{prefix}{digits}{suffix}"

    def stray_files(self) -> list[str]:
        """Return the file names in the folder that match the pattern but belong to no shard."""
        return sorted(
            path.name
            for path in self.folder.iterdir()
            if self.matches_pattern(path.name) and self.shard_number(path.name) is None
        )

    @property
    def are_folders(self) -> bool:
        """True if each shard is a folder with one file per sample."""
        return not pathlib.PurePath(self.name_pattern).suffix[1:2].isalpha()

    def rows(self, number: int) -> range:
        """Return the range of sample indices in the shard with this number."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.n))

    def verify(self) -> None:
        """Check all shards against their hashes.

        Raises:
            InputError: If sampling is unfinished, or a shard is missing or damaged.
        """
        if not self.is_finished:
            raise InputError(
                "is unfinished: some shards are not written yet",
                remedy="Run the same command again to resume",
                file=self.folder,
            )
        for shard in self.shards:
            if not is_whole(self.folder, shard):
                raise InputError(
                    "is missing or damaged", remedy="Run the same command again", file=self.folder / shard.file
                )

    def write(self) -> None:
        """Write the manifest atomically."""
        content = {"n": self.n, "shard": self.shard_size, "name": self.name_pattern, "settings": self.settings}
        shards = [to_dict(shard) for shard in self.shards]
        write_json(
            self.folder / MANIFEST, {"format": current_format(), "version": self.version, **content, "shards": shards}
        )


def open_shards(folder: str | pathlib.Path) -> ShardedSamples:
    """Open a folder written by `feller sample --shard-size`.

    Raises:
        InputError: If the manifest is missing or damaged.
    """
    path = pathlib.Path(folder) / MANIFEST
    content = read_json(path, "Pass a folder written by `feller sample --shard-size`")
    if not isinstance(content, dict):
        raise InputError("is not a shard manifest: expected a JSON object with an integer `format`", file=path)
    with error_context(path):
        manifest = migrate(MANIFEST, content)
        missing = [name for name in ("n", "shard", "name", "settings", "shards") if name not in manifest]
        if missing:
            raise InputError(f"lacks {', '.join(map(repr, missing))}")
        if not isinstance(manifest["shards"], list):
            raise InputError(DAMAGED)
        shards = tuple(from_dict(OutputShard, record) for record in manifest["shards"])
        n, size, name, settings = manifest["n"], manifest["shard"], manifest["name"], manifest["settings"]
        is_valid = type(n) is int and type(size) is int and min(n, size) > 0 and max(n, size) <= MAX_SAMPLES
        if not is_valid or not isinstance(settings, dict) or not is_name_pattern(name):
            raise InputError(DAMAGED)
        samples = ShardedSamples(pathlib.Path(folder), n, size, name, settings, shards, str(content.get("version")))
        if not _is_consistent(samples):
            raise InputError(DAMAGED)
    return samples


def check_sample_counts(**numbers: int) -> None:
    """Check sample counts; the name of each keyword argument is the name of the caller's argument, for the error.

    Raises:
        UsageError: If a count is less than 1 or more than `MAX_SAMPLES`.
    """
    for name, count in numbers.items():
        check_number(name, count, ge=1, le=MAX_SAMPLES)


def is_name_pattern(name: Any) -> bool:
    """Return True if a value is a valid pattern for the file names of shards."""
    if not isinstance(name, str) or "/" in name or "\0" in name or name.count(NUMBER_PLACEHOLDER) != 1:
        return False
    try:
        return len(os.fsencode(name.replace(NUMBER_PLACEHOLDER, str(MAX_SAMPLES)))) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


def _is_consistent(samples: ShardedSamples) -> bool:
    """Return True if the manifest lists no shards, or all shards with the expected file names and ranges."""
    if not samples.shards:
        return True
    if len(samples.shards) != len(samples):  # checked first: the untrusted `n` may be huge
        return False
    named_rows = ((samples.file_name(i), samples.rows(i)) for i in range(len(samples)))
    expected = ((file, rows.start, len(rows)) for file, rows in named_rows)
    return all(
        (shard.file, shard.first, shard.count) == row for shard, row in zip(samples.shards, expected, strict=True)
    )


def is_whole(folder: pathlib.Path, shard: OutputShard) -> bool:
    """Return True if a shard exists and matches its recorded size and hash."""
    path = folder / shard.file
    return (
        (path.is_file() or path.is_dir())
        and not path.is_symlink()
        and size_and_hash(path) == (shard.bytes, shard.sha256)
    )


def size_and_hash(path: pathlib.Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a file, or of all files in a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(child for child in path.rglob("*") if child.is_file())
    entries = [(child.relative_to(path).as_posix(), *size_and_hash(child)) for child in files]
    lines = "".join(f"{digest}  {name}\n" for name, _, digest in entries)
    return sum(size for _, size, _ in entries), hashlib.sha256(lines.encode()).hexdigest()
