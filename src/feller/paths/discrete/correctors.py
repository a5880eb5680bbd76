"""Jumps that keep the marginals and mend what a network got wrong before.

Source: Shaul et al. 2024, arXiv 2412.03487: any rates v with sum_x v(y, x) p_t(x) = 0 may be added. They cost accuracy
per step and pay where the network is imperfect, if at all.
"""

import abc
from dataclasses import dataclass

import torch

from feller.core.errors import UsageError, check_number
from feller.paths.discrete.rates import Ids, LogLaws, Reals, _at
from feller.paths.discrete.token_distribution import TokenDistribution


class Corrector(abc.ABC):
    """Resamples tokens from the path's law given the data, adds rates to those of the path, or both."""

    @abc.abstractmethod
    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        """Return the expected number of resamplings between t and s of tokens whose data are x_1."""

    def extra_rates(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws | None:
        """Return what the rates from x gain; None for nothing."""
        return None

    def max_total_rate(self, log_p: LogLaws, change: LogLaws) -> LogLaws | float:
        """Return what the total of those rates does not exceed."""
        return 0.0


@dataclass(frozen=True)
class RenoiseCorrector(Corrector):
    """A fresh draw of the path's law given the data, so many times per unit of time."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        check_number("the rate of a corrector", self.rate, ge=0, lt=torch.inf)

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        return self.rate * (s - t)


@dataclass(frozen=True)
class LogOddsCorrector(Corrector):
    """As many fresh draws as the log of the odds of data against source rises, times eta; for mixture paths.

    It undoes and redoes eta times what the path does, at both ends for sure: Gat et al. 2024, arXiv 2407.15595, where
    1 + eta multiplies the forward rate and eta the backward one.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        check_number("eta of a corrector", self.eta, ge=0, lt=torch.inf)

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        scales = getattr(path, "alpha_sigma", None)
        if scales is None:
            name = type(path).__name__
            raise UsageError("LogOddsCorrector needs a mixture path", found=name, remedy="Use RenoiseCorrector")
        now, later = scales(t, x_1), scales(torch.full_like(t, s), x_1)
        rise = torch.as_tensor(later.alpha * now.sigma).log() - torch.as_tensor(later.sigma * now.alpha).log()
        return self.eta * rise if self.eta else torch.zeros_like(rise)


@dataclass(frozen=True)
class ReversibleCorrector(Corrector):
    """Rates eta p(y) abs(r(y) - r(x)) with r the change of log p: the kinetic optimum and its time reversal."""

    eta: float = 1.0

    def __post_init__(self) -> None:
        check_number("eta of a corrector", self.eta, ge=0, lt=torch.inf)

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        return torch.zeros_like(t)

    def extra_rates(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p = log_p.exp()
        change = torch.where(p > 0, change, 0.0)
        return self.eta * p * (change - _at(change, x)).abs() * (_at(p, x) > 0)

    def max_total_rate(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        change = torch.where(log_p.exp() > 0, change, 0.0)
        rise, fall = change.amax(1, keepdim=True) - change, change - change.amin(1, keepdim=True)
        return self.eta * torch.maximum(rise, fall)
