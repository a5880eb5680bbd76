"""Training pairs on the sphere."""

from collections.abc import Iterator

import torch
from flow_matching.path import GeodesicProbPath
from flow_matching.path.scheduler import CondOTScheduler
from flow_matching.utils.manifolds import Sphere as PeerSphere

from benchmarks.timing import Case
from feller.paths import Geodesic
from feller.spaces import Sphere


def bare(x_0: torch.Tensor, x_1: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return point and velocity by sines, without care for small angles."""
    cosine = (x_0 * x_1).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    sine, t = torch.sin(angle), t[:, None]
    a, b = (1 - t) * angle, t * angle
    x_t = (torch.sin(a) * x_0 + torch.sin(b) * x_1) / sine
    return x_t, angle * (torch.cos(b) * x_1 - torch.cos(a) * x_0) / sine


def cases() -> Iterator[Case]:
    """One case: 4,096 pairs on the sphere, state and velocity."""
    space = Sphere(2)
    torch.manual_seed(0)
    x_0, x_1, t = space.project(torch.randn(4096, 3)), space.project(torch.randn(4096, 3)), torch.rand(4096)
    path, peer = Geodesic(space), GeodesicProbPath(CondOTScheduler(), PeerSphere())

    yield Case(
        "geodesic training pair, sphere, 4,096 x 3",
        {
            "feller": lambda: path.sample_with_target(x_0, x_1, t),
            "flow_matching": lambda: peer.sample(x_0=x_0, x_1=x_1, t=t),
            "floor, inexact near 0 and pi": lambda: bare(x_0, x_1, t),
        },
        31,
        max_peer_ratio=0.15,
    )
