"""Equivariant optimal transport of point clouds."""

import itertools

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.spaces import SO3
from feller.spaces.rotations import hat
from feller.training.couplings import EquivariantOT
from feller.training.couplings.equivariant_ot import assign_points, kabsch
from tests.errors import refuses

F64 = torch.float64
VALID = torch.arange(5) < torch.tensor([[5], [3], [1], [0]])


def clouds() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    draws = Rng(0)
    x_0 = {"place": draws.stream("a").normal((4, 5, 3), F64), "kind": torch.full((4, 5), 9)}
    x_1 = {"place": 2 + draws.stream("b").normal((4, 5, 3), F64), "kind": draws.stream("c").randint(4, (4, 5))}
    return x_0, x_1


def align(x_0: dict[str, Tensor], x_1: dict[str, Tensor], valid: Tensor | dict | None = VALID) -> Tensor:
    given = {} if valid is None else {"valid": valid}
    moved = EquivariantOT()(x_0, x_1, given, Rng(0).stream("coupling"))
    assert moved["kind"] is x_0["kind"]
    return moved["place"]


def test_alignment_is_a_rigid_motion_to_the_centre_of_the_data() -> None:
    x_0, x_1 = clouds()
    moved = align(x_0, x_1)
    for i in range(3):
        real = VALID[i]
        before, after = (torch.cdist(x[real], x[real]).flatten().sort().values for x in (x_0["place"][i], moved[i]))
        torch.testing.assert_close(after, before)
        torch.testing.assert_close(moved[i][real].mean(0), x_1["place"][i][real].mean(0))
        assert torch.equal(moved[i][~real], x_0["place"][i][~real])
    assert torch.equal(moved[3], x_0["place"][3])


def test_cost_is_below_that_of_any_permutation() -> None:
    x_0, x_1 = clouds()
    moved = align(x_0, x_1, None)
    data = x_1["place"] - x_1["place"].mean(1, keepdim=True)
    noise = x_0["place"] - x_0["place"].mean(1, keepdim=True)
    cost = (moved - x_1["place"]).square().sum((1, 2))
    for order in itertools.permutations(range(5)):
        assert (cost <= (noise[:, list(order)] - data).square().sum((1, 2)) + 1e-9).all()


def test_rotated_and_permuted_points_are_recovered() -> None:
    x_1 = clouds()[1]["place"][:1]
    middle = x_1.mean(1, keepdim=True)
    rotation = SO3().exp(torch.eye(3, dtype=F64)[None], hat(torch.tensor([[0.2, 0.1, 0.3]], dtype=F64)))
    noise = (x_1 - middle) @ rotation.mT + 7
    order = torch.tensor([3, 1, 4, 0, 2])
    x_0 = {"place": noise[:, order], "kind": torch.zeros(1, 5)}
    torch.testing.assert_close(align(x_0, {"place": x_1, "kind": torch.zeros(1, 5)}, None), x_1)


def test_assignment_is_optimal() -> None:
    x_0, x_1 = clouds()
    whole = torch.ones(4, 5, dtype=torch.bool)
    best = torch.take_along_dim(x_0["place"], assign_points(x_0["place"], x_1["place"], whole)[:, :, None], 1)
    cost = (best - x_1["place"]).square().sum((1, 2))
    for order in itertools.permutations(range(5)):
        assert (cost <= (x_0["place"][:, list(order)] - x_1["place"]).square().sum((1, 2)) + 1e-9).all()


def test_kabsch_is_optimal() -> None:
    x_0, x_1 = clouds()
    best = kabsch(x_0["place"], x_1["place"])
    torch.testing.assert_close(torch.linalg.det(best), torch.ones(4, dtype=F64))
    cost = (x_0["place"] @ best.mT - x_1["place"]).square().sum((1, 2))
    for other in SO3().sample_base(200, Rng(1).stream("others")).double():
        assert (cost <= (x_0["place"] @ other.mT - x_1["place"]).square().sum((1, 2)) + 1e-4).all()


def test_rows_are_independent() -> None:
    x_0, x_1 = clouds()
    whole = align(x_0, x_1)
    for i in range(4):
        rows = slice(i, i + 1)
        given = {"valid": {"place": VALID[rows]}}
        alone = [{name: leaf[rows] for name, leaf in x.items()} for x in (x_0, x_1)]
        one = EquivariantOT()(*alone, given, Rng(0).stream("x"))
        torch.testing.assert_close(one["place"], whole[rows])


def test_rounds_out_of_range_are_refused() -> None:
    with refuses(UsageError, argument="rounds", found="0"):
        EquivariantOT(rounds=0)
