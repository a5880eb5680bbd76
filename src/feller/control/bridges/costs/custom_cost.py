"""State costs defined by user code."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from feller.control.bridges.costs.state_cost import PopulationDensity, StateCost, check_finite, require_population
from feller.core.errors import InputError, UsageError
from feller.core.user_code import qualified_name, user_frame


@dataclass(frozen=True)
class CustomCost(StateCost):
    """State cost computed by a user's function of torch tensors.

    The signature is V(x, t) with x [n, d] and t [n], or V(x, t, population) with x [times, n, d], t [times, 1] and a
    `PopulationDensity`. The function returns one value per state. UsageError if it takes neither two nor three
    arguments.
    """

    function: Callable[..., Any]
    shape: tuple[int, ...] | None = None
    """Shape of one state passed to the function, for example (1, 8, 8) for images; None for vectors."""
    has_gradient: bool = True
    """True if the function is differentiable; the function `check` sets this field."""

    def __post_init__(self) -> None:
        if _arguments(self.function) not in (2, 3):
            raise UsageError(
                "a function of (x, t) or (x, t, population)",
                f"{self._name} with {_arguments(self.function)} arguments",
                argument="cost",
            )

    @property
    def needs_population(self) -> bool:
        return _arguments(self.function) == 3

    @property
    def differentiable(self) -> bool:
        return self.has_gradient

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Evaluate the function.

        InputError if it does not return one value per state; UsageError if it needs the population and there is none.
        """
        states = x if self.has_gradient else x.detach()
        if self.needs_population:
            x_user, arguments = states, (t, require_population(population, self._name))
        else:
            x_user, arguments = states.reshape(-1, x.shape[-1]), (t.expand(x.shape[:-1]).reshape(-1),)
        expected_shape = x_user.shape[:-1]
        if self.shape is not None:
            x_user = x_user.unflatten(-1, self.shape)
        values = self._call_user(x_user, arguments)
        if values.shape != expected_shape:
            raise InputError(
                f"one value per state from the cost {self._name}, shape {list(expected_shape)} for states of shape"
                f" {list(x_user.shape)}",
                list(values.shape),
            )
        return values.reshape(x.shape[:-1]).to(x.dtype)

    def _call_user(self, x: Tensor, arguments: tuple[Any, ...]) -> Tensor:
        """Call the function; InputError if it fails, modifies its input or returns complex values."""
        version = x._version
        try:
            output = self.function(x, *arguments)
        except InputError:
            raise
        except Exception as error:
            if "requires grad" in str(error):  # torch's error when numpy gets a tensor with gradients
                raise
            output = user_frame(error) or f"{type(error).__name__}: {error}"
            raise InputError(f"the cost {self._name} raised an error: {output}") from error
        values = self._numbers(output, x)
        if x._version != version:
            raise InputError(f"the cost {self._name} modifies its input in place", remedy="Return a new tensor")
        if values.is_complex():
            raise InputError(f"real values from the cost {self._name}", values.dtype)
        return values

    def _numbers(self, output: Any, x: Tensor) -> Tensor:
        """Convert the result of the user's function to a tensor on the device of x; InputError if that fails."""
        try:
            return torch.as_tensor(output, device=x.device)
        except Exception as error:
            if "requires grad" in str(error):
                raise
            description = "None" if output is None else f"a {type(output).__name__}"
            raise InputError(f"a tensor with one value per state from the cost {self._name}", description) from error

    def validated(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        cost = self if self._has_gradient(x, t, population) else replace(self, has_gradient=False)
        check_finite(cost, x, t, population)
        return cost

    def _has_gradient(self, x: Tensor, t: Tensor, population: PopulationDensity | None) -> bool:
        """Return True if the user's function can be differentiated by autograd.

        A gradient that is 0 everywhere although the values differ counts as missing.
        """
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            try:
                values = self(y, t, population)
            except RuntimeError as error:
                if "requires grad" in str(error):  # torch's error when numpy gets a tensor with gradients
                    return False
                raise
            if not values.requires_grad:
                return False
            (grad,) = torch.autograd.grad(values.sum(), y, allow_unused=True)
        is_flat = grad is None or not grad.any()
        return not (is_flat and bool((values != values.flatten()[0]).any()))

    @property
    def _name(self) -> str:
        return qualified_name(self.function)


def _arguments(function: Callable[..., Any]) -> int:
    """Return the number of positional arguments of a function that have no default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.kind in kinds and parameter.default is inspect.Parameter.empty for parameter in parameters)
