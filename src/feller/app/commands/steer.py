"""feller steer."""

import math
from typing import TYPE_CHECKING, Any

from feller.app.commands.arguments import changed, words_of
from feller.app.config import SteerConfig, in_words
from feller.core.errors import UsageError
from feller.core.run_folder import Run

if TYPE_CHECKING:
    from feller.app.reporter import Tell


def run(config: SteerConfig, words: list[str]) -> dict[str, Any]:
    """Steer."""
    from feller.app.commands.resolve_run import find
    from feller.app.terminal import heard, show, speaker
    from feller.data.path_checks import check_free

    check(config)
    check_free(config.out, overwrite=config.overwrite)
    tell = speaker()
    run = find(config.folder, config.opening.code, tell)
    with heard(tell):
        found, page = steered(run, config, tell)
    show({**found.numbers, "report": page}, tell)
    tell.say(f"{found.numbers['n']:,} samples: {found.place}")
    sketch = {} if config.observe is not None or not found.sketch else {"sketch": found.sketch}
    return {"run": str(run.path), "samples": str(found.place), **found.numbers, **sketch, "report": page}


def check(config: SteerConfig) -> None:
    """Refuse what does not go together.

    Raises:
        UsageError: Then.
    """
    observed, method, steps = config.observe is not None, config.measurement.method, config.steps
    if config.reward and observed:
        raise UsageError("--reward and --observe exclude each other; choose one")
    if not config.reward and not observed:
        raise UsageError("expected what to steer to: --reward WISH, or --observe FILE with --operator NAME")
    _refuse(config, *(_SEARCHED if observed else ("method", "noise", "scale", "operator", "mask")))
    if observed and config.measurement.operator is None:
        raise UsageError("--observe needs --operator: how the measurements came about")
    if steps is not None and observed and method != "source":
        raise UsageError("--steps are of a search, and guidance has none: leave it out, or say --method source")
    if steps is not None and steps < 1:
        raise UsageError(f"--steps must be 1 or more, got {steps}")


def steered(run: Run, config: SteerConfig, tell: "Tell") -> tuple[Any, str]:
    """Return what was found, and where its page is."""
    from feller.app.workflows.reporting.steering_report import page_of_observation, page_of_wish

    with run.writing():  # what another process does with the run is told before the search
        if config.observe is None:
            found = _follow(run, config, tell)
            return found, page_of_wish(run, config.rewards, found, words_of(config))
        found = _explain(run, config, tell)
        return found, page_of_observation(run, config.measurement.operator or "", found, words_of(config))


def _follow(run: Run, config: SteerConfig, tell: "Tell") -> Any:
    """Follow the reward."""
    from feller.app.workflows.steer import STEPS, USUAL, steer
    from feller.sampling.sampler_config import Sampling

    search = config.search
    return steer(
        run,
        config.rewards,
        16 if config.n is None else config.n,
        out=config.out,
        given=in_words(config.given),
        guidance=config.guidance,
        sampling=Sampling(search.solver or USUAL.solver, USUAL.calls if search.calls is None else search.calls),
        steps=STEPS if config.steps is None else config.steps,
        over=search.over,
        prior=_prior(search.prior),
        seed=config.seed,
        tell=tell,
    )


def _explain(run: Run, config: SteerConfig, tell: "Tell") -> Any:
    """Explain the observation."""
    from feller.app.workflows.steering.inverse_problems import observe

    how = config.measurement
    return observe(
        run,
        config.observe or "",
        how.operator or "",
        4 if config.n is None else config.n,
        mask=how.mask,
        noise=how.noise,
        method=how.method,
        scale=how.scale,
        steps=config.steps,
        out=config.out,
        given=in_words(config.given),
        guidance=config.guidance,
        seed=config.seed,
        tell=tell,
    )


_SEARCHED = ("calls", "solver", "prior", "over")
"""Flags of a search for a reward."""


def _refuse(config: SteerConfig, *names: str) -> None:
    """Refuse flags that the other way of steering takes."""
    wrong = [f"--{name}" for name in changed(config) if name in names]
    if wrong:
        other = "--reward" if config.observe is not None else "--observe"
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
