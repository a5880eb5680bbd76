"""Velocities of one token: how mass moves along a path of laws that is given.

Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487: many rates have the same
marginals, and those that cost the least depend on the cost.
"""

import abc
import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError

Ids = Int[Tensor, " m"]
"""Symbols of some tokens, [m]."""
Reals = Float[Tensor, " m"]
"""A number for each, such as its time, [m]."""
Logits = Float[Tensor, "m K"]
"""What is said of the K symbols that data may have, for each token."""
LogLaws = Float[Tensor, "m S"]
"""What is said of all symbols, K or with a mask K + 1, for each token."""
CHUNK_SIZE = 2**22
"""Numbers in one array; memory does not grow with tokens times symbols."""


class Rates(abc.ABC):
    """Rates of the jumps that carry a law along. Implement one method to add a kind.

    All take the law as log p and its `change`: the derivative of log p gives rates per time, its increment between two
    times the expected numbers of jumps. A symbol without mass is neither left nor reached.
    """

    @abc.abstractmethod
    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        """Return the rates from x to every symbol, 0 to x itself."""

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        """Return what the total rate out of each symbol does not exceed; a kind that knows no number says infinity."""
        return torch.full_like(log_p, torch.inf)

    def matrix(self, log_p: Float[Tensor, " S"], change: Float[Tensor, " S"]) -> Float[Tensor, "S S"]:
        """Return all rates U[y, x] from x to y; each column sums to 0."""
        size = len(log_p)
        x = torch.arange(size, device=log_p.device)
        outward = self.outgoing(log_p.expand(size, size), change.expand(size, size), x)
        return outward.T - torch.diag(outward.sum(1))


def _at(values: Tensor, x: Tensor) -> Tensor:
    """Return the value at each row's own symbol, [m, 1]."""
    return values.gather(1, x[:, None])


def _centred(log_p: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return p and the change of log p that keeps their sum, which an increment between two times does not."""
    p = log_p.exp()
    change = torch.where(p > 0, change, 0.0)
    return p, change - (p * change).sum(1, keepdim=True)


@dataclass(frozen=True)
class KineticOptimalRates(Rates):
    """p(y) [r(y) - r(x)]_+ with r the change of log p: the least kinetic energy, the Fisher information of the path."""

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p = log_p.exp()
        change = torch.where(p > 0, change, 0.0)
        return p * (change - _at(change, x)).relu() * (_at(p, x) > 0)

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        change = torch.where(log_p.exp() > 0, change, 0.0)
        return change.amax(1, keepdim=True) - change


@dataclass(frozen=True)
class Tempered(Rates):
    """[tau(x) p'(y) - tau(y) p'(x)]_+ / p(x) with tau = softmax(s log p).

    s = 1 is the kinetic optimum, s = 0 weighs all symbols that have mass alike (Campbell et al. 2024,
    arXiv 2402.04997), s > 1 goes through the mode.
    """

    s: float = 0.0

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p, change = _centred(log_p, change)
        log_tau = self._log_tau(log_p)
        from_x = self._over(_at(log_tau, x), _at(log_p, x))
        flow = (from_x * p * change - log_tau.exp() * _at(change, x)).relu()
        return torch.where(_at(p, x) > 0, flow, 0.0).scatter(1, x[:, None], 0.0)

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        p, change = _centred(log_p, change)
        gain = (p * change).relu().sum(1, keepdim=True)
        return torch.where(p > 0, self._over(self._log_tau(log_p), log_p) * gain + (-change).relu(), 0.0)

    def _over(self, log_tau: Tensor, log_p: Tensor) -> Tensor:
        """Return tau / p, but a number: an infinity times no gain would be none."""
        return (log_tau - log_p).clamp(max=math.log(torch.finfo(log_p.dtype).max) - 10).exp()

    def _log_tau(self, log_p: Tensor) -> Tensor:
        return torch.where(log_p.exp() > 0, self.s * log_p, -torch.inf).log_softmax(1)


@dataclass(frozen=True)
class FewestJumps(Rates):
    """[p'(y)]_+ [p'(x)]_- / (p(x) sum of [p']_+): no rates move less mass, and where it lands does not depend on x."""

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p, change = _centred(log_p, change)
        gain = (p * change).relu()
        destination_probs = gain / gain.sum(1, keepdim=True).clamp(min=torch.finfo(gain.dtype).tiny)
        return (-_at(change, x)).relu() * destination_probs * (_at(p, x) > 0)

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        return (-_centred(log_p, change)[1]).relu()


@dataclass(frozen=True)
class LeastEnergy(Rates):
    """The least energy when a jump from x to y costs w(y, x) = multiples[y][x] / p(y), by one linear solve per law.

    With all multiples 1 it is the kinetic optimum.
    """

    multiples: tuple[tuple[float, ...], ...]
    """Positive and symmetric; what is on the diagonal does not matter."""

    def __post_init__(self) -> None:
        size = len(self.multiples)
        if any(len(row) != size for row in self.multiples):
            raise UsageError(
                f"{size} rows of {size} multiples", f"rows of {sorted({len(row) for row in self.multiples})}"
            )
        for y in range(size):
            for x in range(y):
                there, back = self.multiples[y][x], self.multiples[x][y]
                if not there > 0 or not back > 0:
                    raise UsageError(
                        "positive",
                        f"{min(there, back):g} between {y} and {x}",
                        "A jump that must not happen costs much, not less than nothing",
                        argument="multiples",
                    )
                if abs(there - back) > 1e-9 * there:
                    raise UsageError(
                        "symmetric",
                        f"[{y}][{x}] = {there:g} and [{x}][{y}] = {back:g}",
                        "A one-way cost has no potential",
                        argument="multiples",
                    )

    @functools.cached_property
    def _inverse_multiples(self) -> Tensor:
        """Return one over the multiples, 0 on the diagonal."""
        return (1 / torch.tensor(self.multiples, dtype=torch.float64).fill_diagonal_(1.0)).fill_diagonal_(0.0)

    def potential(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        """Return f with the flow [f(y) - f(x)]_+ p(y) p(x) / multiples[y][x], mean zero."""
        if log_p.shape[1] != len(self.multiples):
            raise UsageError(f"a law of {len(self.multiples)} symbols, as many as multiples", log_p.shape[1])
        p, change = _centred(log_p.double(), change.double())
        size = max(1, CHUNK_SIZE // self._inverse_multiples.numel())
        return torch.cat([self._solve(*part) for part in zip(p.split(size), change.split(size), strict=True)])

    def _solve(self, p: Tensor, change: Tensor) -> Tensor:
        """Solve with the graph Laplacian between square roots of p, which scale it well and span its null space."""
        root, inverse_multiples = p.sqrt(), self._inverse_multiples.to(p.device)
        across = root[:, :, None] * root[:, None]
        laplacian = torch.diag_embed(p @ inverse_multiples) - across * inverse_multiples + across
        scaled = torch.linalg.solve(laplacian, root * change)
        f = torch.where(root > 0, scaled / root, 0.0)
        return f - f.mean(1, keepdim=True)

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        f = self.potential(log_p, change)
        p = log_p.double().exp()
        flow = (f - _at(f, x)).relu() * p * self._inverse_multiples.to(p.device)[x]
        return torch.where(_at(p, x) > 0, flow, 0.0).to(log_p.dtype)


@dataclass(frozen=True)
class Reversal(Rates):
    """The time reversal of the noising chain, for mixture paths whose source has mass on every symbol.

    Given the data it jumps more often than the others: also from the data to wrong symbols, and between those. In
    return the bound on its likelihood is tight for an exact posterior, and a step of any length is exact given the
    data (the posterior of D3PM: Austin et al. 2021, arXiv 2107.03006).
    """

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        """Refuse: the rates depend on the noising chain, not only on the marginals.

        Raises:
            UsageError: Always; `Mixture` computes them from its source and schedule.
        """
        raise UsageError("Reversal() needs a Mixture path, without ReversibleCorrector", remedy="Use KineticOptimal()")
