"""What went wrong, told in one line to the person who can mend it."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of an `OSError`: there is no room to write."""
AMISS = (errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP)
"""Of an `OSError`: something is wrong with a place that was named, and not with us."""
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
"""Words, in small letters, of PyTorch's messages where there is none."""
LONGEST = 1_200
"""Letters of a line: what files of strangers are quoted with may be endless."""


class _LineError(ValueError):
    """An error of one line, whatever it quotes; what is known of it stays in its fields.

    Args:
        message: The whole line; by default it is composed of the fields.
        argument: Name of what is wrong, as Python has it: an argument, a field, a key.
        expected: What it must be.
        found: What it is.
        remedy: What to do, as a sentence.
        file: File in which it stands.
        row: Number of the row or example, from 0.
        column: Name of the column.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        argument: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.argument, self.expected, self.found, self.remedy = argument, expected, found, remedy
        self.file, self.row, self.column = file, row, column
        line = self._composed() if message is None else message
        line = line if len(line.splitlines()) < 2 else " ".join(line.split())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}")

    def replaced(self, words: str, other: str) -> "_LineError":
        """Return the same error with other words in its line and its fields."""
        names = ("argument", "expected", "found", "remedy", "file", "column")
        fields = {name: None if (one := getattr(self, name)) is None else one.replace(words, other) for name in names}
        return type(self)(str(self).replace(words, other), row=self.row, **fields)

    def _composed(self) -> str:
        """Write the fields: where, expected, found, remedy."""
        row = None if self.row is None else f"row {self.row}"
        column = None if self.column is None else f"column {self.column}"
        where = ", ".join(part for part in (self.argument, self.file, row, column) if part is not None)
        parts = ("expected", self.expected), ("found", self.found)
        facts = "; ".join(f"{name} {value}" for name, value in parts if value is not None)
        line = ": ".join(part for part in (where, facts) if part)
        if self.remedy is None:
            return line
        remedy = self.remedy if self.remedy.endswith((".", "!", "?", ")")) else f"{self.remedy}."
        return f"{line}. {remedy}" if line else remedy


class InputError(_LineError):
    """Data, a run folder or the disk is not what it must be; the command line exits with 1."""


class UsageError(_LineError):
    """A flag, name or value is wrong; the command line exits with 2."""


def cannot_write(what: object, error: OSError) -> InputError:
    """Return what to raise where the disk refuses to take something."""
    return InputError(f"cannot write {what} ({error.strerror or error}); free the disk or name another place")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory did not suffice, of which PyTorch speaks in an error that is also one of all else."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in NO_MEMORY)
    )


def is_too_large(error: BaseException) -> bool:
    """Tell whether something was to be made that no memory holds, or whose size no number tells."""
    return is_out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error).lower()
