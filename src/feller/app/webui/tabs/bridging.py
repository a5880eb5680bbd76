"""What a bridge was kept off or held to, as far as files say it: walls of pictures, and surfaces. Code is not run."""

import contextlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from feller.core.errors import InputError


def ground_of(bridged: Any, d: int) -> dict[str, Any]:
    """Return the fields of a `Scene` that tell of the ground, for states of d numbers; none if a file is gone.

    Args:
        bridged: What was asked of the bridge.
        d: Two for a plane, where there may be walls; three for space, where there may be a surface.
    """
    from feller.app.workflows.bridges.cost_names import changed, frame_of, surface_of, walls_of  # takes long to load

    if d == 3:
        with contextlib.suppress(InputError):
            surface = surface_of(bridged.costs)
            return {} if surface is None else {"surface": surface.numpy()}
    if d != 2 or changed(bridged.costs, bridged.code):
        return {}
    pictures = walls_of(bridged.costs, bridged.frame)

    def walls(places: Float[np.ndarray, "k 2"]) -> Bool[np.ndarray, " k"]:
        x = torch.from_numpy(places)
        return torch.stack([picture.inside(x) for picture in pictures]).any(0).numpy()

    return {"walls": walls, "frame": frame_of(bridged.costs, bridged.frame)} if pictures else {}
