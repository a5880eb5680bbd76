"""Rules of linear layers, tables of embeddings, and the scales of norms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.privacy.dp_sgd.grad_samplers import Call, Rule, joined, outer_squares, places, trained, trains


class OfLinear(Rule):
    """Sums over places of outer products of slopes and inputs."""

    def squares(self, layer: nn.Linear, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Compare all pairs of places, or multiply the matrices out: whichever is cheaper."""
        x = joined([places(call.inputs) for call in calls], 1)
        slopes = joined([places(call.slopes) for call in calls], 1)
        found = slopes.new_zeros(len(slopes))
        if trains(layer, "weight"):
            found = found + outer_squares(slopes, x.to(slopes.dtype))
        return found + slopes.sum(1).square().sum(1) if trains(layer, "bias") else found

    def weighted(self, layer: nn.Linear, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Multiply all places of all examples at once."""
        slopes = (places(call.slopes) * factors[:, None, None]).flatten(0, 1)
        x = places(call.inputs).flatten(0, 1).to(slopes.dtype)
        return trained(layer, weight=lambda: slopes.T @ x, bias=lambda: slopes.sum(0))


class OfEmbedding(Rule):
    """Rows of a table, each with the slopes of the places where it was looked up."""

    def takes(self, layer: nn.Embedding) -> bool:
        """Refuse what depends on the whole batch."""
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse

    def squares(self, layer: nn.Embedding, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Sum the slopes of the places of an example that hold one symbol, then square."""
        pairs = [self._flat(layer, call) for call in calls]
        which, slopes = joined([ids for ids, _ in pairs], 1), joined([slopes for _, slopes in pairs], 1)
        b, rows = len(which), layer.num_embeddings
        if which.shape[1] == 1:
            return slopes.square().sum((1, 2))
        of = torch.arange(b, device=which.device)[:, None] * rows + which
        found, place = of.unique(return_inverse=True)
        sums = slopes.new_zeros(len(found), slopes.shape[2]).index_add_(0, place.flatten(), slopes.flatten(0, 1))
        return slopes.new_zeros(b).index_add_(0, found // rows, sums.square().sum(1))

    def weighted(self, layer: nn.Embedding, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Add each place's slopes to its row."""
        which, slopes = self._flat(layer, call)
        slopes = (slopes * factors[:, None, None]).flatten(0, 1)
        return {"weight": torch.zeros_like(layer.weight).index_add_(0, which.flatten(), slopes)}

    def _flat(self, layer: nn.Embedding, call: Call) -> tuple[Tensor, Tensor]:
        which = call.inputs.reshape(len(call.inputs), -1)
        slopes = call.slopes.reshape(*which.shape, -1)
        if layer.padding_idx is not None:
            slopes = slopes * (which != layer.padding_idx)[:, :, None]
        return which, slopes


@dataclass(frozen=True)
class OfNorm(Rule):
    """Scales and shifts of normalised features."""

    plain: Callable[[Any, Tensor], Tensor]
    """(layer, inputs) -> what the layer scales."""
    channels: bool = False
    """The weights go along axis 1 rather than the last ones."""

    def squares(self, layer: Any, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Lay the gradients out: they are small."""
        ones = torch.ones_like(calls[0].slopes[:, :1].flatten(1)[:, 0])
        each = [self._each(layer, call, ones) for call in calls]
        sums = [torch.stack([part[name] for part in each]).sum(0) for name in each[0]]
        return torch.stack([gradients.flatten(1).square().sum(1) for gradients in sums]).sum(0)

    def weighted(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Sum over all but the axes of the weights."""
        return {name: gradients.sum(0) for name, gradients in self._each(layer, call, factors).items()}

    def _each(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return each example's gradients, times its factor; [b, *weight]."""
        slopes = call.slopes * factors.reshape(-1, *(1,) * (call.slopes.ndim - 1))

        def overplaces(x: Tensor) -> Tensor:
            if self.channels:
                return x.flatten(2).sum(2) if x.ndim > 2 else x
            return x.reshape(len(x), -1, *layer.weight.shape).sum(1)

        return trained(
            layer,
            weight=lambda: overplaces(slopes * self.plain(layer, call.inputs.to(slopes.dtype))),
            bias=lambda: overplaces(slopes),
        )
