"""Where paths leave what is known of a surface."""

import numpy as np
import torch
from scipy.spatial import KDTree

from feller.app.workflows.bridges.bridge_run import Bridged
from feller.app.workflows.bridges.bridges_populations import Populations
from feller.app.workflows.bridges.cost_names import surface_of
from feller.app.workflows.bridges.trajectory_files import values_of
from feller.control.bridges.trajectories import Walk

NEIGHBOURS, TRIED = 20, 5000
"""Points that a plane goes through, and points of a surface whose neighbours tell how far that is."""
USUAL = 0.99
"""Quantile of the distances to the last neighbour beyond which a place is outside."""


def outside(bridged: Bridged, crowd: Populations, walked: Walk) -> float | None:
    """Return which share of the time of all paths is outside of the surface of a cost; None without any.

    Outside is, seen from above, farther from the nearest point than nearly all points are from the last of those that
    their planes go through: at the rim too, or in a hole.
    """
    cloud = surface_of(bridged.costs) if tuple(crowd.states[0].shape[1:]) == (3,) else None
    if cloud is None:
        return None
    above = cloud[:, :2].numpy()
    tree = KDTree(above)
    some = above[:: -(-len(above) // TRIED)]
    reach = np.quantile(tree.query(some, min(NEIGHBOURS + 1, len(above)))[0][:, -1], USUAL)
    places = values_of(crowd.modality, walked.states)[..., :2]
    away = tree.query(places.reshape(-1, 2))[0].reshape(places.shape[:2]) > reach
    share = torch.trapezoid(torch.from_numpy(away.mean(0)), torch.tensor(walked.times, dtype=torch.float64))
    return float(share) / (walked.times[-1] - walked.times[0])
