"""One look through the headers of a tar: where each example lies, and of which class it is.

Nothing is unpacked, and nothing but labels is read. Members are named as webdataset names them: what follows the first
point of a file's name is a part of the example that the rest names; its parts follow each other.
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

from feller.core.errors import InputError
from feller.data.images.image_loading import ENDINGS as PICTURES
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import RawExamples, RawImages, RawTexts
from feller.data.shards.shard_names import ShardFile, check_same
from feller.data.speech.audio_io import ENDINGS as SOUNDS

NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
"""What names an example, and the part of it that a member is."""
PAYLOADS: dict[str, type[RawExamples]] = {**dict.fromkeys(PICTURES, RawImages), ".txt": RawTexts}
"""What an example is, by the end of the member that holds it."""
LABELS = (".cls", ".json")
PICKLES = (".pyd", ".pth", ".pkl", ".pickle", ".pt")
MAX_EXAMPLE_BYTES, MAX_LABEL_BYTES = 2**28, 2**20
"""Bytes of an example, and of its label, at most."""
PADDING = 2**20
"""Bytes behind the end of a tar, at most."""
BLOCK, BLOCKS = 4096, 8
"""Of a shard's content go into its hash, evenly through it."""


@dataclass(eq=False)
class TarScan:
    """What a shard holds."""

    kind: type[RawExamples] | None = None
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    last: str = ""
    """Name of the last example, for people."""
    ignored: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""


@dataclass
class _Example:
    """Parts of an example: ending -> offset, size, and what a label says."""

    key: str
    parts: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)


def scan_tar(shard: ShardFile) -> TarScan:
    """Look through a shard; InputError if it is damaged, cut off, or holds what no example of ours is."""
    scan, digest, seen = TarScan(), blake2b(digest_size=16), set()
    example = None
    with shard.path.open("rb") as file:
        about = os.fstat(file.fileno())
        check_same(shard, about.st_size, about.st_mtime_ns)
        for member in _members(shard, file):
            digest.update(f"{member.name!a} {member.offset_data} {member.size} {member.mtime}\n".encode())
            if not _is_part(shard, member, scan.ignored):
                continue
            name, ending = _split(member.name)
            if example is None or name != example.key:
                if example is not None:
                    _add(shard, example, scan)
                if name in seen:
                    raise InputError(
                        expected="the members of an example one behind the other, others lie between",
                        remedy="Write it again with tar --sort=name",
                        file=shard.path,
                        place=f"{name!a}",
                    )
                seen.add(name)
                example = _Example(name)
            if ending in example.parts:
                raise InputError(f"two members are called {member.name!a}", remedy="Drop one", file=shard.path)
            content = b""
            if ending in LABELS:
                if member.size > MAX_LABEL_BYTES:
                    raise InputError(
                        f"{member.name!a} has {member.size:,} bytes, too many for a class", file=shard.path
                    )
                content = os.pread(file.fileno(), member.size, member.offset_data)
                digest.update(content)
            example.parts[ending] = (member.offset_data, member.size, content)
        if example is not None:
            _add(shard, example, scan)
        for place in np.linspace(0, max(0, shard.size - BLOCK), BLOCKS).astype(np.int64).tolist():
            digest.update(os.pread(file.fileno(), BLOCK, place))
    scan.fingerprint = digest.hexdigest()
    return scan


def _split(member: str) -> tuple[str, str]:
    match = NAME.fullmatch(member)
    return (match[1], f".{match[2].lower()}") if match else (member, "")


def _members(shard: ShardFile, file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """Yield the members; errors of all kinds become ours. To the library, damage is an end: whether it is one is seen.

    Sizes below zero would lead back to the same member for ever.
    """
    last = "its beginning"
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyrefly: ignore - the library keeps each, which grows with the shard
                if member.size < 0 or member.issparse():
                    raise tarfile.ReadError(f"{member.name!a} has a size of {member.size:,}, or holes")
                if member.isreg() and member.offset_data + member.size > shard.size:
                    raise tarfile.ReadError(f"ends inside {member.name!a}")
                yield member
                last = ascii(member.name)
            end = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
            if end != bytes(tarfile.BLOCKSIZE) or shard.size - tar.offset > PADDING:
                raise tarfile.ReadError("no end follows")
    except (tarfile.TarError, OSError, ValueError, EOFError, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"is packed, no tar, or damaged behind {last} ({reason})",
            remedy="Unpack it, or copy it again",
            file=shard.path,
        ) from error


def _is_part(shard: ShardFile, member: tarfile.TarInfo, ignored: Counter[str]) -> bool:
    """Tell whether a member is a part of an example, and count others."""
    if member.name.startswith("/") or ".." in member.name.split("/") or "\0" in member.name:
        raise InputError(
            f"{member.name!a} leads out of the tar", remedy="Write it with names below its folder", file=shard.path
        )
    if member.isdir() or (member.isreg() and member.name.startswith("__")):  # of the shard itself, by the format
        return False
    if not member.isreg():
        ignored["links" if member.issym() or member.islnk() else "devices"] += 1
        return False
    ending = _split(member.name)[1]
    if ending in PAYLOADS or ending in LABELS:
        return True
    last = f".{ending.rpartition('.')[2]}"
    if last in SOUNDS:
        raise InputError(
            f"{member.name!a} is a sound, which is not read from shards",
            remedy="Give a folder of recordings",
            file=shard.path,
        )
    if last in PICKLES:
        ignored[f"{last}, which could run code and is never loaded"] += 1
    else:
        ignored[last if 1 < len(last) <= 12 and last.isascii() else "members without an ending"] += 1
    return False


def _add(shard: ShardFile, example: _Example, scan: TarScan) -> None:
    """Add an example by its parts."""
    payloads = [ending for ending in example.parts if ending in PAYLOADS]
    if not payloads:
        scan.ignored["examples without a picture or a text"] += 1
        return
    kind, what = PAYLOADS[payloads[0]], f"{shard.path}: {example.key!a}"
    if len(payloads) > 1:
        reason = "captions are documents, which are read from a folder" if ".txt" in payloads else "keep one"
        raise InputError(f"{what} is {' and '.join(payloads)}: {reason}")
    scan.kind = scan.kind or kind
    if kind is not scan.kind:
        raise InputError(
            expected=f"{scan.kind.name} alone, {example.key!a} holds {kind.name}",
            remedy="Give one kind",
            file=shard.path,
        )
    offset, size, _ = example.parts[payloads[0]]
    if not 0 < size <= MAX_EXAMPLE_BYTES:
        raise InputError(f"{what} has {size:,} bytes", expected=f"1 to {MAX_EXAMPLE_BYTES:,}", remedy="Drop it")
    scan.offsets.append(offset)
    scan.sizes.append(size)
    scan.labels.append(_label(what, {ending: content for ending, (_, _, content) in example.parts.items()}))
    scan.last = example.key


def _label(what: str, parts: dict[str, bytes]) -> str | None:
    """Return the class that .cls says, or a field of .json."""
    try:
        if ".cls" in parts:
            return parts[".cls"].decode().strip() or None
        content = json.loads(parts.get(".json", b"null"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"its class cannot be read ({error})", remedy="Mend it", place=what) from error
    if isinstance(content, dict):
        content = next((value for name, value in content.items() if name.lower() in LABEL_NAMES), None)
    elif not isinstance(content, int | str):
        content = None
    if content is not None and (isinstance(content, bool) or not isinstance(content, int | str)):
        raise InputError("a class that is a word or a whole number", f"{content!r:.40}", place=what)
    return None if content is None else str(content)


def name_at(shard: ShardFile, offset: int) -> str:
    """Return what a member is called, for an error."""
    try:
        with shard.path.open("rb") as file:
            named = (member.name for member in _members(shard, file) if member.offset_data == offset)
            return f"{shard.path} ({next(named)})"
    except (InputError, OSError, StopIteration):
        return f"{shard.path} (byte {offset:,})"
