"""Packed files, read only as far as honest ones go: a few bytes could unpack to more than any memory."""

import gzip
import io
import pathlib

from feller.core.errors import InputError

MIN_EXPANDED_BYTES = 2**30
"""Bytes that may always come out of a file."""
MAX_RATIO = 100
"""How many times its own size more than that may come out."""
MIN_EXPANDED_TEXT_BYTES = 2**25
"""Bytes of packed letters that may always come out: as cells and lines they take many times that in memory."""
MAX_TEXT_RATIO = 30
"""How many times its own size more letters than that may come out; they are packed to a third or a tenth."""
MAX_TEXT_FILE_BYTES = 2**32
"""Bytes of a file of letters, at most, since it is held in memory as a whole."""


def max_expanded_bytes(path: pathlib.Path) -> int:
    """Return how many bytes may come out of a file."""
    return max(MIN_EXPANDED_BYTES, MAX_RATIO * path.stat().st_size)


def max_expanded_text_bytes(path: pathlib.Path) -> int:
    """Return how many bytes of letters may come out of a file."""
    return max(MIN_EXPANDED_TEXT_BYTES, MAX_TEXT_RATIO * path.stat().st_size)


def check_expanded_size(path: pathlib.Path, size: int, limit: int | None = None) -> None:
    """Refuse a file out of which more comes than honest ones hold, or another bound than theirs allows: InputError."""
    if size > (max_expanded_bytes(path) if limit is None else limit):
        raise InputError(
            f"{_size(path.stat().st_size)} would unpack to {_size(size)} or more, as in no honest file",
            remedy="Unpack it by hand if you trust it",
            file=path,
        )


def check_text_size(path: pathlib.Path) -> None:
    """Raise an InputError on a file of letters that no memory should have to hold."""
    size = path.stat().st_size
    if size > MAX_TEXT_FILE_BYTES:
        raise InputError(
            f"a file of letters of at most {_size(MAX_TEXT_FILE_BYTES)}", _size(size), "Split it", file=path
        )


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count:,} bytes"


class _LimitedGzip(io.RawIOBase):
    """Bytes out of a packed file, which stop with an error where there are too many."""

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
        found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        self._position += len(found)
        check_expanded_size(self._path, self._position, self._limit)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_gzip(path: pathlib.Path) -> io.BufferedReader:
    """Open a .gz, out of which no more comes than honest files hold; InputError while it is read, if more comes."""
    return io.BufferedReader(_LimitedGzip(path, max_expanded_bytes(path)), 2**16)  # pyrefly: ignore


def open_text_gzip(path: pathlib.Path) -> io.BufferedReader:
    """Open a .gz of letters, as `open_gzip` does one of numbers.

    InputError while it is read, if more comes than honest files of letters hold.
    """
    return io.BufferedReader(_LimitedGzip(path, max_expanded_text_bytes(path)), 2**16)  # pyrefly: ignore
