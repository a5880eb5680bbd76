"""What the network of a path of tokens answers."""

import abc
from dataclasses import dataclass

from torch import Tensor

from feller.paths.discrete.token_distribution import TokenLaw


class Answer(abc.ABC):
    """What the logits of the network mean. Implement one method to add a kind."""

    @abc.abstractmethod
    def inform(self, path: TokenLaw, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits [m, K] of the posterior of x_1 given the whole state."""


@dataclass(frozen=True)
class Posterior(Answer):
    """The law of x_1 given the whole state."""

    def inform(self, path: TokenLaw, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the logits as they are."""
        return logits


@dataclass(frozen=True)
class Cavity(Answer):
    """The law of x_1 given all tokens but this one, whose likelihood log p_t(x_t | x_1) the path adds."""

    def inform(self, path: TokenLaw, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Add the likelihood of what is there."""
        return path.weigh(logits, x_t, t)
