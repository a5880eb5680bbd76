"""Each token is the data or still the source."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.draws import Draw, categorical
from feller.paths.path import Path
from feller.processes import Characteristics, Jumps
from feller.schedules import Linear, Schedule, check_convex
from feller.tree import pad_right

AT_ONCE = 2**22
"""Probabilities in one array while tokens land; memory does not grow with tokens times symbols."""


@dataclass(frozen=True)
class Mixture(Path):
    """Each token is the data with probability alpha_t, else still the source; alpha_t + sigma_t must be 1.

    The network answers with logits of x_1, [b, ..., K]. One token alone is exact at any step size.
    Source: Gat et al. 2024, "Discrete Flow Matching", arXiv 2407.15595.
    """

    schedule: Schedule = field(default_factory=Linear)

    def __post_init__(self) -> None:
        check_convex(self.schedule, "a mixture path")

    def sample(
        self, x_0: Int[Tensor, " b *d"], x_1: Int[Tensor, " b *d"], t: Float[Tensor, " b"], draw: Draw | None = None
    ) -> Int[Tensor, " b *d"]:
        """Flip one coin per token."""
        if draw is None:
            raise TypeError("a mixture path flips coins: pass `draw`, such as Draws(0).at('path')")
        alpha = pad_right(torch.as_tensor(self.schedule(t).alpha), x_1)
        return torch.where(draw.uniform(x_1.shape, t.dtype, x_1.device) < alpha, x_1, x_0)

    def target(
        self, x_t: Int[Tensor, " b *d"], x_0: Int[Tensor, " b *d"], x_1: Int[Tensor, " b *d"], t: Float[Tensor, " b"]
    ) -> Int[Tensor, " b *d"]:
        """Return the data."""
        return x_1

    def characteristics(
        self, prediction: Float[Tensor, "b *d K"], x_t: Int[Tensor, " b *d"], t: Float[Tensor, " b"]
    ) -> Characteristics:
        """Turn logits of x_1 into jumps to the data: no array of rates, a draw only for those that jump."""

        def hazard(s: float) -> Float[Tensor, " b *d"]:
            now, later = self.schedule(t).sigma, self.schedule(torch.full_like(t, s)).sigma
            decay = torch.as_tensor(now).log() - torch.as_tensor(later).log()
            return pad_right(decay.nan_to_num(nan=0.0, posinf=torch.inf), x_t).expand(x_t.shape)  # nan: all is data

        def land(s: float, which: Tensor, draw: Draw) -> Tensor:
            uniform = draw.uniform(which.shape, torch.float64, which.device)[which]
            places, size = which.nonzero(), max(1, AT_ONCE // prediction.shape[-1])
            landed = [  # in parts, since at the last step every token lands
                categorical(prediction[part.unbind(1)].double().softmax(-1), u)
                for part, u in zip(places.split(size), uniform.split(size), strict=True)
            ]
            return torch.cat(landed)

        return Characteristics(jumps=Jumps(hazard, land))

    def rates(self, posterior: Float[Tensor, "b K"], x_t: Int[Tensor, " b"], t: Float[Tensor, " b"]) -> Tensor:
        """Return the rates u(y, x_t) of one token as an array [b, K], for tests and bounds at small alphabets."""
        scales = self.schedule(t)
        rate = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma)
        here = torch.nn.functional.one_hot(x_t, posterior.shape[-1])
        return pad_right(rate, posterior) * (posterior - here)
