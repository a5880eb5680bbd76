"""Dropout of conditions, for classifier-free guidance."""

from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Given
from feller.core.rng import Draws


def check_drop(drop: float) -> None:
    """Refuse what is no chance.

    Raises:
        UsageError: If it is not in [0, 1].
    """
    if not 0 <= drop <= 1:
        raise UsageError(f"drop is a chance, expected 0 to 1, got {drop:g}")


def drop_conditions(given: Given, nulls: dict[str, Any], chance: float, draws: Draws) -> Given:
    """Replace all conditions of some examples by "not given", so that the model can do without."""
    if not chance or not any(name in nulls for name in given):
        return given
    some = next(iter(given.values()))
    gone = draws.at("drop").uniform((len(some),), device=some.device) < chance

    def null(name: str, value: Tensor) -> Tensor:
        where = gone.reshape(-1, *(1,) * (value.ndim - 1))
        return torch.where(where, torch.full_like(value, nulls[name]), value)

    return {name: null(name, value) if name in nulls else value for name, value in given.items()}
