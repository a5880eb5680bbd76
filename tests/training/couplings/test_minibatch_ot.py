"""Exact minibatch optimal transport."""

import itertools
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.spaces import Euclidean, Product, Sphere, Tokens, Torus
from feller.training.couplings import (
    Coupling,
    GeodesicCost,
    MinibatchOT,
    SquaredDistance,
    linear_assignment,
    optimal_permutation,
)
from tests.errors import refuses
from tests.oracle import F64, close, column

X_0 = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
X_1 = torch.tensor([[1.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
DRAW = Rng(0).stream("coupling")


def test_vector_of_costs() -> None:
    """Cost 7, where the identity costs 17; two permutations have it: sources (2, 0, 1) or (0, 2, 1)."""
    close(SquaredDistance()(X_0.double(), X_1, {}), [[2, 1, 9], [1, 2, 4], [2, 1, 13]], 1e-12)
    assert optimal_permutation(X_0, X_1).tolist() in ([2, 0, 1], [0, 2, 1])
    x_0 = MinibatchOT()(X_0, X_1, {}, DRAW)
    assert (x_0 - X_1).square().sum().item() == 7
    assert (X_0 - X_1).square().sum().item() == 17


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
def test_permutation_is_optimal(seed: int, n: int, d: int) -> None:
    x_0, x_1 = (Rng(seed).stream(name).normal((n, d)) for name in ("a", "b"))
    ours = (x_0[optimal_permutation(x_0, x_1)] - x_1).square().sum()
    best = min((x_0[list(p)] - x_1).square().sum() for p in itertools.permutations(range(n)))
    assert ours <= best + 1e-5


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_assignment_is_optimal_for_any_cost(seed: int, n: int) -> None:
    cost = Rng(seed).stream("cost").normal((n, n), F64)
    ours = cost[linear_assignment(cost), torch.arange(n)].sum()
    best = min(cost[list(p), torch.arange(n)].sum() for p in itertools.permutations(range(n)))
    assert ours <= best + 1e-12


def test_blocks_are_independent() -> None:
    x_0, x_1 = (Rng(1).stream(name).normal((10, 2)) for name in ("a", "b"))
    whole = MinibatchOT(4)(x_0, x_1, {}, DRAW)
    parts = [MinibatchOT(None)(x_0[i : i + 4], x_1[i : i + 4], {}, DRAW) for i in (0, 4, 8)]
    assert torch.equal(whole, torch.cat(parts))


def test_padding_has_no_cost() -> None:
    x_0, x_1 = (Rng(2).stream(name).normal((4, 3, 2), F64) for name in ("a", "b"))
    valid = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [False, False, False]])
    x_1[~valid] = math.nan
    cost = SquaredDistance()(x_0, x_1, {"valid": valid})
    for i, j in itertools.product(range(4), range(4)):
        close(cost[i, j], (x_0[i] - x_1[j])[valid[j]].square().sum(), 1e-12)


def test_squared_distances_of_far_points_are_accurate() -> None:
    """Differences of costs that are 1e6 and more, as pictures in pixel units have them."""
    x_0, x_1 = column(0.0, 1.0) + 1e3, column(1.1, 0.1) + 1e3
    assert optimal_permutation(x_0, x_1).tolist() == [1, 0]
    close(SquaredDistance()(x_0, x_1, {}), [[1.21, 0.01], [0.01, 0.81]], 1e-9)
    close(SquaredDistance()(x_0.float(), x_1.float(), {}), [[1.21, 0.01], [0.01, 0.81]], 1e-3)


def test_transport_on_a_circle_wraps_around() -> None:
    """0.1 is near 6.2; on the line the order would be kept."""
    x_0, x_1 = column(0.1, 3.0), column(3.1, 6.2)
    around = MinibatchOT(cost=GeodesicCost(Torus()))(x_0, x_1, {}, DRAW)
    assert around[:, 0].tolist() == [3.0, 0.1]
    assert MinibatchOT()(x_0, x_1, {}, DRAW)[:, 0].tolist() == [0.1, 3.0]
    close(GeodesicCost(Torus())(x_0, x_1, {})[0, 1], (0.1 + 2 * math.pi - 6.2) ** 2, 1e-12)


def test_geodesic_costs_are_squared_distances_of_all_pairs() -> None:
    space = Product({"a": Sphere(), "b": Euclidean((2,))})
    x_0, x_1 = (space.sample_base(n, Rng(0).stream(name)) for n, name in ((3, "x"), (4, "y")))
    cost = GeodesicCost(space)(x_0, x_1, {})
    for i, j in itertools.product(range(3), range(4)):
        angle = torch.acos((x_0["a"][i] * x_1["a"][j]).sum())
        close(cost[i, j].float(), angle**2 + (x_0["b"][i] - x_1["b"][j]).square().sum(), 1e-4)
    flat = GeodesicCost(Euclidean((2,)))(x_0["b"], x_1["b"], {})
    close(flat, SquaredDistance()(x_0["b"].double(), x_1["b"], {}), 1e-12)


def test_geodesic_costs_refuse_padding() -> None:
    with refuses(ValueError):
        GeodesicCost(Torus())(column(0.0), column(0.0), {"valid": torch.ones(1, 1, dtype=torch.bool)})


def test_geodesic_costs_need_a_geometry() -> None:
    with refuses(UsageError):
        GeodesicCost(Tokens(4))


def test_records_round_trip() -> None:
    assert from_dict(Coupling, {"is": "MinibatchOT", "block_size": 128}) == MinibatchOT(128)
    geodesic = MinibatchOT(cost=GeodesicCost(Torus((2,))))
    assert from_dict(Coupling, to_dict(geodesic)) == geodesic
