"""Properties of every coupling; `EquivariantOT`, which rearranges points within examples, has its own tests."""

import pytest
import torch

from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.training.couplings import ClassConditional, Coupling, EquivariantOT, SinkhornCoupling, UnbalancedOT
from tests.properties.examples import Case, cases

COUPLINGS = cases(Coupling, when=lambda case: not isinstance(case.kind, EquivariantOT))
PERMUTATIONS = cases(
    Coupling, when=lambda case: not isinstance(case.kind, EquivariantOT | SinkhornCoupling | UnbalancedOT)
)


def data(n: int, d: int = 2):
    draws = Rng(n)
    x_0, x_1 = draws.stream("a").normal((n, d)), 1 + draws.stream("b").normal((n, d))
    return x_0, x_1, {"label": draws.stream("c").randint(3, (n,))}


@pytest.mark.parametrize("n", [1, 2, 17, 300])
@pytest.mark.parametrize("case", PERMUTATIONS)
def test_couplings_are_permutations(case: Case, n: int) -> None:
    x_0, x_1, given = data(n)
    moved = case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    assert torch.equal(moved[:, 0].sort().values, x_0[:, 0].sort().values)
    index = (moved[:, None] == x_0[None]).all(-1).double()
    assert torch.equal(index.sum(0), torch.ones(n, dtype=torch.float64))
    assert torch.equal(index.sum(1), torch.ones(n, dtype=torch.float64))


@pytest.mark.parametrize("n", [2, 17, 300])
@pytest.mark.parametrize("case", PERMUTATIONS)
def test_cost_is_not_larger_than_the_identity(case: Case, n: int) -> None:
    x_0, x_1, given = data(n)
    moved = case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    assert (moved - x_1).square().sum() <= (x_0 - x_1).square().sum() + 1e-4


@pytest.mark.parametrize("case", COUPLINGS)
def test_every_partner_is_a_source_sample(case: Case) -> None:
    x_0, x_1, given = data(40)
    moved = case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    assert moved.shape == x_0.shape
    assert (moved[:, None] == x_0[None]).all(-1).any(1).all()


@pytest.mark.parametrize("case", COUPLINGS)
def test_inputs_are_unchanged(case: Case) -> None:
    x_0, x_1, given = data(40)
    before = x_0.clone(), x_1.clone(), given["label"].clone()
    case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    for now, then in zip((x_0, x_1, given["label"]), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("case", COUPLINGS)
def test_pairs_are_deterministic(case: Case) -> None:
    x_0, x_1, given = data(40)
    torch.manual_seed(1)
    first = case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    torch.manual_seed(2)
    assert torch.equal(first, case.kind(x_0, x_1, given, Rng(0).stream("coupling")))


@pytest.mark.parametrize("case", COUPLINGS)
def test_leaves_of_a_row_stay_together(case: Case) -> None:
    x_0, x_1, given = data(40)
    moved = case.kind({"a": x_0, "b": x_0 + 5}, {"a": x_1, "b": x_1 + 5}, given, Rng(0).stream("coupling"))
    torch.testing.assert_close(moved["b"], moved["a"] + 5)


@pytest.mark.parametrize("case", COUPLINGS)
def test_couplings_that_do_not_couple_examples_act_per_row(case: Case) -> None:
    if case.kind.couples_examples:
        return
    x_0, x_1, given = data(10)
    whole = case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    for i in range(10):
        one = tree_map(lambda leaf, i=i: leaf[i : i + 1], ({"a": x_0, "b": x_1}))
        alone = case.kind(one["a"], one["b"], {"label": given["label"][i : i + 1]}, Rng(0, i).stream("coupling"))
        assert torch.equal(whole[i : i + 1], alone)


@pytest.mark.parametrize("case", cases(Coupling, when=lambda case: isinstance(case.kind, ClassConditional)))
def test_classes_keep_their_source_samples(case: Case) -> None:
    x_0, x_1, given = data(60)
    moved = case.kind(x_0, x_1, given, Rng(0).stream("coupling"))
    for label in range(3):
        rows = given["label"] == label
        assert torch.equal(moved[rows][:, 0].sort().values, x_0[rows][:, 0].sort().values)
