"""Bounds on the log probability of tokens, from the rates of a path and those that a network predicts.

A bound belongs to its path and its rates: with a perfect network it is tight for a mask source, and 0.5 nats too high
for a uniform one under the rates of least energy. So bounds of two paths say nothing about which is better.
Source: Shaul et al. 2024, "Flow matching with general discrete paths", arXiv 2412.03487.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from feller.draws import Draws
from feller.errors import UsageError
from feller.losses import GeneralisedKL
from feller.masking import mean_over_entries
from feller.paths import KineticOptimal, Mixture, Network, TokenPath
from feller.paths.path import Given
from feller.spaces import Space
from feller.tree import pad_right

EDGE = 1e-4
"""Share of the time at each end that is left out, where rates may be infinite."""
AT_ONCE = 2**22
"""Rates in one array."""


class Bound(abc.ABC):
    """Which rates are compared. Implement one method to add one."""

    @abc.abstractmethod
    def rows(
        self,
        path: TokenPath,
        logits: Float[Tensor, "m K"],
        x_1: Int[Tensor, " m"],
        x_t: Int[Tensor, " m"],
        t: Float[Tensor, " m"],
    ) -> Float[Tensor, " m"]:
        """Return the divergence per time of the conditional rates from the predicted ones, for each token."""


@dataclass(frozen=True)
class OwnRates(Bound):
    """The rates by which the path samples."""

    def rows(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Take the closed form of mixtures; else compare arrays of rates, which small alphabets afford."""
        if isinstance(path, Mixture) and isinstance(path.velocity, KineticOptimal):
            return GeneralisedKL(path.schedule).entries(path.inform(logits, x_t, t), x_1, x_t, t)
        count = logits.shape[-1]
        posterior = path.inform(logits, x_t, t).softmax(-1)
        return _divergence(path.conditional_rates(x_1, x_t, t, count), path.rates(posterior, x_t, t))


@dataclass(frozen=True)
class TimeReversal(Bound):
    """The rates of the noising chain run backwards, for mixtures whose source gives every symbol mass.

    With a perfect network, and one schedule for all symbols, this bound is tight, so that such sources can be compared
    with the mask.
    """

    def rows(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Sum the rates over the posterior in closed form, without an array of all pairs of symbols."""
        if not isinstance(path, Mixture):
            raise UsageError(f"time reversal is known for mixtures, got {type(path).__name__}; use OwnRates()")
        count = logits.shape[-1]
        truth = path.reversal_rates(x_1, x_t, t, count)
        posterior = path.inform(logits, x_t, t).softmax(-1)
        return _divergence(truth, path.mean_reversal_rates(posterior, x_t, t))


def _divergence(truth: Float[Tensor, "m K"], model: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """Return the generalised KL of rates; those that stay count nothing."""
    truth, model = truth.clamp(min=0), model.clamp(min=0)
    return (torch.xlogy(truth, truth) - torch.xlogy(truth, model) - truth + model).sum(-1)


def tightest(path: TokenPath) -> Bound:
    """Return the bound that is nearest to the truth for a path."""
    noisy = isinstance(path, Mixture) and path.source is not None and path.source.everywhere
    return TimeReversal() if noisy else OwnRates()


@torch.no_grad()
def token_bound(
    path: TokenPath,
    space: Space,
    network: Network,
    x_1: Int[Tensor, " b *d"],
    given: Given,
    draws: Draws,
    *,
    kind: Bound,
    times: int = 32,
) -> Float[Tensor, " b"]:
    """Return an upper bound on -log p(x_1), in nats, summed over the valid tokens; unbiased but for the first `EDGE`.

    At the other end the last step counts, which draws the data from what is left: some paths leave much to it.

    Args:
        path: What the network was trained on.
        space: Whose reference is the source.
        network: Answers with logits.
        x_1: Data.
        given: Conditions; `valid` says which tokens count.
        draws: Source of times, noise and source states.
        kind: Which rates are compared.
        times: Network calls, and one more at the end; each example has a comb of so many times, with its own offset.

    Raises:
        UsageError: If the path has no such rates.
    """
    offset = draws.at("offset").uniform((len(x_1),), torch.float64, x_1.device)
    total = torch.zeros(len(x_1), dtype=torch.float64, device=x_1.device)
    valid, span = given.get("valid"), 1 - 2 * EDGE
    counted = x_1[0].numel() if valid is None else valid.sum(1)
    for i in range(times):
        here = draws.named("time", i)
        t = EDGE + span * (i + offset) / times
        x_t = path.sample(space.reference(len(x_1), here.at("source"), x_1.device), x_1, t, here.at("path"))
        logits = network(x_t, t.float(), given)
        each = _tokens(path, logits, x_1, x_t, t, kind.rows)
        total = total + span / times * counted * mean_over_entries(each, valid)
    t = torch.full_like(offset, 1 - EDGE)
    here = draws.named("last")
    x_t = path.sample(space.reference(len(x_1), here.at("source"), x_1.device), x_1, t, here.at("path"))
    last = _tokens(path, network(x_t, t.float(), given), x_1, x_t, t, _drawn)
    return total + counted * mean_over_entries(last, valid)


def _drawn(path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return -log of the chance that the last step draws the data."""
    return functional.cross_entropy(path.inform(logits, x_t, t), x_1, reduction="none")


def _tokens(
    path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, of_rows: Callable[..., Tensor]
) -> Tensor:
    """Return a number of each token, some rows at a time."""
    rows = (logits.flatten(0, -2), x_1.flatten(), x_t.flatten(), pad_right(t, x_1).expand(x_1.shape).flatten())
    size = max(1, AT_ONCE // logits.shape[-1])
    parts = [
        of_rows(path, some.double(), a, x, s)
        for some, a, x, s in zip(*(part.split(size) for part in rows), strict=True)
    ]
    return torch.cat(parts).reshape(x_1.shape)
