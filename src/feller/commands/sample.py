"""feller sample."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.commands.arguments import Positional, short
from feller.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw samples from RUN, the newest by default."""

    deep: ClassVar[bool] = False

    folder: Positional[str | None] = None
    """The run folder."""
    n: Annotated[int, short("-n")] = 64
    """Number of samples."""
    out: str | None = None
    """Where they go; the ending decides the form: .npz, .csv, .parquet, .npy, .txt, or a folder. By default samples/
    in the run."""
    calls: int | None = None
    """Network calls per sample; a midpoint step is two."""
    solver: str | None = None
    """euler, midpoint, heun, rk4, dopri5, euler-maruyama or ancestral."""
    given: tuple[str, ...] = ()
    """Conditions, KEY=VALUE; those not given are drawn as often as in the training data."""
    guidance: float = 1.0
    """1 is the plain conditional model, 0 the unconditional, more sharpens."""
    seed: int = 0
    """Of all randomness."""
    code: str | None = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print a JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.folder import find
        from feller.commands.terminal import speaker
        from feller.journeys.sample import sample

        tell = speaker()
        run = find(self.folder, self.code, tell)
        _, place = sample(
            run,
            self.n,
            out=self.out,
            given=_pairs(self.given),
            guidance=self.guidance,
            solver=self.solver,
            calls=self.calls,
            seed=self.seed,
            tell=tell,
        )
        tell.say(f"{self.n:,} samples: {place}")
        return {"run": str(run.path), "samples": str(place), "n": self.n}


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    """Split KEY=VALUE."""
    for word in words:
        if "=" not in word:
            raise UsageError(f"--given takes KEY=VALUE, got {word!r}")
    return dict(word.split("=", 1) for word in words)
