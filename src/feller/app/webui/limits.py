"""Limits per visitor, and the page's temporary folder."""

import contextlib
import pathlib
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from feller.core.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Bounds on what comes in, and on what is made of it."""

    upload: int = 16 * 2**20
    """Bytes of one file or request."""
    uploads: int = 256 * 2**20
    """Bytes of all files that were uploaded and are still there; the oldest make room."""
    queue: int = 100
    """Requests that wait; more are told to come again."""
    samples: int = 256
    """Samples at once."""
    points: int = 5000
    """Points or rows at once, which cost less."""
    letters: int = 2000
    """Of a text that is typed in."""
    rows: int = 50
    """Of a table that is typed in."""
    kept: int = 64
    """Results whose files are kept for downloading; older ones are removed."""

    def check_text(self, what: str, text: str) -> str:
        """Return a text if it is short enough.

        Raises:
            UsageError: If it is not.
        """
        if len(text) > self.letters:
            raise UsageError(f"{what} may have {self.letters:,} characters here, got {len(text):,}; shorten it")
        return text


YOUNG = 3600.0
"""Seconds for which a result is kept at least."""
FRESH = 600.0
"""Seconds for which an upload is kept at least: whoever sent it may be about to use it."""
LEAST = 2**16
"""Bytes that an upload counts, at least, so that there are not endless many of nothing."""


class Scratch:
    """A folder that is gone when the page is; each result has a folder in it, of which the latest are kept."""

    def __init__(self, kept: int) -> None:
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="feller-page-")).resolve()
        self.uploads = self.path / "uploads"
        self.results = self.path / "results"
        for folder in (self.uploads, self.results):
            folder.mkdir()
        self._kept, self._coming = kept, 0

    def room(self) -> pathlib.Path:
        """Return a new empty folder for one result, and remove those that are too old."""
        new = pathlib.Path(tempfile.mkdtemp(dir=self.results))
        there = sorted(self.results.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for old in there[: max(0, len(there) - self._kept)]:
            if time.time() - old.stat().st_mtime > YOUNG:  # a younger one may still be written to
                shutil.rmtree(old, ignore_errors=True)
        return new

    def lasting(self) -> pathlib.Path:
        """Return a new empty folder that stays as long as the page."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.path))

    def holds_upload(self, path: str) -> bool:
        """Tell whether a path that a client names is a file that somebody has uploaded."""
        try:
            place = pathlib.Path(path).resolve()
            return place.is_relative_to(self.uploads) and place.is_file()
        except (OSError, ValueError):
            return False

    def makes_room(self, size: int, most: int) -> bool:
        """Remove uploads, the oldest first, until one more fits; tell whether it does, as fresh ones are left alone."""
        there = []
        for path in self.uploads.rglob("*"):
            with contextlib.suppress(OSError):  # it may be gone by now
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    there.append((found.st_mtime, max(LEAST, found.st_size), path))
        free = most - self._coming - max(LEAST, size) - sum(size for _, size, _ in there)
        for moment, its, path in sorted(there):
            if free >= 0 or time.time() - moment < FRESH:
                break
            path.unlink(missing_ok=True)
            if path.parent != self.uploads:
                with contextlib.suppress(OSError):  # others may lie beside it
                    path.parent.rmdir()
            free += its
        return free >= 0

    @contextlib.contextmanager
    def coming(self, size: int) -> Iterator[None]:
        """Count an upload that is being written."""
        self._coming += size
        try:
            yield
        finally:
            self._coming -= size

    def close(self) -> None:
        """Remove all."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
