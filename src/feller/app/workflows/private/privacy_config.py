"""Privacy options of a fit, and the guarantee planned from them."""

import math
from dataclasses import dataclass, field

from feller.app.config import FitConfig
from feller.app.option_groups import ADAPTIVE, AUTO
from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import default_delta
from feller.privacy.noise.banded_matrix import MAX_BANDS, BandedToeplitz
from feller.privacy.noise.grid_noise import Noise, make_noise


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """Privacy options of a fit."""

    epsilon: float | None = None
    """Privacy budget epsilon; the noise is calibrated so that the planned number of steps spends this budget."""
    delta: float | None = None
    """Delta of the guarantee; None for min(1e-5, 1 / n^1.1) with n rows."""
    noise: float | None = None
    """Noise multiplier of DP-SGD, if it is given instead of epsilon."""
    stop_at_epsilon: float | None = None
    """Epsilon at which training stops if `noise` is given."""
    clip: float = 1.0
    """Per-example gradient clipping norm; for an adaptive norm, its initial value."""
    adaptive: bool = False
    """True if the clipping norm tracks the noisy median gradient norm."""
    bands: int | None = 1
    """Number of steps over which the noise is correlated; 1 for independent noise, None for the number with the least
    noise of the gradient sums."""
    unsafe_seed: int | None = None
    """Seed of reproducible noise, for tests only: anyone who knows the seed can subtract the noise. None for secret
    noise."""
    key: bytes | None = field(default=None, repr=False)
    """Shared secret from which several processes draw the same noise; never written to disk."""

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise is None):
            found = "neither" if self.noise is None else "both"
            raise UsageError(
                "either --epsilon, or --noise with --stop-at-epsilon", found, "Set one of the two", argument="epsilon"
            )
        if self.epsilon is not None and self.stop_at_epsilon is not None:
            raise UsageError(
                "requires --noise; with --epsilon, training ends after the planned steps", argument="stop_at_epsilon"
            )
        if self.noise is not None and self.stop_at_epsilon is None:
            raise UsageError("requires --stop-at-epsilon, the epsilon at which training stops", argument="noise")
        positive = {
            "epsilon": self.epsilon,
            "noise": self.noise,
            "stop_at_epsilon": self.stop_at_epsilon,
            "clip": self.clip,
        }
        for name, value in positive.items():
            check_number(name, value, gt=0, lt=math.inf)
        check_number("bands", self.bands, ge=1, le=MAX_BANDS)

    @property
    def max_epsilon(self) -> float:
        """Maximum epsilon of the run."""
        return self.epsilon if self.epsilon is not None else self.stop_at_epsilon or 0.0

    def noise_source(self, *name: object) -> Noise:
        """Return the noise source for the purpose `name`; each name must be used only once."""
        return make_noise(self.unsafe_seed, *name, key=self.key)

    def delta_for(self, n: int) -> float:
        """Return the delta of the guarantee for n rows."""
        return default_delta(n) if self.delta is None else self.delta


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """Planned guarantee of DP-SGD training, recorded in the run."""

    epsilon: float
    """Maximum epsilon of the run."""
    delta: float
    n: int
    """Number of training rows, which is public."""
    sigma: float
    """Noise multiplier."""
    clip: float
    """Per-example gradient clipping norm; for an adaptive norm, its initial value."""
    adaptive: bool = False
    """True if the clipping norm tracks the noisy median gradient norm."""
    batch: int
    """Expected batch size; the sampling rate is batch / n."""
    steps: int
    """Maximum number of steps."""
    by_noise: bool = False
    """True if the noise multiplier was given instead of epsilon."""
    unsafe_seed: int | None = None
    """Seed of the noise; None for secret noise."""
    correlation: BandedToeplitz = BandedToeplitz()  # noqa: RUF009 - frozen; a factory would look like a required field
    """Matrix that correlates the noise of the steps; the rows belong to as many groups, which take turns, as it has
    bands."""

    @property
    def bands(self) -> int:
        """Number of bands of the noise; 1 for independent noise."""
        return self.correlation.bands

    @property
    def step(self) -> PoissonSubsampledGaussian:
        """DP event of one step."""
        return PoissonSubsampledGaussian("training", self.sigma, self.batch / self.n, 1, self.bands)


@dataclass(frozen=True, kw_only=True)
class ClosedFormBudget:
    """Planned budget of a one-shot release, which replaces DP-SGD training; recorded in the run."""

    epsilon: float
    """Maximum epsilon of the run."""
    delta: float
    n: int
    """Number of rows, which is public."""
    rho: float
    """zCDP budget of the release."""
    unsafe_seed: int | None = None
    """Seed of the noise; None for secret noise."""

    def __post_init__(self) -> None:
        check_number("rho", self.rho, gt=0, lt=math.inf)


def privacy_of(config: FitConfig) -> PrivacyConfig | None:
    """Return the privacy options of a fit; None if the fit is not private.

    Raises:
        UsageError: If privacy options conflict, or a value is not a number.
    """
    options = config.privacy
    values = (options.epsilon, options.delta, options.noise, options.stop_at_epsilon, options.clip, options.unsafe_seed)
    if all(value is None for value in (*values, options.bands)):
        return None
    if config.data_loading.condition:
        raise UsageError(
            argument="condition",
            expected="a fit without privacy options",
            found="--epsilon or --noise",
            remedy="Fit a table without --condition: its samples take any column with --given",
        )
    clip = _number("--clip must be a clipping norm, for example 1", options.clip, ADAPTIVE)
    return PrivacyConfig(
        epsilon=options.epsilon,
        delta=_number("--delta must be a probability, for example 1e-6", options.delta, AUTO),
        noise=options.noise,
        stop_at_epsilon=options.stop_at_epsilon,
        clip=1.0 if clip is None else clip,
        adaptive=options.clip == ADAPTIVE,
        bands=_bands(options.bands, is_tracked=bool(options.audit)),
        unsafe_seed=options.unsafe_seed,
    )


def _bands(option: float | str | None, *, is_tracked: bool) -> int | None:
    """Return the number of bands of an option, or None for `auto`.

    Raises:
        UsageError: If it is not a whole number, or if rows are tracked and the noise is correlated.
    """
    number = _number("--bands must be a number of steps, for example 4", option, AUTO)
    if option is None or number == 1:
        return 1
    if number is not None and (number < 1 or number != int(number)):
        raise UsageError("a whole number of at least 1, or auto", f"{number:g}", argument="bands")
    if is_tracked:
        raise UsageError(
            "independent noise, which the tracked Fisher information loss assumes",
            str(option),
            "Omit --bands or --audit",
            argument="bands",
        )
    return None if number is None else int(number)


def n_tracked_rows(config: FitConfig) -> int:
    """Return the number of rows whose Fisher information loss is tracked.

    Raises:
        UsageError: If the option is not `fisher=ROWS`.
    """
    audit = config.privacy.audit
    if not audit:
        return 0
    method, _, count = audit[0].partition("=")
    if len(audit) > 1 or method != "fisher" or not count.isdecimal() or int(count) < 1:
        raise UsageError("fisher=ROWS, for example fisher=64", " ".join(audit), argument="audit")
    return int(count)


def _number(option: str, value: float | str | None, keyword: str) -> float | None:
    """Parse the number of an option; return None for None or for `keyword`."""
    if value is None or value == keyword:
        return None
    try:
        return float(value)
    except ValueError as error:
        raise UsageError(f"{option}, or {keyword}", found=repr(value)) from error
