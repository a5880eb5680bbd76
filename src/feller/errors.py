"""What went wrong, told in one line to the person who can mend it."""


class InputError(ValueError):
    """Data, a run folder or the disk is not what it must be; the command line exits with 1."""


class UsageError(ValueError):
    """A flag, name or value is wrong; the command line exits with 2."""
