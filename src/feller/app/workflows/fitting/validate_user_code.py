"""Validation of an objective's user-defined components on a trial batch, before training."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import State, broadcast_time, leaves, num_examples, tree_map
from feller.core.rng import RandomStream, Rng
from feller.core.user_code import is_user_defined, qualified_name
from feller.paths import Network, Path
from feller.paths.processes import Jumps, destination_shape_error
from feller.paths.time_distributions import TimeDistribution
from feller.sampling.simulation import check_characteristics
from feller.training.couplings import Coupling
from feller.training.losses import Loss, PerLeafLoss
from feller.training.losses.loss import TimeWeighted
from feller.training.objective import Batch, FlowMatching, cast_like, sample_source

N_QUANTILES = 257
"""Number of points at which the quantile function of a time distribution is checked."""


def check_components(objective: FlowMatching, network: Network, batch: Batch, rng: Rng) -> None:
    """Call each user-defined component once and check the shape, dtype and range of its output.

    Raises:
        InputError: If an output is wrong; the error names the component's class, file and line.
    """
    x_1, cond = batch["x_1"], batch.get("given", {})
    n, device = num_examples(x_1), next(leaves(x_1)).device
    x_0 = cast_like(batch["x_0"], x_1) if "x_0" in batch else sample_source(objective.space, x_1, rng)
    if is_user_defined(objective.coupling) and "x_0" not in batch:
        paired = objective.coupling(x_0, x_1, cond, rng.stream("coupling"))
        _check_like(objective.coupling, "__call__", paired, x_0, "a permutation of the source samples,")
        x_0 = paired
    t = broadcast_time(_times(objective.time_distribution, n, rng.stream("time"), device), x_1)
    for path, (a, b, time) in _each(objective.path, x_0, x_1, t):
        if is_user_defined(path):
            value = path.sample(a, b, time, rng.stream("path"))
            _check_like(path, "sample", value, b, "the state at t, with the shape of x_1,")
    x_t, target = objective.path.sample_with_target(x_0, x_1, t, rng.stream("path"))
    prediction = network(x_t, t, cond)
    completed = objective.path.complete_prediction(prediction, x_t, t)
    for path, (a, x, b, leaf_prediction) in _each(objective.path, target, x_t, x_1, completed):
        if is_user_defined(path):
            _check_target(path, a, leaf_prediction, x, b)
    for loss, loss_states in _losses(objective.criterion, completed, target, x_t, t):
        if is_user_defined(loss):
            _check_entries(loss, loss_states)
    with torch.no_grad():
        half = tree_map(lambda time: torch.full_like(time, 0.5), t)
        for path, (leaf_output, x, time) in _each(objective.path, prediction, x_t, half):
            if is_user_defined(path):
                _check_process(path, leaf_output, x, time, rng.stream("jumps"))


def _each(path: Path, *states: State) -> Iterator[tuple[Path, tuple[Any, ...]]]:
    """Yield each leaf's path within a product path, with the same leaf of each of the states; a plain path as it is."""
    if not path.leaf_names:
        yield path, states
    for name in path.leaf_names:
        yield from _each(path.leaf_path(name), *(state[name] for state in states))


def _losses(loss: Loss, *states: State) -> Iterator[tuple[Loss, tuple[Any, ...]]]:
    """Yield each leaf's loss within a product loss, with the same leaf of each of the states; a plain loss as it is."""
    if isinstance(loss, PerLeafLoss):
        for name, leaf_loss in loss.losses.items():
            yield from _losses(leaf_loss, *(state[name] for state in states))
    elif isinstance(loss, TimeWeighted):
        yield from _losses(loss.loss, *states)
    else:
        yield loss, states


def _shape(value: Any) -> str:
    """Return the shape of a tensor or dict of tensors as text; for other objects, their type."""
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shape(leaf)}" for name, leaf in value.items()) + "}"
    return "None" if value is None else f"the class {value.__name__}" if isinstance(value, type) else _kind(value)


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _check_like(component: Path | Coupling, method: str, value: Any, expected: State, description: str) -> None:
    """Raise an error unless `value`, the result of a method of user code, has the shape and dtype of `expected`."""
    requirement, shape = f"{qualified_name(component, method)} must return {description}", _shape(expected)
    if _shape(value) != shape:
        raise InputError(f"{requirement} {shape}", found=_shape(value))
    for a, b in zip(leaves(value), leaves(expected), strict=True):
        if a.dtype != b.dtype and a.is_floating_point() and b.is_floating_point():
            raise InputError(f"{requirement} {shape} of {b.dtype}", found=a.dtype)


def _times(time_distribution: TimeDistribution, n: int, rng: RandomStream, device: torch.device) -> Tensor:
    """Sample n training times from a time distribution; a user-defined one is first checked on a grid of quantiles."""
    distribution: Any = time_distribution
    while distribution is not None:
        if is_user_defined(distribution):
            u = torch.linspace(0, 1, N_QUANTILES)[1:-1].to(device)
            _check_times(distribution, "quantile", distribution.quantile(u), len(u))
        distribution = getattr(distribution, "base", None)
    t = time_distribution(n, rng, device)
    if is_user_defined(time_distribution):
        _check_times(time_distribution, "__call__", t, n)
    return t


def _check_times(time_distribution: TimeDistribution, method: str, t: Any, n: int) -> None:
    """Raise an error unless `t` contains n times in [0, 1]."""
    has_method = method in vars(type(time_distribution))
    requirement = f"{qualified_name(time_distribution, method if has_method else 'quantile')} must return"
    if not isinstance(t, Tensor) or t.shape != (n,):
        raise InputError(f"{requirement} a time t for each example, a tensor of shape [{n}]", found=_shape(t))
    if not bool(((t >= 0) & (t <= 1)).all()):
        invalid = t[~((t >= 0) & (t <= 1))][0].item()
        raise InputError(f"{requirement} times in [0, 1]", found=f"{invalid:g}")


def _check_target(path: Path, target: Any, prediction: State, x_t: State, x_1: State) -> None:
    """Raise an error if a target does not have one entry per example, or would be broadcast to the prediction."""
    requirement = f"{qualified_name(path, 'target')} must return the regression target of the network,"
    if not isinstance(x_1, Tensor) or not isinstance(prediction, Tensor):
        if not isinstance(target, dict):
            raise InputError(f"{requirement} a dict with the leaves of the state, {_shape(x_t)}", found=_shape(target))
        return
    if not isinstance(target, Tensor) or target.shape[:1] != x_1.shape[:1]:
        raise InputError(
            f"{requirement} a tensor with first dimension {len(x_1)}, one entry per example", found=_shape(target)
        )
    if target.shape in (prediction.shape, x_1.shape) or target.ndim != prediction.ndim:
        return
    if all(1 in (a, b) or a == b for a, b in zip(target.shape, prediction.shape, strict=True)):
        raise InputError(f"{requirement} of shape {_shape(prediction)} for this network", found=_shape(target))


def _check_entries(loss: Loss, states: tuple[Any, ...]) -> None:
    """Raise an error if a loss does not have one entry per example, or has no gradient."""
    prediction = states[0]
    entries = loss.entries(*states)
    n = num_examples(states[2])
    requirement = f"{qualified_name(loss, 'entries')} must return the loss of each entry, a tensor [{n}, ...]"
    if not isinstance(entries, Tensor) or entries.shape[:1] != (n,):
        raise InputError(requirement, found=_shape(entries))
    if not entries.requires_grad and any(leaf.requires_grad for leaf in leaves(prediction)):
        raise InputError(
            f"{requirement} with a gradient with respect to the prediction",
            found="a loss without a gradient; look for detach, rounding, or operations outside torch",
        )


def _check_process(path: Path, prediction: State, x_t: State, t: State, rng: RandomStream) -> None:
    """Raise an error if velocity, score or jumps of a process have the wrong shape, or jumps invalid destinations."""
    characteristics = path.characteristics(prediction, x_t, t)
    method_name = qualified_name(path, "characteristics")
    check_characteristics(characteristics, x_t, f"{method_name}: ")
    for leaf, x in zip(leaves(characteristics), leaves(x_t), strict=True):
        if leaf.jumps is not None:
            _check_jumps(leaf.jumps, x, rng, method_name)


def _check_jumps(jumps: Jumps, x: Tensor, rng: RandomStream, method_name: str) -> None:
    """Raise an error for invalid hazard rates, or for jump destinations that do not match the selected entries."""
    for s in (0.75, 1.0):
        hazard: Any = jumps.hazard(s)
        if not isinstance(hazard, Tensor) or hazard.shape != x.shape[: hazard.ndim] or not hazard.ndim:
            raise InputError(
                f"hazard(s) to return the hazard of each entry integrated from t to s, {_shape(x)}",
                _shape(hazard),
                place=method_name,
            )
        if not bool((hazard >= 0).all()):
            invalid = hazard[~(hazard >= 0)][0].item()
            raise InputError(
                "hazard(s) to return a non-negative hazard integrated from t to s",
                f"{invalid:g} from t = 0.5 to s = {s:g}",
                place=method_name,
            )
        mask = (hazard > 0).contiguous()
        mask.view(-1)[:1] = False  # if all entries jumped, a full state would pass as well
        expected_shape = (int(mask.count_nonzero()), *x.shape[mask.ndim :])
        destinations: Any = jumps.sample_destination(s, mask, rng) if expected_shape[0] else x.new_empty(expected_shape)
        if not isinstance(destinations, Tensor) or destinations.shape != expected_shape:
            raise destination_shape_error(jumps.sample_destination, destinations, expected_shape)
