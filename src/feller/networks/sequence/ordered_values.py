"""Weights that vary smoothly over the ordered values of a table column, such as the bins of a number."""

import functools

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.spaces.table_tokens import CategoryTokenizer, TableTokens

NUM_BUMPS = 12
"""Number of Gaussian bumps, of which smooth functions of ordered values are sums."""
BUMP_WIDTH = 0.2 / 2**0.5
"""Standard deviation of a bump, as a fraction of the range of ranks; products of two bumps have a width of 0.2."""
SMOOTH_FRACTION = 0.9
"""Fraction of the variance of initial embeddings that varies smoothly over ordered values."""
STRENGTH = 4.0
"""Factor of the weights that neighbouring values share, relative to the weights of each value."""


@functools.cache
def bumps(num_ordered: int) -> Float[Tensor, "values bumps"]:
    """Return Gaussian bumps at equally spaced ranks as functions of the rank of a value, from 0 to 1."""
    ranks = torch.arange(num_ordered, dtype=torch.float64) / max(num_ordered - 1, 1)
    centers = torch.linspace(-BUMP_WIDTH, 1 + BUMP_WIDTH, NUM_BUMPS, dtype=torch.float64)
    return (-0.5 * ((ranks[:, None] - centers) / BUMP_WIDTH).square()).exp()


def ordered_places(space: TableTokens) -> list[tuple[int, int]]:
    """Return the position of each token with more than two ordered values, and their number."""
    found, place = [], 0
    for column in space.columns:
        if isinstance(column, CategoryTokenizer) and column.num_ordered > 2:
            found.append((place, column.num_ordered))
        place += column.num_tokens
    return found


@torch.no_grad()
def smooth_embeddings(weight: Tensor, space: TableTokens) -> None:
    """Make new embeddings of ordered values similar to those of their neighbours, in place.

    Args:
        weight: Independent embeddings of equal variance, one row per token of each position.
        space: Space of table rows.
    """
    first = space.first_tokens.tolist()
    for place, num_ordered in ordered_places(space):
        features = nn.functional.normalize(bumps(num_ordered), dim=1).to(weight)
        rows = weight[first[place] :][:num_ordered]
        smooth = features @ (rows.std() * torch.randn(NUM_BUMPS, weight.shape[1]).to(weight))
        rows.mul_((1 - SMOOTH_FRACTION) ** 0.5).add_(smooth, alpha=SMOOTH_FRACTION**0.5)


class OrderedSmoothing(nn.Module):
    """Linear map of the logits z of ordered values to z + B Bᵀ z, in which B Bᵀ z is a weighted mean of neighbours.

    A gradient step on the logits of one value also moves those of its neighbours, so that fewer rows suffice. The map
    has no weights, is invertible, and leaves other tokens as they are.
    """

    basis: Tensor
    """B of each position, [places, values, bumps]; zero for values without order."""

    def __init__(self, space: TableTokens) -> None:
        super().__init__()
        places = ordered_places(space)
        size = max((num_ordered for _, num_ordered in places), default=0)
        basis = torch.zeros(len(space.vocab_sizes), size, NUM_BUMPS)
        for place, num_ordered in places:
            features = bumps(num_ordered)
            totals = features @ features.sum(0)
            basis[place, :num_ordered] = (STRENGTH**0.5 * features / totals.sqrt()[:, None]).to(basis)
        self.register_buffer("basis", basis, persistent=False)

    def forward(
        self, logits: Float[Tensor, "*b tokens"], place: Int64[Tensor, " n"] | None = None
    ) -> Float[Tensor, "*b tokens"]:
        """Return smoothed logits.

        Args:
            logits: Logits at all positions of a row, [*b, places, tokens], or at one position of each row, [b, tokens].
            place: Position of each row, [b], or one position for all rows, [1]; None for all positions.
        """
        size = self.basis.shape[1]
        if not size:
            return logits
        values = logits[..., :size]
        if place is not None and len(place) == 1:
            basis = self.basis[place[0]]
            smooth = values @ basis @ basis.mT
        else:
            basis = self.basis if place is None else self.basis[place]
            smooth = torch.einsum("...pk,pnk->...pn", torch.einsum("...pn,pnk->...pk", values, basis), basis)
        return logits + nn.functional.pad(smooth, (0, logits.shape[-1] - size))

    @torch.no_grad()
    def invert(self, logits: Float[Tensor, "places tokens"]) -> Float[Tensor, "places tokens"]:
        """Return the logits at all positions whose smoothed values are `logits`."""
        size = self.basis.shape[1]
        if not size:
            return logits
        basis, inverted = self.basis.double(), logits.clone()
        maps = torch.eye(size, dtype=basis.dtype, device=basis.device) + basis @ basis.mT
        inverted[:, :size] = torch.linalg.solve(maps, logits[:, :size, None].double())[..., 0].to(logits)
        return inverted
