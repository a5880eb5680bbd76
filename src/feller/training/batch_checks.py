"""Checks of a batch before it is trained on: shapes, types, ranges, finite numbers, points on their manifold."""

import math
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import State, are_known, branch, pad_right
from feller.spaces import Euclidean, Manifold, Space, Tokens
from feller.spaces.product import part

FEW = 4
"""Examples of a batch whose points are compared with the nearest of their manifold, which costs more than the rest."""
OFF = 1e-2
"""Distance of a point from its manifold, in units of its size, beyond which it is refused."""


def check_data(x_1: State, x_0: State, space: Space, valid: State | None = None, name: str = "x_1") -> None:
    """Refuse data that would be broadcast against their source, or that no path of their space can lead to.

    Values are looked at on the CPU alone: elsewhere each look waits for the device, and under vmap there are none.

    Args:
        x_1: Data, [b, ...].
        x_0: Source states, which have the shape of the space.
        space: Where both live.
        valid: Marks what is no padding, which may hold anything; None for all.
        name: What the data are called, for people.

    Raises:
        UsageError: If shape or type is wrong.
        InputError: If numbers are not finite, symbols out of range, or points off their manifold.
    """
    if isinstance(x_0, dict) or isinstance(x_1, dict):
        if not (isinstance(x_0, dict) and isinstance(x_1, dict)) or x_0.keys() != x_1.keys():
            raise UsageError(f"expected {name} like the space, {_leaves(x_0)}, got {_leaves(x_1)}")
        for leaf in x_1:
            check_data(x_1[leaf], x_0[leaf], part(space, leaf), branch(valid, leaf), f"{name}[{leaf!r}]")
        return
    if x_1.shape != x_0.shape:
        raise UsageError(
            f"expected {name} of shape {['b', *x_0.shape[1:]]}, as the space is, got {list(x_1.shape)}; reshape the"
            " data, or give the space their shape"
        )
    if x_0.is_floating_point() != x_1.is_floating_point() or (not x_1.is_floating_point() and x_1.dtype != torch.long):
        wanted = "floating-point numbers, x.float()" if x_0.is_floating_point() else "int64 symbols, x.long()"
        raise UsageError(f"expected {name} of {wanted}, got {x_1.dtype}")
    if not are_known(x_1):
        return
    if x_1.is_floating_point():
        _check_numbers(x_1, space, valid, name)
    elif isinstance(space, Tokens) and x_1.numel():
        low, high = (int(end) for end in x_1.aminmax())
        wrong = None if low >= 0 and high < space.count else _real((x_1 < 0) | (x_1 >= space.count), valid)
        if wrong is not None and bool(wrong.any()):
            raise InputError(
                f"expected {name} of symbols from 0 to {space.count - 1}, got {int(x_1[wrong][0])} in example"
                f" {_rows(wrong)[0]}"
            )


def check_t(t: Any, n: int) -> None:
    """Refuse times that are not one for each example, in [0, 1].

    Raises:
        UsageError: Then.
    """
    if not isinstance(t, Tensor) or t.shape != (n,):
        got = list(t.shape) if isinstance(t, Tensor) else type(t).__name__
        raise UsageError(f"expected one time for each of {n} examples, [{n}], got {got}")
    low, high = (float(end) for end in t.aminmax()) if n and are_known(t) else (0.0, 0.0)
    if not 0 <= low <= high <= 1:
        raise UsageError(f"times must lie in [0, 1], got [{low:g}, {high:g}]; divide steps by their number")


def check_logits(prediction: State, space: Space) -> None:
    """Refuse logits of another number of symbols than the space has.

    Raises:
        UsageError: Then.
    """
    if isinstance(space, Tokens) and isinstance(prediction, Tensor) and prediction.shape[-1] != space.count:
        raise UsageError(
            f"expected logits [b, ..., {space.count}], one for each symbol and none for the mask, got"
            f" {list(prediction.shape)}"
        )


def _check_numbers(x: Tensor, space: Space, valid: State | None, name: str) -> None:
    if not math.isfinite(float(x.detach().sum())):  # a sum may overflow, and padding may hold anything
        wrong = _real(~x.isfinite(), valid)
        if bool(wrong.any()):
            rows = _rows(wrong)
            raise InputError(
                f"expected finite numbers {name}, got others in {len(rows)} of {len(x)} examples, the first of them"
                f" number {rows[0]}; drop or fill them"
            )
    if isinstance(space, Manifold) and not isinstance(space, Euclidean) and len(x) and valid is None:
        some = x[:FEW].detach()
        off = float((space.project(some) - some).abs().max())
        if off > OFF * max(1.0, float(some.abs().max())):
            raise InputError(
                f"expected {name} on the {type(space).__name__}, got points {off:.3g} away from it; bring them there"
                " with space.project(x)"
            )


def _real(wrong: Bool[Tensor, " b *d"], valid: State | None) -> Bool[Tensor, " b *d"]:
    """Return the marks that are not of padding."""
    return wrong if not isinstance(valid, Tensor) else wrong & pad_right(valid, wrong)


def _rows(marks: Bool[Tensor, " b *d"]) -> list[int]:
    return marks.reshape(len(marks), -1).any(1).nonzero()[:, 0].tolist()


def _leaves(x: State) -> str:
    return f"a dict of {', '.join(x)}" if isinstance(x, dict) else "a tensor"
