"""A cost that a person wrote."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from feller.control.bridges.costs.state_cost import Cost, Population, check_finite, needed
from feller.core.errors import InputError, UsageError
from feller.core.user_code import qualified_name, user_frame


@dataclass(frozen=True)
class Function(Cost):
    """A person's own function of torch tensors.

    V(x, t) is called with x [n, d] and t [n]; V(x, t, population) with x [times, n, d], t [times, 1] and what a
    `Population` holds. Either returns one number for each state. UsageError if it takes neither two nor three
    arguments.
    """

    function: Callable[..., Any]
    shape: tuple[int, ...] | None = None
    """Of one state as the function wants it, as (1, 8, 8) for a picture; None for vectors."""
    gradient: bool = True
    """Whether it has a gradient; `check` finds out."""

    def __post_init__(self) -> None:
        if _arguments(self.function) not in (2, 3):
            raise UsageError(
                f"a cost function takes (x, t) or (x, t, population), and {self._name} takes"
                f" {_arguments(self.function)} arguments"
            )

    @property
    def crowd(self) -> bool:
        """Whether it takes a third argument."""
        return _arguments(self.function) == 3

    @property
    def differentiable(self) -> bool:
        """Whether it has a gradient."""
        return self.gradient

    def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
        """Return what it says.

        InputError if it returns anything but one number for each state; UsageError if it looks at the crowd, and there
        is none.
        """
        seen = x if self.gradient else x.detach()
        if self.crowd:
            asked, arguments = seen, (t, needed(population, self._name))
        else:
            asked, arguments = seen.reshape(-1, x.shape[-1]), (t.expand(x.shape[:-1]).reshape(-1),)
        wanted = asked.shape[:-1]
        if self.shape is not None:
            asked = asked.unflatten(-1, self.shape)
        found = self._asked(asked, arguments)
        if found.shape != wanted:
            raise InputError(
                f"the cost {self._name} to return one number for each state: {list(wanted)} of states"
                f" {list(asked.shape)}",
                list(found.shape),
            )
        return found.reshape(x.shape[:-1]).to(x.dtype)

    def _asked(self, x: Tensor, arguments: tuple[Any, ...]) -> Tensor:
        """Call the person's function; InputError if it fails, returns no real numbers, or writes into its states."""
        version = x._version
        try:
            said = self.function(x, *arguments)
        except InputError:
            raise
        except Exception as error:
            if "requires grad" in str(error):  # what torch says to numpy, which knows no gradients
                raise
            said = user_frame(error) or f"{type(error).__name__}: {error}"
            raise InputError(f"the cost {self._name} fails: {said}") from error
        found = self._numbers(said, x)
        if x._version != version:
            raise InputError(
                f"the cost {self._name} writes into the states that it is given", remedy="Let it return new numbers"
            )
        if found.is_complex():
            raise InputError(f"the cost {self._name} to return real numbers", found.dtype)
        return found

    def _numbers(self, said: Any, x: Tensor) -> Tensor:
        """Return what the person's function said as numbers; InputError if it is none."""
        try:
            return torch.as_tensor(said, device=x.device)
        except Exception as error:
            if "requires grad" in str(error):
                raise
            got = "None" if said is None else f"a {type(said).__name__}"
            raise InputError(f"the cost {self._name} to return a tensor with one number for each state", got) from error

    def examined(self, x: Tensor, t: Tensor, population: Population | None = None) -> Cost:
        """Find out whether it has a gradient, and check that all is finite."""
        one = self if self._has_gradient(x, t, population) else replace(self, gradient=False)
        check_finite(one, x, t, population)
        return one

    def _has_gradient(self, x: Tensor, t: Tensor, population: Population | None) -> bool:
        """Tell whether the gradient is known and, where the values differ, not zero everywhere."""
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            try:
                values = self(y, t, population)
            except RuntimeError as error:
                if "requires grad" in str(error):  # what torch says to numpy, which knows no gradients
                    return False
                raise
            if not values.requires_grad:
                return False
            (slope,) = torch.autograd.grad(values.sum(), y, allow_unused=True)
        flat = slope is None or not slope.any()
        return not (flat and bool((values != values.flatten()[0]).any()))

    @property
    def _name(self) -> str:
        return qualified_name(self.function)


def _arguments(function: Callable[..., Any]) -> int:
    """Count the arguments that a function must be given, in order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return sum(one.kind in kinds and one.default is inspect.Parameter.empty for one in found)
