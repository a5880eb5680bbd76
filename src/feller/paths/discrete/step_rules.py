"""What a step of finite length takes for the law and its change, given the data."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.paths.discrete.rates import Ids, LogLaws, Reals
from feller.paths.discrete.token_distribution import TokenDistribution

_LARGE = 1e4
"""Change of log p of a symbol that loses its last mass: surely left, but a number."""


class TokenStepRule(abc.ABC):
    """The law and its change in a step, from which rates make expected numbers of jumps. Implement one method."""

    @abc.abstractmethod
    def distribution_and_change(
        self, path: TokenDistribution, x_1: Ids, t: Reals, s: float, vocab_size: int
    ) -> tuple[LogLaws, LogLaws]:
        """Return log p of the data x_1 and the change of log p from t to s."""


def _log_probs_at_both(
    path: TokenDistribution, x_1: Tensor, t: Tensor, s: float, vocab_size: int
) -> tuple[Tensor, Tensor]:
    return path.log_probabilities(x_1, t, vocab_size), path.log_probabilities(x_1, torch.full_like(t, s), vocab_size)


def _change(now: Tensor, later: Tensor) -> Tensor:
    """Return the increment of log p: none without mass, and 2 for the first mass, twice its rise over its mean."""
    return (later - now).nan_to_num(nan=0.0, posinf=2.0, neginf=-_LARGE)


@dataclass(frozen=True)
class MidpointIncrement(TokenStepRule):
    """The increment of log p, and the law in the middle: the mean of both log p, for a metric path that of mid-beta.

    Three to six times more accurate in few steps than rates at the start times the step.
    """

    def distribution_and_change(
        self, path: TokenDistribution, x_1: Ids, t: Reals, s: float, vocab_size: int
    ) -> tuple[LogLaws, LogLaws]:
        now, later = _log_probs_at_both(path, x_1, t, s, vocab_size)
        born = now.isneginf() & ~later.isneginf()
        middle = torch.where(born, later - math.log(2), (now + later) / 2)
        return middle.log_softmax(1), _change(now, later)


@dataclass(frozen=True)
class ForwardIncrement(TokenStepRule):
    """The increment of log p, and the law at the start."""

    def distribution_and_change(
        self, path: TokenDistribution, x_1: Ids, t: Reals, s: float, vocab_size: int
    ) -> tuple[LogLaws, LogLaws]:
        now, later = _log_probs_at_both(path, x_1, t, s, vocab_size)
        return now, _change(now, later)
