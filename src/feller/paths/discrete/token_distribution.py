"""The law of one token between source and data, given its data."""

import abc

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.core.rng import categorical
from feller.paths.discrete.rates import AT_ONCE
from feller.paths.discrete.rows import distinct


class TokenLaw(abc.ABC):
    """Laws p_t(x | x_1) of one token. Implement `log_probabilities` to add one."""

    @abc.abstractmethod
    def log_probabilities(
        self, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], count: int | None = None
    ) -> Float[Tensor, "m S"]:
        """Return log p_t(x | x_1) of all symbols x, which are K or, with a mask, K + 1.

        Args:
            x_1: Data.
            t: Times.
            count: K; needed by a path that does not know its alphabet.
        """

    def slope(self, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], count: int | None = None) -> Float[Tensor, "m S"]:
        """Return d/dt log p_t(x | x_1), by automatic differentiation unless a kind knows it in closed form."""
        t = t.contiguous()
        return torch.func.jvp(lambda t: self.log_probabilities(x_1, t, count), (t,), (torch.ones_like(t),))[1]

    def corrupt(
        self, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], u: Float64[Tensor, " m"], count: int | None = None
    ) -> Int[Tensor, " m"]:
        """Return x_t given x_1, where uniform numbers u meet the distribution function."""
        return categorical(self.log_probabilities(x_1, t, count).double().exp(), u)

    def weigh(
        self, logits: Float[Tensor, "m K"], x_t: Int[Tensor, " m"], t: Float[Tensor, " m"]
    ) -> Float[Tensor, "m K"]:
        """Add log p_t(x_t | x_1) for every x_1."""
        count = logits.shape[1]
        times, which = distinct(t)
        data = torch.arange(count, device=x_t.device)
        added = []
        for part in torch.arange(len(times), device=t.device).split(max(1, AT_ONCE // count**2)):
            some = times[part].repeat_interleave(count)
            added.append(self.log_probabilities(data.repeat(len(part)), some, count).unflatten(0, (len(part), count)))
        return logits + torch.cat(added)[which, :, x_t].to(logits.dtype)
