"""Dropout of conditions for classifier-free guidance."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number, found_instead
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import RESERVED_KEYS
from feller.networks.unwrapping import null_values


def check_cond_dropout(cond_dropout: float) -> None:
    """Refuse what is no probability."""
    check_number("cond_dropout", cond_dropout, ge=0, le=1)


def check_null(null: Any) -> None:
    """Refuse null values without names."""
    if null is not None and not (isinstance(null, Mapping) and all(isinstance(n, Real) for n in null.values())):
        one = null if isinstance(null, int) else "..."
        remedy = f"Write null={{'label': {one}}}, such as the number of classes"
        found = repr(null) if isinstance(null, Mapping) else found_instead(null)
        raise UsageError(argument="null", expected="a dict from conditions to numbers", found=found, remedy=remedy)


def _check_null_of(name: str, null: int | float, value: Any) -> None:
    """Check that the dtype of a condition can hold its null value: a cast would change the value silently.

    Raises:
        UsageError: If it cannot, or the condition is a dict.
    """
    if not isinstance(value, Tensor):
        remedy = "Give each part as a condition of its own, or the objective cond_dropout=0"
        found = f"a dict of {', '.join(map(str, value))}"
        raise UsageError(argument=name, expected="a tensor, where it is dropped", found=found, remedy=remedy)
    if value.is_floating_point() or value.is_complex():
        check_number("null", null, lt=math.inf)
        return
    least, most = (0, 1) if value.dtype == torch.bool else (torch.iinfo(value.dtype).min, torch.iinfo(value.dtype).max)
    if not (least <= null <= most and null == int(null)):
        expected = f"for {name} a number that {value.dtype} holds, from {least} to {most}"
        remedy = f"Write {name}.long(), and the number of classes for its null, or {name}.float()"
        raise UsageError(argument="null", expected=expected, found=f"{null:g}", remedy=remedy)


def drop_conditions(
    cond: Cond, null: Mapping[str, int | float] | None, prob: float, rng: Rng, network: Any = None
) -> Cond:
    """Replace all conditions of some examples by "not given", so that the model can do without.

    Args:
        cond: Conditions, [b, ...]; `valid` and `known` are none.
        null: Null value of each; None for those of the network.
        prob: Probability that an example loses them.
        rng: Source of the choice.
        network: Is looked through for null values where there are none.

    Raises:
        UsageError: If conditions have no null value.
    """
    names = cond.keys() - RESERVED_KEYS
    if not prob or not names:
        return cond
    if null is None:
        null = null_values(network)
    if unknown := sorted(names - null.keys()):
        some = ", ".join(f"{name!r}: ..." for name in unknown)
        raise UsageError(
            argument="null",
            expected=f"a value for each condition that is dropped: {', '.join(sorted(names))}",
            found=", ".join(sorted(null)) or "none",
            remedy=f"Give the objective null={{{some}}}, such as the number of classes, or cond_dropout=0",
        )
    for name in names:
        _check_null_of(name, null[name], cond[name])
    some = next(cond[name] for name in names)
    dropped = rng.stream("drop").uniform((len(some),), device=some.device) < prob

    def null_of(name: str, value: Tensor) -> Tensor:
        where = dropped.reshape(-1, *(1,) * (value.ndim - 1))
        return torch.where(where, torch.full_like(value, null[name]), value)

    return {name: null_of(name, value) if name in null else value for name, value in cond.items()}
