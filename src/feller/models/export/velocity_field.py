"""Velocity field of a model as a function of arrays, for external integrators."""

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Modality
from feller.models.model import Model, load_model
from feller.networks.unwrapping import evaluation_mode
from feller.paths import Network
from feller.sampling.guidance import cfg

Array = TypeVar("Array", bound=Tensor | np.ndarray | Mapping[str, object])
"""Tensor or numpy array whose first axis is the batch, or a dict of such arrays, one per component of the state."""


@dataclass(frozen=True, eq=False, repr=False)
class VelocityField:
    """Velocity of a model's states x at times t, called as v(x, t, **given), where `given` are conditions by name.

    The velocity is per unit of time; t = 0 is the source and t = 1 the data.
    """

    model: Model
    guidance: float = 1.0
    network: Network = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.model.family.check_flow()
        self.model.check_guidance(self.guidance)
        object.__setattr__(self, "network", cfg(self.model.network, self.guidance, droppable=self.model.droppable()))

    def __repr__(self) -> str:
        return f"velocity({self.model!r}, guidance={self.guidance:g})"

    def __call__(self, x: Array, t: float | Tensor | np.ndarray, **given: object) -> Array:
        """Return the velocity at states x and times t, with the array type and precision of x.

        Args:
            x: States [n, ...], or a dict of leaves.
            t: One time, or times [n].
            given: Conditions: one class by name or number, or [n] of them. Missing conditions use the null value.

        Raises:
            UsageError: If a condition or class is unknown, a missing condition has no null value, a time lies outside
                [0, 1], or a state has a wrong shape.
        """
        weight = next(self.model.network.parameters())
        state = tree_map(lambda leaf: torch.as_tensor(leaf, device=weight.device).to(weight.dtype), x)
        self._check_shape(state)
        n = num_examples(state)
        t_tensor = torch.as_tensor(t, dtype=weight.dtype, device=weight.device)
        if t_tensor.ndim > 1 or (t_tensor.ndim == 1 and len(t_tensor) != n):
            raise UsageError(f"one time, or {n} times", f"times {list(t_tensor.shape)}")
        if not bool(((t_tensor >= 0) & (t_tensor <= 1)).all()):
            raise UsageError(
                "times in [0, 1], from source to data", f"{t_tensor.min():g} to {t_tensor.max():g}", argument="t"
            )
        times = t_tensor.expand(n)
        conditions = tree_map(lambda leaf: leaf.to(weight.device), self._conditions(n, given))
        process = self.model.spec.path.process(self.network, conditions)
        needs_grad = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves(x))
        with torch.enable_grad() if needs_grad else torch.no_grad(), evaluation_mode(self.model.network):
            v = tree_map(lambda characteristics: characteristics.velocity, process(state, times))
        return tree_map(_like, v, x)

    def _check_shape(self, state: State) -> None:
        """Raise a UsageError if states have a wrong shape, which a network might accept."""
        shape = tree_map(lambda leaf: ["n", *leaf.shape[1:]] if leaf.ndim else [], state)
        if shape != self._shape:
            expected, found = (str(value).replace("'", "") for value in (self._shape, shape))
            raise UsageError(f"states of shape {expected} for this model", found)

    @functools.cached_property
    def _shape(self) -> State:
        """Shape of the model's states as text for errors, such as ["n", 2], for each leaf."""
        return tree_map(lambda leaf: ["n", *leaf.shape[1:]], self.source(1))

    def source(self, n: int, seed: int = 0) -> State:
        """Sample n states at t = 0 as tensors; `Model.sample` with `Rng(seed)` starts from the same states."""
        spec = self.model.spec
        return spec.path.initial_state(spec.space.sample_base(n, Rng(seed).stream("source")))

    def decode(self, x: State) -> State:
        """Decode states at t = 1 to data units, as tensors."""
        return self.model.spec.modality.decode(tree_map(torch.as_tensor, x))

    def encode(self, values: State) -> State:
        """Encode values in data units as states, as tensors."""
        return self.model.spec.modality.encode(tree_map(torch.as_tensor, values))

    def _conditions(self, n: int, given: dict[str, Any]) -> Cond:
        """Return the values of the given conditions, and null values for missing ones."""
        spec, cond = self.model.spec, {}
        for name, classes in spec.frequencies.items():
            value = given.pop(name, None)
            if value is None and not spec.cond_dropout:
                raise UsageError(f"this model needs the condition {name}", remedy="Pass this condition")
            cond[name] = torch.full((n,), len(classes)) if value is None else self._classes(name, value, n)
        for name, kind in spec.modality.selected_conditions.items():
            value = given.pop(name, None)
            if value is None and not spec.cond_dropout:
                raise UsageError(f"this model needs the condition {name}", remedy="Pass this condition")
            cond[name] = kind.null_values(n) if value is None else kind.parse(name, value, n)
        for name in [name for name in given if isinstance(given[name], Tensor | dict)]:
            cond[name] = given.pop(name)  # such as `valid`, which the model's modality would else derive
        if given:
            raise UsageError.unknown_name("given", sorted(given)[0], spec.condition_names)
        return {**spec.modality.add_derived_conditions(cond), **cond}

    def _classes(self, name: str, value: Any, n: int) -> Tensor:
        """Return the class numbers [n] of the condition `name`, from one or n class names or numbers."""
        spec = self.model.spec
        null = len(spec.frequencies[name])
        try:
            indices = torch.as_tensor(_class_indices(spec.modality, name, value))
            rounded = indices.round()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"{name} must be a class name, a class number, or a list of {n} class names or numbers",
                found=repr(value),
            ) from error
        if indices.ndim > 1 or (indices.ndim == 1 and len(indices) not in (1, n)):
            raise UsageError(f"one value of {name}, or {n} values, one per state", list(indices.shape))
        invalid = indices[~((indices >= 0) & (indices <= null) & (indices == rounded))]
        if len(invalid):
            raise UsageError(
                f"a class number from 0 to {null - 1}, or {null} for the null value", f"{invalid[0]:g}", argument=name
            )
        return indices.long().expand(n)


def velocity(model_or_run: Model | Run | str | os.PathLike[str], *, guidance: float = 1.0) -> VelocityField:
    """Return the velocity field of a model, or of a run with its EMA weights.

    Args:
        model_or_run: Model, run or run folder.
        guidance: Classifier-free guidance scale: 1 is conditional, 0 unconditional, above 1 sharper.

    Raises:
        UsageError: If the process has jumps or noise, or the model does not support guidance.
    """
    model = model_or_run if isinstance(model_or_run, Model) else load_model(model_or_run)
    return VelocityField(model, guidance)


def _like(velocity: Tensor, x: Any) -> Any:
    """Return a velocity as an array of the same library (torch or NumPy) and dtype as the state x."""
    if isinstance(x, Tensor):
        return velocity.to(device=x.device, dtype=x.dtype if x.is_floating_point() else velocity.dtype)
    dtype = np.asarray(x).dtype
    return velocity.cpu().numpy().astype(dtype if np.issubdtype(dtype, np.floating) else np.float32)


def _class_indices(modality: Modality, name: str, value: Any) -> Any:
    """Convert class names to indices, recursively."""
    if hasattr(value, "__array__") and not isinstance(value, Tensor):  # arrays and DataFrame columns
        array = np.asarray(value)
        value = array if array.dtype.kind in "iuf" else array.tolist()
    classes = modality.conditions.get(name, ())
    has_numeric_names = any(map(str.isdecimal, classes)) and classes != tuple(map(str, range(len(classes))))
    if has_numeric_names and hasattr(value, "tolist"):  # here numbers are class names, else indices
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_class_indices(modality, name, entry) for entry in value]
    if has_numeric_names and type(value) in (int, float) and math.isfinite(value) and value == int(value):
        value = str(int(value))
        value = len(classes) if value == str(len(classes)) and value not in classes else value  # the null value
    return modality.class_index(name, value) if isinstance(value, str) else value
