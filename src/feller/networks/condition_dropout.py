"""Null values of conditions, and their dropout for classifier-free guidance."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Given
from feller.core.rng import Draws
from feller.networks.blocks.conditioning import RESERVED

WRAPPED = ("_torchdynamo_orig_callable", "__wrapped__", "__self__", "network")
"""Attributes under which compiled functions, decorators, methods and averages keep what they wrap."""


def check_cond_dropout(cond_dropout: float) -> None:
    """Refuse what is no probability.

    Raises:
        UsageError: If it is not in [0, 1].
    """
    if not 0 <= cond_dropout <= 1:
        raise UsageError(argument="cond_dropout", expected="a probability from 0 to 1", found=f"{cond_dropout:g}")


def inner_networks(network: Any) -> Iterator[Any]:
    """Yield a network and all that it wraps, outermost first.

    Looked through are modules with their parts, as DDP, FSDP, averaged and compiled ones are; `functools.partial` with
    the modules it binds, methods, and functions with the networks that they close over or take from their module.
    """
    seen: set[int] = set()
    waiting = [network]
    while waiting:
        one = waiting.pop(0)
        if one is None or isinstance(one, type) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, nn.Module):
            waiting += one.children()
            continue
        waiting += [getattr(one, name, None) for name in WRAPPED]
        if isinstance(one, functools.partial):
            waiting += filter(_is_network, (one.func, *one.args, *one.keywords.values()))
        elif inspect.isfunction(one):
            waiting += filter(_is_network, (cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell)))
            named = (one.__globals__.get(name) for name in one.__code__.co_names)
            waiting += [each for each in named if isinstance(each, nn.Module) or hasattr(each, "nulls")]


def _is_network(value: Any) -> bool:
    return callable(value) or hasattr(value, "nulls")


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def null_values(network: Callable[..., object] | None) -> dict[str, int | float]:
    """Return what a network knows as "not given", by the name of the condition, through whatever wraps it.

    Of several networks that a function closes over, all must say the same; else nothing is known.
    """
    if isinstance(nulls := getattr(network, "nulls", None), Mapping):
        return dict(nulls)
    told = [one.nulls for one in inner_networks(network) if isinstance(getattr(one, "nulls", None), Mapping)]
    return dict(told[0]) if told and all(each == told[0] for each in told) else {}


def drop_conditions(
    given: Given, null: Mapping[str, int | float] | None, chance: float, rng: Draws, network: Any = None
) -> Given:
    """Replace all conditions of some examples by "not given", so that the model can do without.

    Args:
        given: Conditions, [b, ...]; `valid` and `known` are none.
        null: Null value of each; None for those of the network.
        chance: Probability that an example loses them.
        rng: Source of the choice.
        network: Is looked through for null values where there are none.

    Raises:
        UsageError: If conditions have no null value.
    """
    names = given.keys() - RESERVED
    if not chance or not names:
        return given
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
    some = next(given[name] for name in names)
    gone = rng.at("drop").uniform((len(some),), device=some.device) < chance

    def null_of(name: str, value: Tensor) -> Tensor:
        where = gone.reshape(-1, *(1,) * (value.ndim - 1))
        return torch.where(where, torch.full_like(value, null[name]), value)

    return {name: null_of(name, value) if name in null else value for name, value in given.items()}
