"""Products: what a step of several leaves costs beside its network call, with and without a leaf that jumps."""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.networks.blocks.leaf_codecs import AngleCodec, LeafCodec, RealCodec, TokenCodec
from feller.networks.mlp import JointMLP
from feller.paths import (
    Affine,
    CircularBins,
    Geodesic,
    IntervalBins,
    JumpPath,
    Mixture,
    Path,
    ProductPath,
    VonMisesConditionalPath,
)
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, trajectory
from feller.spaces import Euclidean, MaskSource, Space, Tokens, Torus
from feller.spaces import Product as ProductSpace

N, SITES, SYMBOLS, STEPS = 1000, 5, 56, 16
"""Crystals of five sites, as perovskites are, and steps of a simulation."""
MILLISECONDS, SHARE = 1.0, 1.1
"""What a step may take: this beside so many network calls."""
SPACE = {
    "element": Tokens(SYMBOLS, (SITES,), MaskSource()),
    "place": Torus((SITES, 3)),
    "lattice": Euclidean((6,)),
}
PLAIN: dict[str, Path] = {
    "element": Mixture(source=MaskSource()),
    "place": Geodesic(SPACE["place"]),
    "lattice": Affine(),
}
LEAVES: dict[str, LeafCodec] = {"element": TokenCodec(SYMBOLS), "place": AngleCodec(), "lattice": RealCodec()}
BINS = 32
VARIANTS: dict[str, tuple[dict[str, Path], dict[str, LeafCodec]]] = {
    "element, place, lattice": (PLAIN, LEAVES),
    "the lattice jumps, 6 x 32 ends": (
        {**PLAIN, "lattice": JumpPath(endpoint_support=IntervalBins(-3.0, 3.0, BINS))},
        {**LEAVES, "lattice": RealCodec(num_bins=BINS)},
    ),
    "the places jump, 15 x 32 ends": (
        {**PLAIN, "place": JumpPath(conditional_path=VonMisesConditionalPath(), endpoint_support=CircularBins(BINS))},
        {**LEAVES, "place": AngleCodec(num_bins=BINS)},
    ),
}


def cases() -> Iterator[Case]:
    """A perceptron of all leaves drives every variant; the floor is as many calls of it."""
    space, shapes = ProductSpace(SPACE), {"element": (SITES,), "place": (SITES, 3), "lattice": (6,)}
    for name, (paths, leaves) in VARIANTS.items():
        network = JointMLP(leaves, width=384, depth=4).build(shapes, {}, Rng(0)).eval()
        with torch.no_grad():
            network.head.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
        yield case(name, ProductPath(paths), space, network)


def case(name: str, path: ProductPath, space: Space, network: nn.Module) -> Case:
    """Compare simulations with bare calls of the network at the same states."""
    x, times = space.sample_base(N, Rng(0).stream("source")), linear_grid(STEPS)
    process = path.process(network, {})
    states = [
        (t, state) for t, state in zip(times[1:-1], trajectory(process, x, times, Euler(space), Rng(0)), strict=False)
    ]

    def ours() -> None:
        for _ in trajectory(process, x, times, Euler(space), Rng(0)):
            pass

    def bare() -> None:
        for t, state in [(0.0, x), *states]:
            clock = torch.full((), t).expand(N)
            network(state, dict.fromkeys(state, clock), {})

    with torch.no_grad():
        call = _milliseconds(bare) / STEPS
    return Case(
        f"product, {name}, {N:,} examples, {STEPS} steps, one call {call:.3g} ms",
        {"feller": ours, "floor, the network alone": bare},
        7,
        max_floor_ratio=SHARE + MILLISECONDS / call,
    )


def _milliseconds(run: Callable[[], None], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        begin = time.process_time()
        run()
        taken.append(1e3 * (time.process_time() - begin))
    return statistics.median(taken)
