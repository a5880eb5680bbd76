"""Dropout of conditions for classifier-free guidance."""

import math
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number, found_instead
from feller.core.pytree import Cond, append_dims
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import RESERVED_KEYS
from feller.networks.unwrapping import null_values


def check_cond_dropout(cond_dropout: float) -> None:
    """Raise a UsageError if the probability of condition dropout is invalid."""
    check_number("cond_dropout", cond_dropout, ge=0, le=1)


def check_null(null: Any) -> None:
    """Check that the null values of conditions have a valid type.

    Raises:
        UsageError: If `null` is not None and not a dict from names to numbers.
    """
    if null is not None and not (isinstance(null, Mapping) and all(isinstance(n, Real) for n in null.values())):
        null_example = null if isinstance(null, int) else "..."
        remedy = f"Write null={{'label': {null_example}}}, for example with the number of classes"
        found = repr(null) if isinstance(null, Mapping) else found_instead(null)
        raise UsageError(argument="null", expected="a dict from condition names to numbers", found=found, remedy=remedy)


def _check_null_of(name: str, null: int | float, value: Any) -> None:
    """Raise an error if a condition's dtype cannot represent its null value, which a cast would change silently."""
    if not isinstance(value, Tensor):
        remedy = "Pass each part as a separate condition, or set cond_dropout=0 in the objective"
        found = f"a dict of {', '.join(map(str, value))}"
        raise UsageError(argument=name, expected="a tensor, for condition dropout", found=found, remedy=remedy)
    if value.is_floating_point() or value.is_complex():
        if not math.isnan(null):
            check_number("null", null, lt=math.inf)
        return
    low, high = (0, 1) if value.dtype == torch.bool else (torch.iinfo(value.dtype).min, torch.iinfo(value.dtype).max)
    if not (low <= null <= high and null == int(null)):
        expected = f"an integer in the range of {value.dtype}, {low} to {high}, for the condition {name}"
        remedy = f"Write {name}.long() and use the number of classes as null value, or write {name}.float()"
        raise UsageError(argument="null", expected=expected, found=f"{null:g}", remedy=remedy)


def drop_conditions(
    cond: Cond,
    null: Mapping[str, int | float] | None,
    prob: float,
    rng: Rng,
    network: Any = None,
    *,
    each_prob: float = 0.0,
    keep: Collection[str] = (),
) -> Cond:
    """Replace conditions of randomly chosen examples by null values, for classifier-free guidance (p_uncond).

    Args:
        cond: Conditions, [b, ...]; the masks `valid` and `known` are never dropped.
        null: Null value of each condition; None to use those of `network`.
        prob: Probability that the conditions of an example are replaced, all together.
        rng: Random streams for the batch.
        network: Network whose `null_values` are used if `null` is None.
        each_prob: If there are several conditions, probability that each is also replaced on its own, so that the
            network learns every subset of the conditions.
        keep: Names of conditions that are never replaced.

    Raises:
        UsageError: If a condition has no null value.
    """
    names = sorted(cond.keys() - RESERVED_KEYS - {*keep})
    if not prob or not names:
        return cond
    if null is None:
        null = null_values(network)
    if unknown := sorted({*names} - null.keys()):
        entries = ", ".join(f"{name!r}: ..." for name in unknown)
        raise UsageError(
            argument="null",
            expected=f"a null value for each condition: {', '.join(sorted(names))}",
            found=", ".join(sorted(null)) or "none",
            remedy=f"Set null={{{entries}}} in the objective, for example to the number of classes, or cond_dropout=0",
        )
    for name in names:
        _check_null_of(name, null[name], cond[name])
    like = next(cond[name] for name in names)
    drops_all = rng.stream("drop").uniform((len(like),), device=like.device) < prob

    def null_of(name: str, value: Tensor) -> Tensor:
        mask = drops_all
        if len(names) > 1 and each_prob:
            mask = mask | (rng.stream(f"drop {name}").uniform((len(like),), device=like.device) < each_prob)
        return torch.where(append_dims(mask, value), torch.full_like(value, null[name]), value)

    return {name: null_of(name, value) if name in null and name not in keep else value for name, value in cond.items()}
