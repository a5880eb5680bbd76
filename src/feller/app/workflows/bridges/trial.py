"""A cost tried on the members of populations and on places between them, before anything is written."""

import torch
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.bridges.bridge_run import Bridged
from feller.app.workflows.bridges.bridges_populations import Populations
from feller.control.bridges.costs import Cost, Population, check
from feller.control.bridges.population import Crowd
from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.data.loading.raw import about

TRIED = 256
"""Places between populations where a cost is tried."""


def tried(cost: Cost, bridged: Bridged, crowd: Populations, tell: Tell) -> Cost:
    """Return the cost, once it is known to be a finite number there.

    Raises:
        InputError: If it is no finite number somewhere, or members stand in a wall.
    """
    for name, states, share in zip(bridged.populations, crowd.states, bridged.shares, strict=True):
        x = states.flatten(1)
        for inside in cost.obstacles:
            _refuse_stuck(name, states, inside(x), crowd)
        with about(name):
            cost = check(cost, x[None], x.new_tensor([[share]]), _crowded(x[None]))
    draws = Draws(bridged.seed).named("trial")
    a, b = (Crowd(crowd.states[k])(TRIED, draws.named(k)).flatten(1) for k in (0, -1))
    way = torch.linspace(0, 1, 9, dtype=a.dtype)[:, None]
    between = torch.lerp(a, b, way[..., None])
    cost = check(cost, between, way, _crowded(between))
    if not cost.differentiable:
        tell.say(
            "the cost has no gradient, so paths are not bent by it: trajectories are weighed by it instead (--resample)"
        )
    return cost


def _crowded(x: Tensor) -> Population:
    """Return some crowd at each time, to try a cost with."""
    return Population(x.roll(1, 1), x, 1.0)


def _refuse_stuck(name: str, states: Tensor, inside: Tensor, crowd: Populations) -> None:
    """Refuse members inside an obstacle.

    Raises:
        InputError: If there are any; says which, and where.
    """
    stuck = inside.nonzero()[:, 0]
    if len(stuck):
        place = crowd.modality.decode(states[stuck[:1]]).flatten()[:4].tolist()
        raise InputError(
            f"{name}: member {int(stuck[0]) + 1} at ({', '.join(f'{entry:.4g}' for entry in place)}) is inside an"
            f" obstacle, where no path may begin or end, as are {len(stuck)} of {len(states):,}: move them, or move the"
            " obstacle (--frame, for a picture)"
        )
