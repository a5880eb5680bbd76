"""feller steer."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from feller.commands.arguments import RunPlace, Text, Whole, Words, short
from feller.commands.sample import pairs
from feller.errors import UsageError

Wishes = Annotated[tuple[str, ...], short("--rewards")]


@dataclass(frozen=True, kw_only=True)
class Steer:
    """Draw samples from RUN, the newest by default, that are as wished; nothing is trained."""

    deep: ClassVar[bool] = False

    folder: RunPlace = None
    """The run folder."""
    reward: Wishes = ()
    """What is wished for: file.py:FUNCTION of samples, or by name, such as ink or class=7; each may have NUMBER *
    before it, or <= NUMBER behind it. Several add up."""
    n: Annotated[int, short("-n")] = 16
    """Number of samples; each has a search of its own."""
    out: Text = None
    """Where they go, as for `sample`."""
    steps: int = 20
    """Of each search, at most."""
    calls: Whole = None
    """Network calls of each solve; by default 12, which is six midpoint steps."""
    solver: Text = None
    """euler, midpoint, heun or rk4."""
    prior: str = "shell"
    """What keeps sources like those that the model knows: shell, they keep their length; radius=NUMBER, their length
    costs so many times the nats of its law; or none."""
    given: Words = ()
    """Conditions or parts of the data, KEY=VALUE, as for `sample`."""
    guidance: float = 1.0
    """1 is the plain conditional model."""
    seed: int = 0
    """Of all randomness: the searches start from the samples of this seed."""
    code: Text = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print a JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.folder import find
        from feller.commands.terminal import heard, show, speaker
        from feller.journeys.steer import SEARCH, USUAL, steer
        from feller.sampling import Sampling

        tell = speaker()
        run = find(self.folder, self.code, tell)
        with heard(tell):
            found = steer(
                run,
                self.reward,
                self.n,
                out=self.out,
                given=pairs(self.given),
                guidance=self.guidance,
                sampling=Sampling(self.solver or USUAL.solver, self.calls or USUAL.calls),
                minimiser=replace(SEARCH, steps=self.steps),
                prior=_prior(self.prior),
                seed=self.seed,
                tell=tell,
            )
        show(found.numbers, tell)
        tell.say(f"{self.n:,} samples: {found.place}")
        return {"run": str(run.path), "samples": str(found.place), **found.numbers}


def _prior(text: str) -> Any:
    """Return what sources cost."""
    from feller.control.source import Nothing, Radius, Shell

    name, _, strength = text.partition("=")
    if text in ("shell", "none"):
        return {"shell": Shell(), "none": Nothing()}[text]
    try:
        number = float(strength)
    except ValueError:
        number = -1.0
    if name != "radius" or not 0 <= number < math.inf:
        raise UsageError(f"--prior is shell, radius=NUMBER or none, got {text!r}")
    return Radius(number)
