"""Properties of every loss."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import Rng
from feller.training.losses import Loss
from tests.oracle import F64, close
from tests.properties.examples import LossCase, cases

LOSSES = cases(Loss)
N = 7


def inputs(case: LossCase, n: int = N) -> tuple[State, State, State, State]:
    return case.inputs(n, Rng(0).stream("inputs"))


@pytest.mark.parametrize("case", LOSSES)
def test_one_nonnegative_loss_per_example(case: LossCase) -> None:
    loss = case.kind(*inputs(case, 50))
    assert loss.shape == (50,)
    assert (loss >= 0).all()
    assert (loss > 0).any()


@pytest.mark.parametrize("case", LOSSES)
def test_zero_at_the_target(case: LossCase) -> None:
    _, target, x_t, t = inputs(case)
    close(case.kind(case.truth(target), target, x_t, t), torch.zeros(N), 1e-12)


@pytest.mark.parametrize("case", LOSSES)
def test_rows_are_independent(case: LossCase) -> None:
    together = case.kind(*inputs(case))
    for row in range(N):
        one = [tree_map(lambda leaf, row=row: leaf[row : row + 1], tree) for tree in inputs(case)]
        close(case.kind(*one), together[row : row + 1], 1e-12)


@pytest.mark.parametrize("case", LOSSES)
def test_vmap_of_the_gradient_equals_a_loop(case: LossCase) -> None:
    prediction, target, x_t, t = inputs(case)

    def one(prediction: State, target: State, x_t: State, t: State) -> Tensor:
        return case.kind(*(tree_map(lambda leaf: leaf[None], tree) for tree in (prediction, target, x_t, t)))[0]

    together = torch.vmap(torch.func.grad(one))(prediction, target, x_t, t)
    leaf = tree_map(lambda leaf: leaf.clone().requires_grad_(), prediction)
    case.kind(leaf, target, x_t, t).sum().backward()
    for ours, expected in zip(leaves(together), leaves(leaf), strict=True):
        close(ours, expected.grad, 1e-12)


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -1e30])
@pytest.mark.parametrize("case", LOSSES)
def test_padding_changes_nothing(case: LossCase, rubbish: float) -> None:
    """Pad every example to 8 entries with rubbish: the same numbers, the same gradients, none on the padding."""
    prediction, target, x_t, t = inputs(case)

    def pad(leaf: Tensor) -> Tensor:
        """Append 3 invalid entries: NaN, or symbols out of range."""
        filling = rubbish if leaf.is_floating_point() else -(10**6)
        return torch.cat([leaf, torch.full((N, 3, *leaf.shape[2:]), filling, dtype=leaf.dtype)], 1)

    valid = (torch.arange(8) < 5).expand(N, 8)
    plain = tree_map(lambda leaf: leaf.clone().requires_grad_(), prediction)
    padded = tree_map(lambda leaf: pad(leaf).requires_grad_(), prediction)
    values = case.kind(plain, target, x_t, t), case.kind(padded, tree_map(pad, target), tree_map(pad, x_t), t, valid)
    close(values[1], values[0].detach(), 1e-12)
    for value in values:
        value.sum().backward()
    for a, b in zip(leaves(plain), leaves(padded), strict=True):
        close(b.grad[:, :5], a.grad, 1e-12)
        assert (b.grad[:, 5:] == 0).all()


@pytest.mark.parametrize("case", LOSSES)
def test_invalid_entries_are_ignored(case: LossCase) -> None:
    """With 2 of 5 entries valid the loss is that of those two; without any it is zero."""
    valid = torch.zeros(N, 5, dtype=torch.bool)
    assert case.kind(*inputs(case), valid).tolist() == [0] * N
    valid[:, :2] = True
    *trees, t = inputs(case)
    short = [tree_map(lambda leaf: leaf[:, :2], tree) for tree in trees]
    close(case.kind(*inputs(case), valid), case.kind(*short, t), 1e-12)


def shares(target: State, weights: Tensor, case: LossCase) -> State:
    """Return the prediction that states the mean of targets [k, ...]: numbers, or logits of their shares."""

    def numbers(leaf: Tensor) -> Tensor:
        return torch.einsum("k,k...->...", weights, leaf) if leaf.is_floating_point() else leaf

    def mean(leaf: Tensor, certain: Tensor) -> Tensor:
        if leaf.is_floating_point():
            return certain
        one_hot = torch.nn.functional.one_hot(leaf, certain.shape[-1]).double()
        return torch.einsum("k,k...->...", weights, one_hot).clamp(min=1e-300).log()

    return tree_map(mean, target, case.truth(tree_map(numbers, target)))


@pytest.mark.parametrize("case", LOSSES)
def test_minimiser_is_the_conditional_mean(case: LossCase) -> None:
    """For a law of 9 targets at one state: no gradient at their mean, and more loss anywhere around it.

    With a loss that is no Bregman divergence the mean has a gradient, which shows that the test can fail.
    """
    k = 9
    _, target, x_t, t = inputs(case, k)
    x_t, t = (tree_map(lambda leaf: leaf[:1].expand(leaf.shape), tree) for tree in (x_t, t))
    weights = torch.linspace(1, 3, k, dtype=F64)
    weights = weights / weights.sum()
    best = shares(target, weights, case)

    def expected(prediction: State) -> Tensor:
        repeated = tree_map(lambda leaf: leaf[None].expand(k, *leaf.shape), prediction)
        return weights @ case.kind(repeated, target, x_t, t)

    leaf = tree_map(lambda leaf: leaf.clone().requires_grad_(), best)
    expected(leaf).backward()
    slope = max(part.grad.abs().max().item() for part in leaves(leaf))
    if not case.bregman:
        assert slope > 1e-3
        return
    assert slope < 1e-12
    for seed in range(5):
        draw = Rng(seed).stream("step")
        away = tree_map(lambda leaf, draw=draw: leaf + 0.3 * draw.normal(leaf.shape, F64), best)
        assert expected(away) > expected(best)


@pytest.mark.parametrize("case", LOSSES)
def test_loss_is_convex_in_the_prediction(case: LossCase) -> None:
    prediction, target, x_t, t = inputs(case)
    other = tree_map(lambda leaf: leaf.flip(0), prediction)
    values = torch.stack(
        [
            case.kind(tree_map(lambda a, b, w=w: torch.lerp(a, b, w), prediction, other), target, x_t, t)
            for w in torch.linspace(0, 1, 11, dtype=F64)
        ]
    )
    for a, b in pairwise(values.diff(dim=0)):
        assert (b - a > -1e-12).all()


@pytest.mark.parametrize("case", LOSSES)
def test_single_precision(case: LossCase) -> None:
    prediction, target, x_t, t = inputs(case)
    single = [
        tree_map(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, tree)
        for tree in (prediction, target, x_t, t)
    ]
    loss = case.kind(*single)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), case.kind(prediction, target, x_t, t), rtol=1e-5, atol=1e-6)
