"""What every objective keeps: all randomness in `draw`, a loss that comes apart by example, rows on their own."""

from typing import Any

import pytest
import torch

from feller.core.gradient import Gradient, MeanGradient
from feller.core.pytree import leaves, tree_map
from feller.core.rng import Rng
from feller.evaluation.conformance import check_objective
from feller.training.objective import Objective
from tests.oracle import close
from tests.properties.examples import Case, ObjectiveCase, cases

OBJECTIVES = cases(Objective)
N = 6


def batch(case: ObjectiveCase, n: int = N) -> dict[str, Any]:
    return case.batch(n, Rng(0).stream("batch"))


def example(case: ObjectiveCase, seed: int = 1) -> dict[str, Any]:
    return case.kind.draw(batch(case), Rng(seed), case.network())


@pytest.mark.parametrize("case", cases(Objective, when=lambda case: case.rows))
def test_rows_do_not_look_at_each_other(case: ObjectiveCase) -> None:
    """Two ranks with half the batch each draw what one rank does: what private training and resuming rest on."""
    whole = batch(case, 300)
    together = case.kind.draw(whole, Rng(1, global_batch_size=300), case.network())
    parts = [
        case.kind.draw(
            tree_map(lambda leaf, a=a, b=b: leaf[a:b], whole),
            Rng(1, first_example=a, global_batch_size=300),
            case.network(),
        )
        for a, b in ((0, 100), (100, 300))
    ]
    for ours, split in zip(leaves(together), leaves(tree_map(lambda *leaf: torch.cat(leaf), *parts)), strict=True):
        torch.testing.assert_close(ours, split, rtol=1e-4, atol=1e-5)  # batches of other sizes take other kernels


@pytest.mark.parametrize("gradient", cases(Gradient, when=lambda case: isinstance(case.kind, MeanGradient)))
def test_micro_batches_add_up(gradient: Case) -> None:
    """Three micro-batches leave the gradient of the whole, divided by the expected size; none leaves none."""
    case = OBJECTIVES[0].values[0]
    drawn, expected_size = example(case), 8.0
    networks = [case.network() for _ in range(3)]
    cuts = [[(0, N)], [(0, 1), (1, 4), (4, N)], []]
    values = [
        gradient.kind(
            case.kind.loss,
            network,
            [tree_map(lambda leaf, a=a, b=b: leaf[a:b], drawn) for a, b in cut],
            expected_size,
        )
        for network, cut in zip(networks, cuts, strict=True)
    ]
    close(values[1], values[0].item(), 1e-12)
    close(values[0], case.kind.loss(case.network(), drawn).sum().item() / expected_size, 1e-12)
    assert values[2].item() == 0
    for whole, parts, none in zip(*(network.parameters() for network in networks), strict=True):
        close(parts.grad, whole.grad, 1e-12)
        assert none.grad is None


@pytest.mark.parametrize("case", OBJECTIVES)
def test_conforms(case: ObjectiveCase) -> None:
    check_objective(case.kind, case.network(), batch(case), is_random=case.random, rows_independent=case.rows)
