"""Scan of tar headers: offset, size and class of each example, without unpacking.

File names follow webdataset: the name up to its first dot identifies the example, and the rest names the part of the
example. The parts of an example are adjacent.
"""

import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from feller.core.errors import InputError, message_of
from feller.data.images.image_loading import ENDINGS as PICTURES
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import RawExamples, RawImages, RawTexts
from feller.data.shards.shard_names import ShardFile, check_same
from feller.data.speech.audio_io import ENDINGS as SOUNDS

NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
"""Pattern of the name of a tar member; its groups are the key of the example and the suffix of the part."""
PAYLOADS: dict[str, type[RawExamples]] = {**dict.fromkeys(PICTURES, RawImages), ".txt": RawTexts}
"""Type of raw examples, by the suffix of the part with the data."""
LABELS = (".cls", ".json")
PICKLES = (".pyd", ".pth", ".pkl", ".pickle", ".pt")
MAX_EXAMPLE_BYTES, MAX_LABEL_BYTES = 2**28, 2**20
"""Maximum size in bytes of the data and of the label of an example."""
PADDING = 2**20
"""Maximum number of bytes that follow the end-of-archive block."""
BLOCK, BLOCKS = 4096, 8
"""Size in bytes and number of the evenly spaced blocks from which the hash of a shard is computed."""


@dataclass(eq=False)
class TarScan:
    """Examples found in a tar shard: their offsets, sizes and labels."""

    kind: type[RawExamples] | None = None
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    last: str = ""
    """Name of the last example, for error messages."""
    ignored: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""


@dataclass
class _Example:
    """Files of a tar shard that form one example, by suffix: (offset, size, content).

    The content is read for labels only, and empty for other files.
    """

    key: str
    parts: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)


def scan_tar(shard: ShardFile) -> TarScan:
    """Return the examples of a tar shard; InputError if it is damaged, truncated, or has an invalid structure."""
    scan, digest, seen_keys = TarScan(), blake2b(digest_size=16), set()
    example = None
    with shard.path.open("rb") as file:
        stat = os.fstat(file.fileno())
        check_same(shard, stat.st_size, stat.st_mtime_ns)
        for member in _members(shard, file):
            digest.update(f"{member.name!a} {member.offset_data} {member.size} {member.mtime}\n".encode())
            if not _is_part(shard, member, scan.ignored):
                continue
            key, suffix = _split(member.name)
            if example is None or key != example.key:
                if example is not None:
                    _add(shard, example, scan)
                if key in seen_keys:
                    raise InputError(
                        expected="the parts of an example in adjacent members",
                        found="other members between these parts",
                        remedy="Write the tar again with --sort=name",
                        file=shard.path,
                        place=f"{key!a}",
                    )
                seen_keys.add(key)
                example = _Example(key)
            if suffix in example.parts:
                raise InputError(
                    "unique member names", f"two members named {member.name!a}", "Remove one", file=shard.path
                )
            label_bytes = b""
            if suffix in LABELS:
                if member.size > MAX_LABEL_BYTES:
                    raise InputError(
                        f"a label of at most {MAX_LABEL_BYTES:,} bytes",
                        f"{member.size:,} in {member.name!a}",
                        file=shard.path,
                    )
                label_bytes = os.pread(file.fileno(), member.size, member.offset_data)
                digest.update(label_bytes)
            example.parts[suffix] = (member.offset_data, member.size, label_bytes)
        if example is not None:
            _add(shard, example, scan)
        for offset in np.linspace(0, max(0, shard.size - BLOCK), BLOCKS).astype(np.int64).tolist():
            digest.update(os.pread(file.fileno(), BLOCK, offset))
    scan.fingerprint = digest.hexdigest()
    return scan


def _split(member: str) -> tuple[str, str]:
    match = NAME.fullmatch(member)
    return (match[1], f".{match[2].lower()}") if match else (member, "")


def _members(shard: ShardFile, file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar shard; all errors become InputErrors.

    tarfile treats damage as the end of the archive, so the end is verified. Negative sizes would loop forever.
    """
    last_name = "its beginning"
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyrefly: ignore - otherwise memory grows with the number of members
                if member.size < 0 or member.issparse():
                    raise tarfile.ReadError(f"{member.name!a} has a size of {member.size:,}, or is sparse")
                if member.isreg() and member.offset_data + member.size > shard.size:
                    raise tarfile.ReadError(f"truncated inside {member.name!a}")
                yield member
                last_name = ascii(member.name)
            trailer = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
            if trailer != bytes(tarfile.BLOCKSIZE) or shard.size - tar.offset > PADDING:
                raise tarfile.ReadError("missing end of archive")
    except (tarfile.TarError, OSError, ValueError, EOFError, MemoryError, RecursionError) as error:
        reason = message_of(error)
        raise InputError(
            f"is compressed, not a tar file, or damaged after {last_name} ({reason})",
            remedy="Decompress the file, or copy it again",
            file=shard.path,
        ) from error


def _is_part(shard: ShardFile, member: tarfile.TarInfo, ignored: Counter[str]) -> bool:
    """Return True if a member is a part of an example; other members are counted in `ignored`."""
    if member.name.startswith("/") or ".." in member.name.split("/") or "\0" in member.name:
        raise InputError(
            "paths inside the archive", f"{member.name!a}", "Write the tar with relative names", file=shard.path
        )
    if member.isdir() or (member.isreg() and member.name.startswith("__")):  # shard metadata in webdataset
        return False
    if not member.isreg():
        ignored["links" if member.issym() or member.islnk() else "devices"] += 1
        return False
    suffix = _split(member.name)[1]
    if suffix in PAYLOADS or suffix in LABELS:
        return True
    extension = f".{suffix.rpartition('.')[2]}"
    if extension in SOUNDS:
        raise InputError(
            "images or texts in shards",
            f"the audio file {member.name!a}",
            "Give a folder of recordings",
            file=shard.path,
        )
    if extension in PICKLES:
        ignored[f"{extension} (pickle, never loaded)"] += 1
    else:
        ignored[extension if 1 < len(extension) <= 12 and extension.isascii() else "members without a suffix"] += 1
    return False


def _add(shard: ShardFile, example: _Example, scan: TarScan) -> None:
    payloads = [suffix for suffix in example.parts if suffix in PAYLOADS]
    if not payloads:
        scan.ignored["examples without an image or text"] += 1
        return
    raw_type, location = PAYLOADS[payloads[0]], f"{shard.path}: {example.key!a}"
    if len(payloads) > 1:
        remedy = "Images with captions are documents: give a folder" if ".txt" in payloads else "Keep one of them"
        raise InputError("one image or text per example", f"{' and '.join(payloads)} in {location}", remedy)
    scan.kind = scan.kind or raw_type
    if raw_type is not scan.kind:
        raise InputError(
            scan.kind.name,
            f"{raw_type.name} in {example.key!a}",
            "Use examples of one type in all shards",
            file=shard.path,
        )
    offset, size, _ = example.parts[payloads[0]]
    if not 0 < size <= MAX_EXAMPLE_BYTES:
        raise InputError(f"1 to {MAX_EXAMPLE_BYTES:,} bytes", f"{size:,} in {location}", "Remove the example")
    scan.offsets.append(offset)
    scan.sizes.append(size)
    scan.labels.append(_label(location, {suffix: content for suffix, (_, _, content) in example.parts.items()}))
    scan.last = example.key


def _label(location: str, parts: dict[str, bytes]) -> str | None:
    """Return the class in a .cls part, or in the label field of a .json part."""
    try:
        if ".cls" in parts:
            return parts[".cls"].decode().strip() or None
        content = json.loads(parts.get(".json", b"null"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"invalid class label ({error})", remedy="Correct the label", place=location) from error
    if isinstance(content, dict):
        content = next((value for name, value in content.items() if name.lower() in LABEL_NAMES), None)
    elif not isinstance(content, int | str):
        content = None
    if content is not None and (isinstance(content, bool) or not isinstance(content, int | str)):
        raise InputError("a class that is a string or an integer", f"{content!r:.40}", place=location)
    return None if content is None else str(content)


def name_at(shard: ShardFile, offset: int) -> str:
    """Return the location of the tar member at a byte offset, for error messages."""
    try:
        with shard.path.open("rb") as file:
            names = (member.name for member in _members(shard, file) if member.offset_data == offset)
            return f"{shard.path} ({next(names)})"
    except (InputError, OSError, StopIteration):
        return f"{shard.path} (byte {offset:,})"
