"""Correctors: extra jumps of tokens that keep the marginals of a path and correct earlier errors of the network.

Source: Shaul et al. 2024, arXiv 2412.03487: any rates v with sum_x v(y, x) p_t(x) = 0 may be added. They reduce the
accuracy per step, and help only if the network is imperfect.
"""

import abc
from dataclasses import dataclass

import torch

from feller.core.errors import UsageError, check_number
from feller.paths.discrete.rates import Ids, LogLaws, Reals, _at
from feller.paths.discrete.token_distribution import TokenDistribution


class Corrector(abc.ABC):
    """Corrector of a token path: resamples tokens from p_t(x | x_1) (renoising), adds extra jump rates, or both."""

    @abc.abstractmethod
    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        """Return how often, on average, tokens with data token x_1 are renoised between times t and s."""

    def extra_rates(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws | None:
        """Return extra jump rates from token x to every token, or None if the corrector adds no rates.

        `log_p` is the log distribution of the token, and `change` its time derivative or increment, as in `Rates`.
        """
        return None

    def max_total_rate(self, log_p: LogLaws, change: LogLaws) -> LogLaws | float:
        """Return an upper bound on the sum of the extra rates from each token to all others."""
        return 0.0


@dataclass(frozen=True)
class RenoiseCorrector(Corrector):
    """Corrector that resamples tokens from p_t(x | x_1) at a constant rate per unit of time."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        check_number("rate", self.rate, ge=0, lt=torch.inf)

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        return self.rate * (s - t)


@dataclass(frozen=True)
class LogOddsCorrector(Corrector):
    """Corrector for mixture paths that renoises at `eta` times the growth rate of log(alpha / sigma).

    log(alpha / sigma) is the log odds of the data token against a source token. `eta` is the strength of the corrector.
    It adds eta times the jumps of the path and their reversals: Gat et al. 2024, arXiv 2407.15595, where 1 + eta
    multiplies the forward rate and eta the backward rate.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        check_number("eta", self.eta, ge=0, lt=torch.inf)

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        alpha_sigma = getattr(path, "alpha_sigma", None)
        if alpha_sigma is None:
            name = type(path).__name__
            raise UsageError("LogOddsCorrector requires a mixture path", found=name, remedy="Use RenoiseCorrector")
        at_t, at_s = alpha_sigma(t, x_1), alpha_sigma(torch.full_like(t, s), x_1)
        log_odds_gain = torch.as_tensor(at_s.alpha * at_t.sigma).log() - torch.as_tensor(at_s.sigma * at_t.alpha).log()
        return self.eta * log_odds_gain if self.eta else torch.zeros_like(log_odds_gain)


@dataclass(frozen=True)
class ReversibleCorrector(Corrector):
    """Corrector that adds rates eta p(y) |r(y) - r(x)| from token x to y.

    Here p is the distribution of the token, and r the time derivative of log p, or its increment over a step. `eta` is
    the strength of the corrector: the rates are eta times the sum of the kinetic-optimal rates and their time reversal.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        check_number("eta", self.eta, ge=0, lt=torch.inf)

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        return torch.zeros_like(t)

    def extra_rates(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p = log_p.exp()
        change = torch.where(p > 0, change, 0.0)
        return self.eta * p * (change - _at(change, x)).abs() * (_at(p, x) > 0)

    def max_total_rate(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        change = torch.where(log_p.exp() > 0, change, 0.0)
        increase, decrease = change.amax(1, keepdim=True) - change, change - change.amin(1, keepdim=True)
        return self.eta * torch.maximum(increase, decrease)
