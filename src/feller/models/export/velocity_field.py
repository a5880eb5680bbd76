"""A model's velocity as a plain function of arrays, for integrators and other programs."""

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
"""A tensor or an array of numpy, one entry per example along its first axis; or a dict of leaves."""


@dataclass(frozen=True, eq=False, repr=False)
class VelocityField:
    """v(x, t, **given), in states of the model per time; t = 0 is the source, t = 1 the data."""

    model: Model
    guidance: float = 1.0
    network: Network = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.model.family.check_flow()
        self.model.check_guidance(self.guidance)
        object.__setattr__(self, "network", cfg(self.model.network, self.guidance, droppable=self.model.droppable()))

    def __repr__(self) -> str:
        """Say of which model it is."""
        return f"velocity({self.model!r}, guidance={self.guidance:g})"

    def __call__(self, x: Array, t: float | Tensor | np.ndarray, **given: object) -> Array:
        """Return the velocity at states x and times t: tensors for tensors, arrays for arrays, of their precision.

        Args:
            x: States [n, ...], or a dict of leaves.
            t: One time for all, or one for each, [n].
            given: Conditions: a class by its name or number, or one for each, [n]. One that is left out counts as not
                given.

        Raises:
            UsageError: If a condition or a class is unknown, or the model cannot do without one that is left out; if
                a time lies outside [0, 1], or a state has another shape than the model's.
        """
        weight = next(self.model.network.parameters())
        state = tree_map(lambda leaf: torch.as_tensor(leaf, device=weight.device).to(weight.dtype), x)
        self._check_shape(state)
        n = num_examples(state)
        t_tensor = torch.as_tensor(t, dtype=weight.dtype, device=weight.device)
        if t_tensor.ndim > 1 or (t_tensor.ndim == 1 and len(t_tensor) != n):
            raise UsageError(f"one time, or one for each of {n} states", f"times {list(t_tensor.shape)}")
        if not bool(((t_tensor >= 0) & (t_tensor <= 1)).all()):
            raise UsageError(
                "times in [0, 1], from source to data", f"{t_tensor.min():g} to {t_tensor.max():g}", argument="t"
            )
        times = t_tensor.expand(n)
        conditions = tree_map(lambda leaf: leaf.to(weight.device), self._conditions(n, given))
        process = self.model.spec.path.process(self.network, conditions)
        needs_grad = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves(x))
        with torch.enable_grad() if needs_grad else torch.no_grad(), evaluation_mode(self.model.network):
            v = tree_map(lambda now: now.velocity, process(state, times))
        return tree_map(_like, v, x)

    def _check_shape(self, state: State) -> None:
        """Refuse states of another shape than the model's, also where its network would answer."""
        shape = tree_map(lambda leaf: ["n", *leaf.shape[1:]] if leaf.ndim else [], state)
        if shape != self._shape:
            usual, got = (str(one).replace("'", "") for one in (self._shape, shape))
            raise UsageError(f"states {usual}", f"{got} of this model")

    @functools.cached_property
    def _shape(self) -> State:
        """Shape of the model's states, of each leaf."""
        return tree_map(lambda leaf: ["n", *leaf.shape[1:]], self.source(1))

    def source(self, n: int, seed: int = 0) -> State:
        """Draw n states at t = 0, as tensors: those from which `Model.sample` starts with `Rng(seed)`."""
        spec = self.model.spec
        return spec.path.initial_state(spec.space.sample_base(n, Rng(seed).stream("source")))

    def decode(self, x: State) -> State:
        """Turn states at t = 1 into values in the units of the data, as tensors."""
        return self.model.spec.modality.decode(tree_map(torch.as_tensor, x))

    def encode(self, values: State) -> State:
        """Turn values in the units of the data into states, as tensors."""
        return self.model.spec.modality.encode(tree_map(torch.as_tensor, values))

    def _conditions(self, n: int, given: dict[str, Any]) -> Cond:
        """Return numbers for names, and "not given" for what is left out."""
        spec, cond = self.model.spec, {}
        for name, shares in spec.frequencies.items():
            value = given.pop(name, None)
            if value is None and not spec.cond_dropout:
                raise UsageError(f"this model was not trained to do without {name}", remedy="Give it")
            cond[name] = torch.full((n,), len(shares)) if value is None else self._classes(name, value, n)
        for name in [name for name in given if isinstance(given[name], Tensor | dict)]:
            cond[name] = given.pop(name)  # such as `valid`, which the model's modality would else derive
        if given:
            raise UsageError.unknown_name("given", sorted(given)[0], spec.frequencies)
        return {**spec.modality.add_derived_conditions(cond), **cond}

    def _classes(self, name: str, value: Any, n: int) -> Tensor:
        """Return the number of a class for each of n states, of names or numbers."""
        spec = self.model.spec
        none = len(spec.frequencies[name])
        try:
            numbers = torch.as_tensor(_class_indices(spec.modality, name, value))
            whole = numbers.round()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"{name} is given by the name of a class, its number, or a list of {n} of them", found=repr(value)
            ) from error
        if numbers.ndim > 1 or (numbers.ndim == 1 and len(numbers) not in (1, n)):
            raise UsageError(f"one {name}, or one for each of {n} states", list(numbers.shape))
        wrong = numbers[~((numbers >= 0) & (numbers <= none) & (numbers == whole))]
        if len(wrong):
            raise UsageError(
                f"a class, a whole number from 0 to {none - 1}, or {none}: not given", f"{wrong[0]:g}", argument=name
            )
        return numbers.long().expand(n)


def velocity(model_or_run: Model | Run | str | os.PathLike[str], *, guidance: float = 1.0) -> VelocityField:
    """Return the velocity of a model, of a run, or of the run in a folder, with its average weights.

    Args:
        model_or_run: The model, the run or its folder.
        guidance: 1 is the plain conditional, 0 the unconditional, more sharpens.

    Raises:
        UsageError: If its process jumps or has noise, so that no velocity tells it, or guidance is not possible.
    """
    model = model_or_run if isinstance(model_or_run, Model) else load_model(model_or_run)
    return VelocityField(model, guidance)


def _like(velocity: Tensor, x: Any) -> Any:
    """Return a velocity as what the state is."""
    if isinstance(x, Tensor):
        return velocity.to(device=x.device, dtype=x.dtype if x.is_floating_point() else velocity.dtype)
    kind = np.asarray(x).dtype
    return velocity.cpu().numpy().astype(kind if np.issubdtype(kind, np.floating) else np.float32)


def _class_indices(modality: Modality, name: str, value: Any) -> Any:
    """Return positions of classes, of those that are named, too."""
    if hasattr(value, "__array__") and not isinstance(value, Tensor):  # arrays, and columns of a DataFrame
        array = np.asarray(value)
        value = array if array.dtype.kind in "iuf" else array.tolist()
    classes = modality.conditions.get(name, ())
    by_number = any(map(str.isdecimal, classes)) and classes != tuple(map(str, range(len(classes))))
    if by_number and hasattr(value, "tolist"):  # numbers are names, and positions otherwise
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_class_indices(modality, name, one) for one in value]
    if by_number and type(value) in (int, float) and math.isfinite(value) and value == int(value):
        value = str(int(value))
        value = len(classes) if value == str(len(classes)) and value not in classes else value  # "not given"
    return modality.class_index(name, value) if isinstance(value, str) else value
