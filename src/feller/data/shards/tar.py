"""One look through the headers of a tar: where each example lies, and of which class it is.

Nothing is unpacked, and nothing but labels is read. Members are named as webdataset names them: what follows the first
point of a file's name is a part of the example that the rest names; its parts follow each other.
"""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from feller.core.errors import InputError
from feller.core.optional_dependency import need
from feller.data.images.load_images import ENDINGS as PICTURES
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import Found, FoundPictures, FoundTexts
from feller.data.shards.shard_names import Shard, check_same
from feller.data.speech.audio_io import ENDINGS as SOUNDS

PAYLOADS: dict[str, type[Found]] = {**dict.fromkeys(PICTURES, FoundPictures), ".txt": FoundTexts}
"""What an example is, by the end of the member that holds it."""
LABELS = (".cls", ".json")
PICKLES = (".pyd", ".pth", ".pkl", ".pickle", ".pt")
LARGEST = 2**28
"""Bytes of an example, at most."""
LARGEST_LABEL = 2**20
HEADER = 2**20
"""Bytes that one header may ask for."""
BLOCK, BLOCKS = 4096, 8
"""Of a shard's content go into its hash, evenly through it."""
PADDING = 2**20
"""Bytes behind the end of a tar, at most."""
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of packed files, and the programs that unpack them."""


@dataclass(eq=False)
class Looked:
    """What a shard holds."""

    kind: type[Found] | None = None
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    names: tuple[str, ...] = ()
    """Of the first and the last example, for people."""
    ignored: Counter[str] = field(default_factory=Counter)
    print: str = ""


class _Headers(io.RawIOBase):
    """A file of which only little is read at once, whatever a header says."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def look(shard: Shard) -> Looked:
    """Look through a shard.

    Raises:
        InputError: If it is damaged, cut off, or holds what no example of ours is.
    """
    split = need("webdataset.tariterators", "reading tar shards", "stream").base_plus_ext
    found, digest = Looked(), blake2b(digest_size=16)
    key, parts, seen = None, {}, set()

    def close() -> None:
        if key is not None:
            _add(shard, key, parts, found)

    with shard.path.open("rb") as file:
        about = os.fstat(file.fileno())
        check_same(shard, about.st_size, about.st_mtime_ns)
        for member in _members(shard, file):
            digest.update(f"{member.name!a} {member.offset_data} {member.size} {member.mtime}\n".encode())
            if _is_left_out(shard, member, found.ignored):
                continue
            name, ending = split(member.name)
            ending = f".{(ending or '').lower()}"
            if name is None or ending not in (*PAYLOADS, *LABELS):
                _ignore(shard, member.name, ending, found.ignored)
                continue
            if name != key:
                close()
                if name in seen:
                    raise InputError(
                        f"{shard.path}: {name!a}: expected the members of an example one behind the other, others lie"
                        " between; write it again with tar --sort=name"
                    )
                seen.add(name)
                key, parts = name, {}
            if ending in parts:
                raise InputError(f"{shard.path}: two members are called {member.name!a}; drop one")
            content = b""
            if ending in LABELS:
                content = _label_bytes(shard, member, file)
                digest.update(content)
            parts[ending] = (member.offset_data, member.size, content)
        close()
        for place in np.linspace(0, max(0, shard.size - BLOCK), BLOCKS).astype(np.int64).tolist():
            digest.update(os.pread(file.fileno(), BLOCK, place))
    found.print = digest.hexdigest()
    return found


def _members(shard: Shard, file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """Yield the members; errors of all kinds become ours."""
    last = "its beginning"
    _check_not_packed(shard, file)
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # pyrefly: ignore
            before = -1
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyrefly: ignore - the library keeps each, which grows with the shard
                if member.size < 0 or tar.offset <= before:  # which would be read for ever
                    raise InputError(
                        f"{shard.path}: {member.name!a} has a size of {member.size:,} bytes, with which the tar never"
                        " ends; it is damaged: copy it again, or write it anew"
                    )
                before = tar.offset
                if member.issparse():
                    raise InputError(f"{shard.path}: {member.name!a} has holes (a sparse file); write it without")
                if member.isreg() and member.offset_data + member.size > shard.size:
                    raise InputError(f"{shard.path}: ends inside {member.name!a}; it was cut off: copy it again")
                yield member
                last = ascii(member.name)
            end, behind = tar.offset, shard.size - tar.offset
        if behind == 0:
            raise InputError(f"{shard.path}: has no end behind {last}; it was cut off: copy it again")
        if behind > PADDING or any(os.pread(file.fileno(), tarfile.BLOCKSIZE, end)):
            raise InputError(f"{shard.path}: is damaged behind {last}, at byte {end:,}; copy it again")
    except InputError:
        raise
    except (tarfile.TarError, OSError, ValueError, EOFError, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{shard.path}: is no tar, or damaged behind {last} ({reason}); copy it again") from error


def _check_not_packed(shard: Shard, file: io.BufferedReader) -> None:
    """Refuse a packed tar, whatever it is called."""
    head = os.pread(file.fileno(), 8, 0)
    by = next((program for magic, program in PACKED.items() if head.startswith(magic)), None)
    if by is not None:
        raise InputError(
            f"{shard.path}: is packed with {by} though its name ends with .tar, so that no example in it can be reached"
            f" alone; unpack it: {by} -dc < {shard.path.name} > unpacked.tar"
        )


def _is_left_out(shard: Shard, member: tarfile.TarInfo, ignored: Counter[str]) -> bool:
    """Count what is no file; refuse names that lead elsewhere, though nothing is ever written under them."""
    if member.name.startswith("/") or ".." in member.name.split("/") or "\0" in member.name:
        raise InputError(f"{shard.path}: {member.name!a} leads out of the tar; write it with names below its folder")
    if member.isdir():
        return True
    if member.issym() or member.islnk():
        ignored["links"] += 1
        return True
    if not member.isreg():
        ignored["devices"] += 1
        return True
    return member.name.startswith("__")  # of the shard itself, by the format


def _ignore(shard: Shard, name: str, ending: str, ignored: Counter[str]) -> None:
    last = f".{ending.rpartition('.')[2]}"
    if last in SOUNDS:
        raise InputError(
            f"{shard.path}: {name!a} is a sound, which is not read from shards; give a folder of recordings"
        )
    if last in PICKLES:
        ignored[f"{last}, which could run code and is never loaded"] += 1
    else:
        ignored[last if 1 < len(last) <= 12 and last.isascii() else "members without an ending"] += 1


def _label_bytes(shard: Shard, member: tarfile.TarInfo, file: io.BufferedReader) -> bytes:
    if member.size > LARGEST_LABEL:
        raise InputError(f"{shard.path}: {member.name!a} has {member.size:,} bytes, too many for a class; drop it")
    return os.pread(file.fileno(), member.size, member.offset_data)


def _add(shard: Shard, key: str, parts: dict[str, tuple[int, int, bytes]], found: Looked) -> None:
    """Add an example by its parts."""
    payloads = [ending for ending in parts if ending in PAYLOADS]
    if not payloads:
        found.ignored["examples without a picture or a text"] += 1
        return
    if len(payloads) > 1:
        said = (
            "pictures with captions are documents, which are read from a folder" if ".txt" in payloads else "keep one"
        )
        raise InputError(f"{shard.path}: {key!a} is {' and '.join(payloads)}: {said}")
    kind = PAYLOADS[payloads[0]]
    found.kind = found.kind or kind
    if kind is not found.kind:
        raise InputError(
            f"{shard.path}: expected {found.kind.name} alone, {key!a} holds {kind.name}; give shards of one kind"
        )
    offset, size, _ = parts[payloads[0]]
    if not 0 < size <= LARGEST:
        raise InputError(f"{shard.path}: {key!a} has {size:,} bytes, expected 1 to {LARGEST:,}; drop it")
    found.offsets.append(offset)
    found.sizes.append(size)
    found.labels.append(_label(shard, key, {end: content for end, (_, _, content) in parts.items() if end in LABELS}))
    found.names = (found.names[0] if found.names else key, key)


def _label(shard: Shard, key: str, parts: dict[str, bytes]) -> str | None:
    """Return the class that .cls says, or a field of .json."""
    try:
        if ".cls" in parts:
            return parts[".cls"].decode().strip() or None
        entry = json.loads(parts[".json"]) if ".json" in parts else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shard.path}: {key!a}: its class cannot be read ({error}); mend it") from error
    said = entry if isinstance(entry, int | str) else None
    if isinstance(entry, dict):
        said = next((value for name, value in entry.items() if name.lower() in LABEL_NAMES), None)
    if said is not None and (isinstance(said, bool) or not isinstance(said, int | str)):
        raise InputError(f"{shard.path}: {key!a}: expected a class that is a word or a whole number, got {said!r:.40}")
    return None if said is None else str(said)


def name_at(shard: Shard, offset: int) -> str:
    """Return what a member is called, for an error."""
    try:
        with shard.path.open("rb") as file:
            for member in _members(shard, file):
                if member.offset_data == offset:
                    return f"{shard.path} ({member.name})"
    except (InputError, OSError):
        pass
    return f"{shard.path} (byte {offset:,})"
