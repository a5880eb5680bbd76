"""Some of a state's tokens, one a row: their numbers, answers and times."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.core.rng import Draw


def marks(draw: Draw, which: Tensor) -> Float64[Tensor, " m"]:
    """Draw a uniform number for each mark, addressed by example and by rank of the mark within it."""
    per_example = which.reshape(len(which), -1).sum(1)
    most = int(per_example.max())
    u = draw.uniform((len(which), most), torch.float64, which.device)
    return u[torch.arange(most, device=which.device) < per_example[:, None]]


def answers_at(prediction: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return how to take the answers at flat places of a state; an expanded array is never laid out."""
    if prediction.is_contiguous():
        flat = prediction.flatten(0, -2)
        return lambda part: flat.index_select(0, part)
    return lambda part: prediction[torch.unravel_index(part, x.shape)]


def times_at(t: Float[Tensor, " b"], part: Tensor, x: Tensor) -> Tensor:
    """Return the times at flat places of a state."""
    if t.stride(0) == 0:
        return t[:1].expand(len(part))
    return t[part // max(1, x[0].numel())]


def parts(size: int, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield some rows of several tensors at a time."""
    if len(rows[0]) <= size:
        return iter([rows])
    return zip(*(row.split(size) for row in rows), strict=True)


def distinct(t: Float[Tensor, " m"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " m"]]:
    """Return the different times and which of them each row has.

    One expanded time, as solvers give it, is told by its stride; inside a transformation such as `vmap` a tensor has no
    values to compare, and all rows count as different.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(t) or t.device.type == "meta":
        return t, torch.arange(len(t), device=t.device)
    if len(t) and t.stride(0) == 0:
        return t[:1], torch.zeros(len(t), dtype=torch.long, device=t.device)
    return t.unique(return_inverse=True)
