"""What went wrong, told in one line to the person who can mend it."""


class InputError(ValueError):
    """Data, a run folder or the disk is not what it must be; the command line exits with 1."""


class UsageError(ValueError):
    """A flag, name or value is wrong; the command line exits with 2."""


def cannot_write(what: object, error: OSError) -> InputError:
    """Return what to raise where the disk refuses to take something."""
    return InputError(f"cannot write {what} ({error.strerror or error}); free the disk or name another place")
