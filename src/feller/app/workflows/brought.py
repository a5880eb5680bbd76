"""What was said of a network that was not trained here."""

import shlex
from dataclasses import dataclass

from feller.app.workflows.run_config import Asked
from feller.core.run_folder import Run
from feller.core.serialization import from_data


@dataclass(frozen=True, kw_only=True)
class Brought:
    """Its conventions; recipe.json holds them."""

    modality: str | None = None
    """What its data are, in words; None for what the data look like."""
    weights: str | None = None
    """File that they were read from."""
    predicts: str = "velocity"
    schedule: str = "linear"
    times: tuple[float, float] = (0.0, 1.0)
    """Its times at the source and at the data."""
    null: int | None = None
    """Its number for "no class given"."""
    classes: tuple[str, ...] = ()


def brought_of(run: Run) -> Brought | None:
    """Read what was said of a run's network; None if it was trained here."""
    content = run.read_record(run.recipe).get("brought")
    return None if content is None else from_data(Brought, content)


def bringing(run: Run, asked: Asked, said: Brought) -> str:
    """Return the command that makes such a run."""
    usual, words = Brought(), ["feller", "import", asked.recipe]
    for name, value in (("data", asked.data or None), *((name, getattr(said, name)) for name in vars(usual))):
        if value not in (None, ()) and value != getattr(usual, name, None):
            several = value if isinstance(value, tuple) else (value,)
            words += [f"--{name}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in several)]
    return shlex.join([*words, "--out", str(run.path)])
