"""Requested privacy (epsilon, delta, unit) and the planned guarantee."""

import math
from dataclasses import dataclass, field

from feller.app.config import ADAPTIVE, FitConfig
from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import default_delta
from feller.privacy.noise.grid_noise import Noise, make_noise


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """What a person asks of privacy."""

    epsilon: float | None = None
    """To be spent; noise is chosen so that the planned steps spend it."""
    delta: float | None = None
    """Chance that the guarantee does not cover; by default min(1e-5, 1 / n^1.1)."""
    noise: float | None = None
    """Noise of the gradients in clip norms, instead of epsilon."""
    stop_at_epsilon: float | None = None
    """Epsilon before which training stops, with `noise`."""
    clip: float = 1.0
    """Longest gradient of one row; of the first step where it adapts."""
    adaptive: bool = False
    """Whether the clip follows the middle of the lengths, by a noisy count that is paid for."""
    unsafe_seed: int | None = None
    """Seed from which anybody can tell the noise, for tests; without one it comes from the system."""
    key: bytes | None = field(default=None, repr=False)
    """Secret of several processes, by which they all draw the same noise; it is written nowhere."""

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise is None):
            found = "neither" if self.noise is None else "both"
            raise UsageError(
                "--epsilon, or --noise with --stop-at-epsilon", found, "Give one of both", argument="epsilon"
            )
        if self.epsilon is not None and self.stop_at_epsilon is not None:
            raise UsageError(
                "goes with --noise; --epsilon alone is spent by the planned steps", argument="stop_at_epsilon"
            )
        if self.noise is not None and self.stop_at_epsilon is None:
            raise UsageError("needs --stop-at-epsilon, which says when to stop", argument="noise")
        positive = {
            "epsilon": self.epsilon,
            "noise": self.noise,
            "stop_at_epsilon": self.stop_at_epsilon,
            "clip": self.clip,
        }
        for name, value in positive.items():
            check_number(name, value, gt=0, lt=math.inf)

    @property
    def max_epsilon(self) -> float:
        """Epsilon that may be spent."""
        return self.epsilon if self.epsilon is not None else self.stop_at_epsilon or 0.0

    def noise_source(self, *name: object) -> Noise:
        """Return noise of a name, which must not come twice."""
        return make_noise(self.unsafe_seed, *name, key=self.key)

    def delta_for(self, n: int) -> float:
        """Return delta for n rows."""
        return default_delta(n) if self.delta is None else self.delta


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What was planned; a run's record holds it."""

    epsilon: float
    """That is never spent more than."""
    delta: float
    n: int
    """Rows that are learned from, which is taken for public."""
    sigma: float
    """Noise of the gradients, in clip norms."""
    clip: float
    """Longest gradient of one row; of the first step where it adapts."""
    adaptive: bool = False
    """Whether the clip follows the middle of the lengths."""
    batch: int
    """Rows of a step on average: each is in it with the chance batch / n."""
    steps: int
    """At most."""
    by_noise: bool = False
    """Whether the noise was given, and not chosen for epsilon."""
    unsafe_seed: int | None = None
    """Seed from which anybody can tell the noise; None where nobody can."""

    @property
    def step(self) -> PoissonSubsampledGaussian:
        """What one step costs."""
        return PoissonSubsampledGaussian("training", self.sigma, self.batch / self.n, 1)


@dataclass(frozen=True, kw_only=True)
class ClosedFormBudget:
    """What was planned for rows that are counted and not trained on; a run's record holds it."""

    epsilon: float
    """That is never spent more than."""
    delta: float
    n: int
    """Rows that are counted, which is taken for public."""
    rho: float
    """What the counts may cost, in zero-concentrated privacy."""
    unsafe_seed: int | None = None
    """Seed from which anybody can tell the noise; None where nobody can."""

    def __post_init__(self) -> None:
        check_number("rho", self.rho, gt=0, lt=math.inf)


def privacy_of(config: FitConfig) -> PrivacyConfig | None:
    """Return the privacy that a fit is asked for; None where none is.

    Raises:
        UsageError: If what is asked for does not go together.
    """
    options = config.privacy
    options_set = (
        options.epsilon,
        options.delta,
        options.noise,
        options.stop_at_epsilon,
        options.clip,
        options.unsafe_seed,
    )
    if all(value is None for value in options_set):
        return None
    clip = _number("--clip is a length such as 1", options.clip, ADAPTIVE)
    return PrivacyConfig(
        epsilon=options.epsilon,
        delta=_number("--delta is a chance such as 1e-6", options.delta, "auto"),
        noise=options.noise,
        stop_at_epsilon=options.stop_at_epsilon,
        clip=1.0 if clip is None else clip,
        adaptive=options.clip == ADAPTIVE,
        unsafe_seed=options.unsafe_seed,
    )


def n_tracked_rows(config: FitConfig) -> int:
    """Return of how many rows a private training is to keep account.

    Raises:
        UsageError: If what is asked for is no number.
    """
    audit = config.privacy.audit
    if not audit:
        return 0
    kind, _, count = audit[0].partition("=")
    if len(audit) > 1 or kind != "fisher" or not count.isdecimal() or int(count) < 1:
        raise UsageError("fisher=ROWS, such as fisher=64", " ".join(audit), argument="audit")
    return int(count)


def _number(what: str, value: float | str | None, word: str) -> float | None:
    """Return a number; None where there is nothing, or a word that stands for none."""
    if value is None or value == word:
        return None
    try:
        return float(value)
    except ValueError as error:
        raise UsageError(f"{what}, or {word}", found=repr(value)) from error
