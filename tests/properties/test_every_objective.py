"""What every objective keeps: all randomness in `draw`, a loss that comes apart by example, rows on their own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from feller.core.gradient import Gradient, Mean
from feller.core.pytree import leaves, tree_map
from feller.core.rng import Draws
from feller.training.objective import Objective
from tests.oracle import close
from tests.properties.examples import Case, ObjectiveCase, cases

OBJECTIVES = cases(Objective)
N = 6


def batch(case: ObjectiveCase, n: int = N) -> dict[str, Any]:
    return case.batch(n, Draws(0).at("batch"))


def example(case: ObjectiveCase, seed: int = 1) -> dict[str, Any]:
    return case.kind.draw(batch(case), Draws(seed), case.network())


def loss_of(case: ObjectiveCase, network: torch.nn.Module):
    """Return (weights, one example) -> its loss, as private training asks for it."""

    def one(weights: dict[str, Tensor], row: Any) -> Tensor:
        def call(*inputs: Any) -> Any:
            return torch.func.functional_call(network, weights, inputs)

        return case.kind.loss(call, tree_map(lambda leaf: leaf[None], row))[0]

    return one


@pytest.mark.parametrize("case", OBJECTIVES)
def test_loss_is_one_finite_number_per_example(case: ObjectiveCase) -> None:
    drawn = example(case)
    loss = case.kind.loss(case.network(), drawn)
    assert loss.shape == (len(next(leaves(drawn))),)
    assert loss.isfinite().all()
    assert all(len(leaf) == len(loss) for leaf in leaves(drawn))


@pytest.mark.parametrize("case", OBJECTIVES)
def test_loss_draws_nothing(case: ObjectiveCase) -> None:
    drawn, network = example(case), case.network()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = case.kind.loss(network, drawn)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, case.kind.loss(network, drawn))


@pytest.mark.parametrize("case", OBJECTIVES)
def test_draws_are_addressed(case: ObjectiveCase) -> None:
    """The same seed draws the same, another another, whatever torch's generator does."""
    torch.manual_seed(1)
    first = example(case)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(leaves(first), leaves(example(case)), strict=True))
    other = all(torch.equal(a, b) for a, b in zip(leaves(first), leaves(example(case, 2)), strict=True))
    assert other != case.random


@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_batch_is_left_alone(case: ObjectiveCase) -> None:
    given = batch(case)
    kept = tree_map(torch.clone, given)
    case.kind.draw(given, Draws(1), case.network())
    assert all(torch.equal(a, b) for a, b in zip(leaves(given), leaves(kept), strict=True))


@pytest.mark.parametrize("case", cases(Objective, when=lambda case: case.rows))
def test_rows_do_not_look_at_each_other(case: ObjectiveCase) -> None:
    """Two ranks with half the batch each draw what one rank does: what private training and resuming rest on."""
    whole = batch(case, 300)
    together = case.kind.draw(whole, Draws(1, total=300), case.network())
    parts = [
        case.kind.draw(tree_map(lambda leaf, a=a, b=b: leaf[a:b], whole), Draws(1, first=a, total=300), case.network())
        for a, b in ((0, 100), (100, 300))
    ]
    for ours, split in zip(leaves(together), leaves(tree_map(lambda *leaf: torch.cat(leaf), *parts)), strict=True):
        torch.testing.assert_close(ours, split, rtol=1e-4, atol=1e-5)  # batches of other sizes take other kernels


@pytest.mark.parametrize("case", OBJECTIVES)
def test_vmap_of_the_gradient_equals_a_loop(case: ObjectiveCase) -> None:
    """Per-example gradients of every weight, through network and loss."""
    network, drawn = case.network(), example(case)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    one = loss_of(case, network)
    together = torch.vmap(torch.func.grad(one), (None, 0))(weights, drawn)
    for row in range(len(next(leaves(drawn)))):
        network.zero_grad()
        alone = tree_map(lambda leaf, row=row: leaf[row : row + 1], drawn)
        case.kind.loss(network, alone).sum().backward()
        for name, weight in network.named_parameters():
            close(together[name][row], torch.zeros_like(weight) if weight.grad is None else weight.grad, 1e-10)
    assert any(gradient.abs().max() > 1e-6 for gradient in together.values())


@pytest.mark.parametrize("case", OBJECTIVES)
def test_gradient_is_that_of_finite_differences(case: ObjectiveCase) -> None:
    network, drawn = case.network(), example(case)
    case.kind.loss(network, drawn).sum().backward()
    weight = max(network.parameters(), key=lambda weight: weight.grad.abs().max().item())
    place, h, sums = weight.grad.abs().argmax(), 1e-6, []
    for step in (h, -2 * h):
        with torch.no_grad():
            weight.view(-1)[place] += step
            sums.append(case.kind.loss(network, drawn).sum().item())
    expected = weight.grad.view(-1)[place].item()
    assert (sums[0] - sums[1]) / (2 * h) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gradient", cases(Gradient, when=lambda case: isinstance(case.kind, Mean)))
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
