"""Jump rates (probability velocities) of a token for a given probability path.

Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487: many rates have the same
marginals; which are optimal depends on the cost.
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
"""Token ids, [m]."""
Reals = Float[Tensor, " m"]
"""One real value per token, such as its time, [m]."""
Logits = Float[Tensor, "m K"]
"""Logits or probabilities over the K tokens of the data, [m, K]."""
LogLaws = Float[Tensor, "m S"]
"""Log probabilities or rates of all S tokens, [m, S]; S is K, or K + 1 with a mask token."""
CHUNK_SIZE = 2**22
"""Maximum number of entries of an array of rates; bounds the memory for many tokens with a large vocabulary."""


class Rates(abc.ABC):
    """Jump rates that generate a given probability path; subclasses implement `outgoing`.

    The distribution is given as log p and its `change`. With the time derivative of log p, results are rates per time;
    with its increment between two times, results are expected numbers of jumps. No jump leaves or reaches a token of
    probability 0.
    """

    @abc.abstractmethod
    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        """Return the jump rates from token x to every token; the rate to x itself is 0.

        Args:
            log_p: Log probability of every token.
            change: Time derivative of log p, or its increment between two times.
            x: Current token.
        """

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        """Return an upper bound on the sum of the rates from each token to all others; default: infinity."""
        return torch.full_like(log_p, torch.inf)

    def matrix(self, log_p: Float[Tensor, " S"], change: Float[Tensor, " S"]) -> Float[Tensor, "S S"]:
        """Return the rate matrix U[y, x] from x to y; each column sums to 0."""
        num_tokens = len(log_p)
        x = torch.arange(num_tokens, device=log_p.device)
        outgoing = self.outgoing(log_p.expand(num_tokens, num_tokens), change.expand(num_tokens, num_tokens), x)
        return outgoing.T - torch.diag(outgoing.sum(1))


def _at(values: Tensor, x: Tensor) -> Tensor:
    """Return values[i, x[i]] for each row i, [m, 1]."""
    return values.gather(1, x[:, None])


def _centred(log_p: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return p, and the change r of log p minus its mean under p.

    Then sum(p r) = 0: the total probability is conserved.
    """
    p = log_p.exp()
    change = torch.where(p > 0, change, 0.0)
    return p, change - (p * change).sum(1, keepdim=True)


@dataclass(frozen=True)
class KineticOptimalRates(Rates):
    """Kinetic-optimal rates p(y) [r(y) - r(x)]_+ from token x to y.

    Here p is the distribution of the token, r the time derivative of log p (or its increment over a step), and [.]_+
    the positive part. The kinetic energy of these rates is the Fisher information of the path with respect to time.
    """

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p = log_p.exp()
        change = torch.where(p > 0, change, 0.0)
        return p * (change - _at(change, x)).relu() * (_at(p, x) > 0)

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        change = torch.where(log_p.exp() > 0, change, 0.0)
        return change.amax(1, keepdim=True) - change


@dataclass(frozen=True)
class Tempered(Rates):
    """Tempered rates [tau(x) p'(y) - tau(y) p'(x)]_+ / p(x) from x to y, with tau = softmax(s log p).

    Here p is the distribution of the token, p' its time derivative (or increment over a step), and [.]_+ the positive
    part. The exponent `s` weights the tokens by their probability: s = 1 gives the kinetic-optimal rates. s = 0 weights
    all tokens of positive probability equally (Campbell et al. 2024, arXiv 2402.04997). s > 1 routes jumps through the
    mode.
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
        """Return tau / p, clamped to a finite value to avoid infinity times zero."""
        return (log_tau - log_p).clamp(max=math.log(torch.finfo(log_p.dtype).max) - 10).exp()

    def _log_tau(self, log_p: Tensor) -> Tensor:
        return torch.where(log_p.exp() > 0, self.s * log_p, -torch.inf).log_softmax(1)


@dataclass(frozen=True)
class FewestJumps(Rates):
    """Rates with the fewest jumps: [p'(y)]_+ [p'(x)]_- / (p(x) sum of [p']_+) from x to y.

    Here p is the distribution of the token, p' its time derivative (or increment over a step), and [.]_+ and [.]_- are
    the positive and the negative part. The distribution of the destination y does not depend on x.
    """

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        p, change = _centred(log_p, change)
        gain = (p * change).relu()
        destination_probs = gain / gain.sum(1, keepdim=True).clamp(min=torch.finfo(gain.dtype).tiny)
        return (-_at(change, x)).relu() * destination_probs * (_at(p, x) > 0)

    def max_outgoing(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        return (-_centred(log_p, change)[1]).relu()


@dataclass(frozen=True)
class LeastEnergy(Rates):
    """Rates of minimal kinetic energy, where a jump from token x to y costs multiples[y][x] / p(y).

    If all multiples are 1, the rates are kinetic-optimal. Each distribution p requires the solution of a linear system.
    """

    multiples: tuple[tuple[float, ...], ...]
    """Positive, symmetric factors of the jump costs between tokens; the diagonal is ignored."""

    def __post_init__(self) -> None:
        num_tokens = len(self.multiples)
        if any(len(row) != num_tokens for row in self.multiples):
            raise UsageError(
                f"{num_tokens} rows of {num_tokens} multiples",
                f"rows of lengths {sorted({len(row) for row in self.multiples})}",
            )
        for y in range(num_tokens):
            for x in range(y):
                forward, backward = self.multiples[y][x], self.multiples[x][y]
                if not forward > 0 or not backward > 0:
                    raise UsageError(
                        "positive values",
                        f"{min(forward, backward):g} between {y} and {x}",
                        "Use a large value to suppress a jump",
                        argument="multiples",
                    )
                if abs(forward - backward) > 1e-9 * forward:
                    raise UsageError(
                        "symmetric values",
                        f"[{y}][{x}] = {forward:g} and [{x}][{y}] = {backward:g}",
                        "Use one value for both directions",
                        argument="multiples",
                    )

    @functools.cached_property
    def _inverse_multiples(self) -> Tensor:
        """Elementwise inverse of the multiples, 0 on the diagonal."""
        return (1 / torch.tensor(self.multiples, dtype=torch.float64).fill_diagonal_(1.0)).fill_diagonal_(0.0)

    def potential(self, log_p: LogLaws, change: LogLaws) -> LogLaws:
        """Return the mean-zero potential f: the flow from x to y is [f(y) - f(x)]_+ p(y) p(x) / multiples[y][x]."""
        if log_p.shape[1] != len(self.multiples):
            raise UsageError(f"a distribution over {len(self.multiples)} tokens, as in `multiples`", log_p.shape[1])
        p, change = _centred(log_p.double(), change.double())
        size = max(1, CHUNK_SIZE // self._inverse_multiples.numel())
        return torch.cat([self._solve(*chunk) for chunk in zip(p.split(size), change.split(size), strict=True)])

    def _solve(self, p: Tensor, change: Tensor) -> Tensor:
        """Return the mean-zero potential f that solves the graph Laplacian of the jump costs for a change of log p.

        The equations are scaled by sqrt(p), so that they are well conditioned also if some probabilities are small.
        """
        sqrt_p, inverse_multiples = p.sqrt(), self._inverse_multiples.to(p.device)
        outer = sqrt_p[:, :, None] * sqrt_p[:, None]
        laplacian = torch.diag_embed(p @ inverse_multiples) - outer * inverse_multiples + outer
        scaled = torch.linalg.solve(laplacian, sqrt_p * change)
        f = torch.where(sqrt_p > 0, scaled / sqrt_p, 0.0)
        return f - f.mean(1, keepdim=True)

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        f = self.potential(log_p, change)
        p = log_p.double().exp()
        flow = (f - _at(f, x)).relu() * p * self._inverse_multiples.to(p.device)[x]
        return torch.where(_at(p, x) > 0, flow, 0.0).to(log_p.dtype)


@dataclass(frozen=True)
class Reversal(Rates):
    """Rates of the reversed noising chain, for mixture paths whose source has full support.

    The noising chain goes from the data to the source: it replaces tokens by source tokens. Given the data, a token
    jumps more often than with other rates: also from the data token to wrong tokens, and from one wrong token to
    another. In return, the likelihood bound is tight for an exact posterior, and a step of any length is exact given
    the data (the posterior of D3PM: Austin et al. 2021, arXiv 2107.03006).
    """

    def outgoing(self, log_p: LogLaws, change: LogLaws, x: Ids) -> LogLaws:
        """Raise an error, because the rates depend on the noising chain and not only on the marginals.

        Raises:
            UsageError: On every call; `Mixture` computes the rates from its source and schedule.
        """
        raise UsageError(
            "Reversal() requires a Mixture path without ReversibleCorrector", remedy="Use KineticOptimalRates()"
        )
