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
    """An error that is told in one line, whatever it quotes."""

    def __init__(self, message: str = "") -> None:
        line = message if len(message.splitlines()) < 2 else " ".join(message.split())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}")


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
