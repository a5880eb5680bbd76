"""Access to networks inside wrappers: EMA, data-parallel or compiled modules, partials, methods and closures."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

MAX_GLOBAL_HOPS = 3
"""Maximum length of a chain of global variables that the search for networks follows."""


def unwrap_network(network: Any) -> Any:
    """Return a network without its EMA, data-parallel and torch.compile wrappers."""
    while True:
        if isinstance(network, AveragedModel | DistributedDataParallel | DataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def iter_networks(network: Any) -> Iterator[Any]:
    """Yield a network and its components; each wrapper comes before the object that it wraps.

    Searches modules, `functools.partial`, methods, callable objects, objects with a `network`, compiled functions, and
    the closures, defaults and global references of functions.
    """
    return _iter_callables(network, {}, MAX_GLOBAL_HOPS, modules=True)


def find_modules(function: Any) -> list[nn.Module]:
    """Return the modules that a function or callable object uses, without the submodules of these modules."""
    return [obj for obj in _iter_callables(function, {}, MAX_GLOBAL_HOPS, modules=False) if isinstance(obj, nn.Module)]


def null_values(network: Callable[..., object] | None) -> dict[str, int | float]:
    """Return the null values of a network, with or without wrappers: condition name -> value of a dropped condition.

    Parts of a network with null values do not count. If a closure contains networks with different null values, the
    result is empty.
    """
    if isinstance(nulls := getattr(network, "null_values", None), Mapping):
        return dict(nulls)
    candidates: list[Mapping[str, int | float]] = []
    parts: set[int] = set()  # of networks that have null values
    for component in iter_networks(network):
        values = getattr(component, "null_values", None)
        if not isinstance(values, Mapping) or id(component) in parts:
            continue
        candidates.append(values)
        parts |= {id(part) for part in component.modules()} if isinstance(component, nn.Module) else set()
    return dict(candidates[0]) if candidates and all(candidate == candidates[0] for candidate in candidates) else {}


def takes_step_end(network: Callable[..., object] | None) -> bool:
    """Return True if a network, with or without wrappers, takes the end of a step: `cond[STEP_END]`."""
    return any(getattr(component, "takes_step_end", False) for component in iter_networks(network))


def condition_noise(network: Any) -> Mapping[str, float]:
    """Return the maximum level of noise that training adds to conditions of a network, by name; mostly empty."""
    noise = getattr(unwrap_network(network), "condition_noise", {})
    return noise if isinstance(noise, Mapping) else {}


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Context manager: put a network into eval mode, and restore the mode of each module at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _iter_callables(obj: Any, visited: dict[int, Any], max_hops: int, *, modules: bool) -> Iterator[Any]:
    """Yield callables and objects with `null_values`, depth first, each once; `modules` includes submodules."""
    if obj is None or isinstance(obj, type) or id(obj) in visited:
        return
    visited[id(obj)] = obj  # keep a reference, or its id could be reused
    if callable(obj) or hasattr(obj, "null_values"):
        yield obj
    for child, hops in _children(obj, modules=modules):
        if hops <= max_hops:
            yield from _iter_callables(child, visited, max_hops - hops, modules=modules)


def _children(obj: Any, *, modules: bool) -> Iterator[tuple[Any, int]]:
    """Yield the objects that `obj` refers to, with the number of references to global variables on the way (0 or 1)."""
    if isinstance(obj, nn.Module):
        yield from ((child, 0) for child in (obj.children() if modules else ()))
    elif isinstance(obj, functools.partial):
        yield from ((child, 0) for child in (obj.func, *obj.args, *obj.keywords.values()))
    elif isinstance(obj, tuple | list | dict):
        yield from ((child, 0) for child in (obj.values() if isinstance(obj, dict) else obj))
    elif inspect.ismethod(obj):
        attributes = () if isinstance(obj.__self__, nn.Module) else getattr(obj.__self__, "__dict__", {}).values()
        yield from ((child, 0) for child in (obj.__self__, obj.__func__, *attributes))
    elif inspect.isfunction(obj):
        cells = (cell.cell_contents for cell in obj.__closure__ or () if _is_filled(cell))
        yield from ((child, 0) for child in cells)
        global_values = (obj.__globals__.get(name) for name in obj.__code__.co_names)
        yield from ((child, 1) for child in global_values if callable(child) or hasattr(child, "null_values"))
        defaults = (*(obj.__defaults__ or ()), *(obj.__kwdefaults__ or {}).values())
        yield from ((child, 0) for child in (*defaults, *vars(obj).values()))
    elif callable(obj) and not inspect.isroutine(obj):
        yield from ((child, 0) for child in getattr(obj, "__dict__", {}).values())
        yield inspect.getattr_static(type(obj), "__call__"), 0
    else:
        yield getattr(obj, "__dict__", {}).get("network"), 0


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
