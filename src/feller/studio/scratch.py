"""The page's own temporary folder, the only place that it writes to."""

import pathlib
import shutil
import tempfile
import time
from types import TracebackType

YOUNG = 3600.0
"""Seconds for which a result is kept at least."""


class Scratch:
    """A folder that is gone when the page is; each result has a folder in it, of which the latest are kept."""

    def __init__(self, kept: int) -> None:
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="feller-page-")).resolve()
        self.uploads = self.path / "uploads"
        self.results = self.path / "results"
        for folder in (self.uploads, self.results):
            folder.mkdir()
        self._kept = kept

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

    def close(self) -> None:
        """Remove all."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
