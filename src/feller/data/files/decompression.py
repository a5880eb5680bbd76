"""Reading of compressed files up to a size limit, as a protection against decompression bombs."""

import gzip
import io
import pathlib

from feller.core.errors import InputError

MIN_EXPANDED_BYTES = 2**30
"""Decompressed size in bytes up to which any compression ratio is allowed."""
MAX_RATIO = 100
"""Maximum ratio of decompressed to compressed size, for decompressed sizes above `MIN_EXPANDED_BYTES`."""
MIN_EXPANDED_TEXT_BYTES = 2**25
"""Decompressed size of text in bytes up to which any compression ratio is allowed. It is small because parsed cells and
lines take far more memory."""
MAX_TEXT_RATIO = 30
"""Maximum compression ratio of text with a decompressed size above `MIN_EXPANDED_TEXT_BYTES`; typical ratios are 3 to
10."""
MAX_TEXT_FILE_BYTES = 2**32
"""Maximum size in bytes of a text file, which is held in memory as a whole."""


def max_expanded_bytes(path: pathlib.Path) -> int:
    """Return the maximum decompressed size of a compressed file, in bytes."""
    return max(MIN_EXPANDED_BYTES, MAX_RATIO * path.stat().st_size)


def max_expanded_text_bytes(path: pathlib.Path) -> int:
    """Return the maximum decompressed size of a compressed text file, in bytes."""
    return max(MIN_EXPANDED_TEXT_BYTES, MAX_TEXT_RATIO * path.stat().st_size)


def check_expanded_size(path: pathlib.Path, size: int, limit: int | None = None) -> None:
    """Raise an InputError if a decompressed size exceeds `limit`, in bytes; by default `max_expanded_bytes`."""
    if size > (max_expanded_bytes(path) if limit is None else limit):
        raise InputError(
            f"{_size(path.stat().st_size)} would expand to {_size(size)} or more, above the limit on the compression"
            " ratio",
            remedy="Decompress it manually if you trust it",
            file=path,
        )


def check_text_size(path: pathlib.Path) -> None:
    """Raise an InputError if a text file is larger than `MAX_TEXT_FILE_BYTES`."""
    size = path.stat().st_size
    if size > MAX_TEXT_FILE_BYTES:
        raise InputError(
            f"a text file of at most {_size(MAX_TEXT_FILE_BYTES)}", _size(size), "Split the file", file=path
        )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes:,} bytes"


class _LimitedGzip(io.RawIOBase):
    """Decompressed bytes of a gzip file; reading past the limit raises InputError."""

    def __init__(self, path: pathlib.Path, limit: int) -> None:
        self._path, self._file, self._position = path, gzip.open(path), 0  # noqa: SIM115 - closed with this
        self._limit = limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview | bytearray) -> int:  # pyrefly: ignore
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        check_expanded_size(self._path, self._position, self._limit)
        return len(chunk)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_gzip(path: pathlib.Path) -> io.BufferedReader:
    """Open a .gz file; reading raises an InputError if it expands to more than `max_expanded_bytes`."""
    return io.BufferedReader(_LimitedGzip(path, max_expanded_bytes(path)), 2**16)  # pyrefly: ignore


def open_text_gzip(path: pathlib.Path) -> io.BufferedReader:
    """Open a .gz file of text; reading raises an InputError if it expands to more than `max_expanded_text_bytes`."""
    return io.BufferedReader(_LimitedGzip(path, max_expanded_text_bytes(path)), 2**16)  # pyrefly: ignore
