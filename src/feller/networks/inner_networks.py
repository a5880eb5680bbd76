"""What wraps networks, looked through: averages, several processes, compilers, partials, methods, functions."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

FAR = 3
"""Functions that each name the next one outside of themselves, through which networks are looked for."""


def plain_network(network: Any) -> Any:
    """Return a network without what wraps it as a whole: an average of weights, several processes, a compiler."""
    while True:
        if isinstance(network, AveragedModel | DistributedDataParallel | DataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def inner_networks(network: Any) -> Iterator[Any]:
    """Yield a network and all that it is made of, what wraps before what is wrapped.

    Looked into are modules, `functools.partial`, methods, objects that can be called or hold a `network`, compiled
    functions, and what functions close over, have as defaults, or name outside of themselves.
    """
    return _walk(network, {}, FAR, modules=True)


def held_modules(function: Any) -> list[nn.Module]:
    """Return the modules that a function, or what else can be called, is made of, without the parts of these."""
    return [one for one in _walk(function, {}, FAR, modules=False) if isinstance(one, nn.Module)]


def null_values(network: Callable[..., object] | None) -> dict[str, int | float]:
    """Return what a network knows as "not given", by the name of the condition, through whatever wraps it.

    Of several networks that a function closes over, all must say the same; else nothing is known.
    """
    if isinstance(nulls := getattr(network, "nulls", None), Mapping):
        return dict(nulls)
    told = [one.nulls for one in inner_networks(network) if isinstance(getattr(one, "nulls", None), Mapping)]
    return dict(told[0]) if told and all(each == told[0] for each in told) else {}


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode for a while; each of its modules then has the mode that it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _walk(thing: Any, seen: dict[int, Any], far: int, *, modules: bool) -> Iterator[Any]:
    """Yield what can be called, or says what is "not given", depth first and once; with the parts of modules or not."""
    if thing is None or isinstance(thing, type) or id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept, or another might get its number
    if callable(thing) or hasattr(thing, "nulls"):
        yield thing
    for part, steps in _parts(thing, modules=modules):
        if steps <= far:
            yield from _walk(part, seen, far - steps, modules=modules)


def _parts(thing: Any, *, modules: bool) -> Iterator[tuple[Any, int]]:
    """Yield what something holds that can be called, and how many steps further away that is."""
    if isinstance(thing, nn.Module):
        yield from ((child, 0) for child in (thing.children() if modules else ()))
    elif isinstance(thing, functools.partial):
        yield from ((part, 0) for part in (thing.func, *thing.args, *thing.keywords.values()))
    elif isinstance(thing, tuple | list | dict):
        yield from ((part, 0) for part in (thing.values() if isinstance(thing, dict) else thing))
    elif inspect.ismethod(thing):
        held = () if isinstance(thing.__self__, nn.Module) else getattr(thing.__self__, "__dict__", {}).values()
        yield from ((part, 0) for part in (thing.__self__, thing.__func__, *held))
    elif inspect.isfunction(thing):
        cells = (cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell))
        yield from ((part, 0) for part in cells)
        named = (thing.__globals__.get(name) for name in thing.__code__.co_names)
        yield from ((part, 1) for part in named if callable(part) or hasattr(part, "nulls"))
        defaults = (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
        yield from ((part, 0) for part in (*defaults, *vars(thing).values()))
    elif callable(thing) and not inspect.isroutine(thing):
        yield from ((part, 0) for part in getattr(thing, "__dict__", {}).values())
        yield inspect.getattr_static(type(thing), "__call__"), 0
    else:
        yield getattr(thing, "__dict__", {}).get("network"), 0


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
