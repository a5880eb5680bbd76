"""Exact claims about schedules of mixtures."""

import math

import numpy as np
import torch
from torch import Tensor

from feller.paths import Mixture
from feller.paths.discrete.token_schedules import KineticOptimal
from feller.paths.schedules import Schedule
from feller.spaces import CategoricalSource
from feller_papers.claims import Claim, verdict
from feller_papers.kinetic_optimal.setting import Setting

MASSES = (0.0, 1 / 256, 1 / 17, 0.5, 0.9)
"""Source probability of the data token; 0 is a mask."""


def _speed(schedule: Schedule, mass: float, t: Tensor) -> Tensor:
    """Return the Fisher information of a mixture at times, for a source probability of the data token."""
    path, x_1 = Mixture(schedule, CategoricalSource((mass, 1 - mass))), torch.zeros(len(t), dtype=torch.long)
    return (path.log_probabilities(x_1, t, 2).exp() * path.time_derivative(x_1, t, 2) ** 2).sum(1)


def great_circle(setting: Setting) -> list[Claim]:
    """Return the claims of section 4: constant speed and energy 4 arccos(sqrt(mass))^2."""
    t, errors, speeds = torch.linspace(0.01, 0.99, 99, dtype=torch.float64), [], []
    for mass in MASSES:
        speed = _speed(KineticOptimal(mass), mass, t)
        speeds.append(((speed.max() - speed.min()) / speed.mean()).item())
        errors.append(abs(speed.mean().item() - 4 * math.acos(math.sqrt(mass)) ** 2))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    place = torch.as_tensor(nodes) / 2 + 0.5
    schedules = (KineticOptimal(0.5), KineticOptimal(1.0), KineticOptimal(0.0))
    totals = [(_speed(schedule, 0.5, place) @ torch.as_tensor(weights) / 2).item() for schedule in schedules]
    return [
        Claim(
            "The kinetic-optimal schedule of a mixture moves at constant speed on a great circle",
            "energy 4 arccos(sqrt(mass))^2, from 9.8696 for a mask to 0.4141 where the source has 0.9 at the data",
            f"speed varies by {max(speeds):.1e}; largest error of the energy {max(errors):.1e} over 5 masses",
            "no randomness",
            verdict(max(speeds) < 1e-9 and max(errors) < 1e-9),
        ),
        Claim(
            "The kinetic-optimal schedule depends on the source's mass at the data, and no other costs as little",
            "least energy",
            f"mass 1/2: its own {totals[0]:.4f}, that of mass 1 {totals[1]:.4f}, of a mask {totals[2]:.4f}",
            "no randomness",
            verdict(totals[0] < min(totals[1:])),
        ),
    ]
