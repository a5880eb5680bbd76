"""Distribution of a token given the data, parameterizations of the posterior of x_1, and selection of tokens."""

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
    """Sample a number uniformly from [0, 1] for each True entry of a mask.

    A number depends only on the example and on the rank of the entry among the example's True entries.
    """
    per_example = mask.reshape(len(mask), -1).sum(1)
    max_per_example = int(per_example.max())
    u = rng.uniform((len(mask), max_per_example), torch.float64, mask.device)
    return u[torch.arange(max_per_example, device=mask.device) < per_example[:, None]]


def predictions_at(prediction: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from flat indices of entries of x to their predictions, without copies of expanded tensors."""
    if prediction.is_contiguous():
        flat = prediction.flatten(0, -2)
        return lambda index: flat.index_select(0, index)
    return lambda index: prediction[torch.unravel_index(index, x.shape)]


def times_at(t: Times, index: Tensor, x: Tensor) -> Tensor:
    """Return the time of each entry of the state x whose flat index is in `index`, from one time per example."""
    if t.stride(0) == 0:
        return t[:1].expand(len(index))
    return t[index // max(1, x[0].numel())]


def chunks(size: int, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split several tensors along axis 0 into chunks of at most `size` rows, and yield the chunks of all tensors."""
    if len(rows[0]) <= size:
        return iter([rows])
    return zip(*(row.split(size) for row in rows), strict=True)


def unique_times(t: Reals) -> tuple[Float[Tensor, " n"], Ids]:
    """Return the distinct times, and the index of each row's time among them.

    A single time broadcast by `expand`, as passed by solvers, is recognized by its stride. Inside a transformation such
    as `vmap`, values cannot be compared, so all rows count as distinct.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(t) or t.device.type == "meta":
        return t, torch.arange(len(t), device=t.device)
    if len(t) and t.stride(0) == 0:
        return t[:1], torch.zeros(len(t), dtype=torch.long, device=t.device)
    return t.unique(return_inverse=True)


class TokenDistribution(abc.ABC):
    """Distribution p_t(x | x_1) of one token; subclasses implement `log_probabilities`."""

    @abc.abstractmethod
    def log_probabilities(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        """Return log p_t(x | x_1) of all tokens x: the K data tokens and, if there is one, the mask token.

        Args:
            x_1: Data tokens.
            t: Times.
            vocab_size: Vocabulary size K; required by paths that do not define it.
        """

    def time_derivative(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        """Return d/dt log p_t(x | x_1); default: automatic differentiation."""
        t = t.contiguous()
        return torch.func.jvp(lambda t: self.log_probabilities(x_1, t, vocab_size), (t,), (torch.ones_like(t),))[1]

    def corrupt(self, x_1: Ids, t: Reals, u: Float64[Tensor, " m"], vocab_size: int | None = None) -> Ids:
        """Sample x_t given x_1, by inverting the CDF at uniform numbers u."""
        return categorical(self.log_probabilities(x_1, t, vocab_size).double().exp(), u)

    def add_log_likelihood(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Add log p_t(x_t | x_1) for every x_1 to logits."""
        count = logits.shape[1]
        times, time_index = unique_times(t)
        tokens = torch.arange(count, device=x_t.device)
        log_likelihoods = []
        for chunk in torch.arange(len(times), device=t.device).split(max(1, CHUNK_SIZE // count**2)):
            chunk_times = times[chunk].repeat_interleave(count)
            log_likelihoods.append(
                self.log_probabilities(tokens.repeat(len(chunk)), chunk_times, count).unflatten(0, (len(chunk), count))
            )
        return logits + torch.cat(log_likelihoods)[time_index, :, x_t].to(logits.dtype)


class Parameterization(abc.ABC):
    """Definition of what the network's logits predict; subclasses implement `posterior_logits`."""

    @abc.abstractmethod
    def posterior_logits(self, path: TokenDistribution, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits [m, K] of the posterior of x_1 given the whole state."""


@dataclass(frozen=True)
class Posterior(Parameterization):
    """Logits of the posterior of x_1 given the whole state."""

    def posterior_logits(self, path: TokenDistribution, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return logits


@dataclass(frozen=True)
class LeaveOneOut(Parameterization):
    """Logits of a token's x_1 given all other tokens of x_t; the path adds log p_t(x_t | x_1) of the token itself."""

    def posterior_logits(self, path: TokenDistribution, logits: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return path.add_log_likelihood(logits, x_t, t)
