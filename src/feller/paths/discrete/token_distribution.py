"""Distribution of one token given the data, posteriors of x_1, and subsets of tokens."""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.rng import RandomStream, categorical
from feller.paths.discrete.rates import CHUNK_SIZE, Ids, Logits, LogLaws, Reals
from feller.paths.path import Times


def masked_uniform(rng: RandomStream, mask: Tensor) -> Float64[Tensor, " m"]:
    """Draw a uniform number for each mark, addressed by example and by rank of the mark within it."""
    per_example = mask.reshape(len(mask), -1).sum(1)
    max_per_example = int(per_example.max())
    u = rng.uniform((len(mask), max_per_example), torch.float64, mask.device)
    return u[torch.arange(max_per_example, device=mask.device) < per_example[:, None]]


def predictions_at(prediction: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return how to take the answers at flat places of a state; an expanded array is never laid out."""
    if prediction.is_contiguous():
        flat = prediction.flatten(0, -2)
        return lambda part: flat.index_select(0, part)
    return lambda part: prediction[torch.unravel_index(part, x.shape)]


def times_at(t: Times, index: Tensor, x: Tensor) -> Tensor:
    """Return the times at flat places of a state."""
    if t.stride(0) == 0:
        return t[:1].expand(len(index))
    return t[index // max(1, x[0].numel())]


def chunks(size: int, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield some rows of several tensors at a time."""
    if len(rows[0]) <= size:
        return iter([rows])
    return zip(*(row.split(size) for row in rows), strict=True)


def unique_times(t: Reals) -> tuple[Float[Tensor, " n"], Ids]:
    """Return the different times and which of them each row has.

    One expanded time, as solvers give it, is told by its stride; inside a transformation such as `vmap` a tensor has no
    values to compare, and all rows count as different.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(t) or t.device.type == "meta":
        return t, torch.arange(len(t), device=t.device)
    if len(t) and t.stride(0) == 0:
        return t[:1], torch.zeros(len(t), dtype=torch.long, device=t.device)
    return t.unique(return_inverse=True)


class TokenDistribution(abc.ABC):
    """Laws p_t(x | x_1) of one token. Implement `log_probabilities` to add one."""

    @abc.abstractmethod
    def log_probabilities(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        """Return log p_t(x | x_1) of all symbols x, which are K or, with a mask, K + 1.

        Args:
            x_1: Data.
            t: Times.
            vocab_size: K; needed by a path that does not know its alphabet.
        """

    def time_derivative(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        """Return d/dt log p_t(x | x_1), by automatic differentiation unless a kind knows it in closed form."""
        t = t.contiguous()
        return torch.func.jvp(lambda t: self.log_probabilities(x_1, t, vocab_size), (t,), (torch.ones_like(t),))[1]

    def corrupt(self, x_1: Ids, t: Reals, u: Float64[Tensor, " m"], vocab_size: int | None = None) -> Ids:
        """Return x_t given x_1, where uniform numbers u meet the distribution function."""
        return categorical(self.log_probabilities(x_1, t, vocab_size).double().exp(), u)

    def add_log_likelihood(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Add log p_t(x_t | x_1) for every x_1."""
        count = logits.shape[1]
        times, time_index = unique_times(t)
        data = torch.arange(count, device=x_t.device)
        added = []
        for part in torch.arange(len(times), device=t.device).split(max(1, CHUNK_SIZE // count**2)):
            some = times[part].repeat_interleave(count)
            added.append(self.log_probabilities(data.repeat(len(part)), some, count).unflatten(0, (len(part), count)))
        return logits + torch.cat(added)[time_index, :, x_t].to(logits.dtype)


class Parameterization(abc.ABC):
    """What the logits of the network mean. Implement one method to add a kind."""

    @abc.abstractmethod
    def posterior_logits(self, path: TokenDistribution, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits [m, K] of the posterior of x_1 given the whole state."""


@dataclass(frozen=True)
class Posterior(Parameterization):
    """The law of x_1 given the whole state."""

    def posterior_logits(self, path: TokenDistribution, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return logits


@dataclass(frozen=True)
class LeaveOneOut(Parameterization):
    """The law of x_1 given all tokens but this one, whose likelihood log p_t(x_t | x_1) the path adds."""

    def posterior_logits(self, path: TokenDistribution, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return path.add_log_likelihood(logits, x_t, t)
