"""feller steer."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.app.commands.arguments import changed, words_of
from feller.app.commands.flag_types import (
    CodeText,
    Counted,
    Limits,
    Offers,
    Positive,
    RunPlace,
    Text,
    Whole,
    Wishes,
    Words,
    pairs,
    short,
)
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Steer:
    """Draw samples from RUN, the newest by default, that are as wished, or explain an observation, without training.

    Either --reward, or --observe and --operator.
    """

    deep: ClassVar[str] = ""

    folder: RunPlace = None
    """The run folder."""
    reward: Wishes = ()
    """What is wished for: file.py:FUNCTION of samples, the run of a regressor, or by name: ink, class=7,
    compressibility, rdkit=qed, chgnet=energy. Each may have NUMBER * before it, or <= NUMBER, >= NUMBER, == NUMBER
    behind it. Several add up."""
    n: Annotated[Whole, short("-n")] = None
    """Number of samples, 16 by default, each with a search of its own; with --observe of each observation, 4 by
    default."""
    out: Text = None
    """Where they go, as for `sample`."""
    overwrite: bool = False
    """Replace the file of --out."""
    observe: Text = None
    """What was measured: a picture, or numbers in an .npy or .npz, of one example or several."""
    operator: Annotated[Text, Offers(tables=("feller.app.workflows.steering.measurements:NAMED",))] = None
    """How that came about: inpaint, pool=FACTOR, blur=WIDTH, unknown-blur, grey, sums=COUNT, magnitudes,
    file.py:FUNCTION, or file.py:FORWARD,ADJOINT for a linear one."""
    mask: Text = None
    """What is to be filled, for inpaint: white in a picture, 1 or True in an array."""
    noise: Annotated[float, Limits(0.0)] = 0.0
    """Standard deviation of the measurements, in the units of the data."""
    method: Annotated[str, Offers(tables=("feller.control.inverse.d_flow_restoration:METHODS",))] = "source"
    """How observations are explained: source (search), or by guidance pigdm, ot-ode, dps; or red-diff."""
    scale: Positive = None
    """Of guidance; the usual 1 is safe, and 3 is often nearer to the truth (10 and 20 for dps)."""
    steps: Whole = None
    """Of each search, at most: by default 20 for a reward, 100 for an observation."""
    calls: Counted = None
    """Network calls of each solve for a reward; by default 12, which is six midpoint steps."""
    solver: Annotated[Text, Offers(tables=("feller.sampling.sampler_config:VELOCITY_SOLVERS",))] = None
    """euler, midpoint, heun or rk4."""
    prior: Annotated[str, Offers(("shell", "none"))] = "shell"
    """What keeps sources like those that the model knows: shell, they keep their length; radius=NUMBER, their length
    costs so many times the nats of its law; or none."""
    over: Annotated[str, Offers(tables=("feller.app.workflows.steering.model_flow:OVER",))] = "source"
    """What a search for a reward moves: source, condition (what the network makes of the conditions), or both."""
    given: Words = ()
    """Conditions or parts of the data, KEY=VALUE, as for `sample`."""
    guidance: float = 1.0
    """1 is the plain conditional model."""
    seed: int = 0
    """Of all randomness: the searches start from the samples of this seed."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print a JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.commands.resolve_run import find
        from feller.app.terminal import heard, show, speaker
        from feller.app.workflows.reporting.steering_report import page_of_observation, page_of_wish
        from feller.data.path_checks import check_free

        if self.reward and self.observe is not None:
            raise UsageError("--reward and --observe exclude each other; choose one")
        if not self.reward and self.observe is None:
            raise UsageError("expected what to steer to: --reward WISH, or --observe FILE with --operator NAME")
        _refuse(self, *(("method", "noise", "scale", "operator", "mask") if self.observe is None else _SEARCHED))
        if self.observe is not None and self.operator is None:
            raise UsageError("--observe needs --operator: how the measurements came about")
        if self.steps is not None and self.observe is not None and self.method != "source":
            raise UsageError("--steps are of a search, and guidance has none: leave it out, or say --method source")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps must be 1 or more, got {self.steps}")
        check_free(self.out, overwrite=self.overwrite)
        tell = speaker()
        run = find(self.folder, self.code, tell)
        with heard(tell), run.writing():  # what another process does with the run is told before the search
            if self.observe is None:
                found = self._steer(run, tell)
                page = page_of_wish(run, self.reward, found, words_of(self))
            else:
                found = self._observe(run, self.observe, tell)
                page = page_of_observation(run, self.operator or "", found, words_of(self))
        show({**found.numbers, "report": page}, tell)
        tell.say(f"{found.numbers['n']:,} samples: {found.place}")
        sketch = {} if self.observe is not None or not found.sketch else {"sketch": found.sketch}
        return {"run": str(run.path), "samples": str(found.place), **found.numbers, **sketch, "report": page}

    def _steer(self, run: Any, tell: Any) -> Any:
        """Follow the reward."""
        from feller.app.workflows.steer import STEPS, USUAL, steer
        from feller.sampling.sampler_config import Sampling

        return steer(
            run,
            self.reward,
            16 if self.n is None else self.n,
            out=self.out,
            given=pairs(self.given),
            guidance=self.guidance,
            sampling=Sampling(self.solver or USUAL.solver, USUAL.calls if self.calls is None else self.calls),
            steps=STEPS if self.steps is None else self.steps,
            over=self.over,
            prior=_prior(self.prior),
            seed=self.seed,
            tell=tell,
        )

    def _observe(self, run: Any, file: str, tell: Any) -> Any:
        """Explain the observation."""
        from feller.app.workflows.steering.inverse_problems import observe

        return observe(
            run,
            file,
            self.operator or "",
            4 if self.n is None else self.n,
            mask=self.mask,
            noise=self.noise,
            method=self.method,
            scale=self.scale,
            steps=self.steps,
            out=self.out,
            given=pairs(self.given),
            guidance=self.guidance,
            seed=self.seed,
            tell=tell,
        )


_SEARCHED = ("calls", "solver", "prior", "over")
"""Flags of a search for a reward."""


def _refuse(command: Steer, *names: str) -> None:
    """Refuse flags that the other way of steering takes."""
    wrong = [f"--{name}" for name in changed(command) if name in names]
    if wrong:
        other = "--reward" if command.observe is not None else "--observe"
        raise UsageError(f"{', '.join(wrong)} goes with {other}; leave it out")


def _prior(text: str) -> Any:
    """Return what sources cost."""
    from feller.control.inverse.d_flow import Nothing, Radius, Shell

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
