"""Which models follow a velocity, all or in part."""

from feller.core.errors import UsageError
from feller.paths import Path
from feller.paths.brownian import Brownian
from feller.paths.families import Timeless
from feller.paths.product import parts


def is_flow(path: Path) -> bool:
    """Tell whether a velocity tells all of what a process does, or of one leaf of it."""
    noisy = getattr(path, "noise", None) is not None or isinstance(path, Brownian)
    return not (path.jumps or noisy or isinstance(path, Timeless))


def check_flow(path: Path) -> None:
    """Refuse a process that is more than a velocity.

    Raises:
        UsageError: Then; says what it is.
    """
    for part in parts(path):
        if isinstance(part, Timeless):
            raise UsageError(f"this model has no velocity: {part.instead or part.otherwise}")
        if isinstance(part, Brownian):
            raise UsageError(
                "this run is a bridge, whose process is noise and drift; push points through with `sample`"
            )
        if not is_flow(part):
            kind = "jumps" if part.jumps else "has noise"
            raise UsageError(
                f"no velocity tells what this model does, whose process {kind} ({type(part).__name__}); use `sample`"
            )
