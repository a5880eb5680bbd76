"""How much one visitor of the page may ask for at once."""

from dataclasses import dataclass

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
