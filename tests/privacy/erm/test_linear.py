"""Private linear models: finite differences, the exact attack on digits, and that nobody errs less than is promised."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.erm.glm import LeastSquares, Logistic
from feller.privacy.erm.regularized_erm import ERMSolution, RegularizedERM, add_intercept, clip_rows, solve_erm
from feller.privacy.erm.weight_release import erm_leakage, reconstruct_rows, release_weights
from feller.privacy.leakage.reconstruction_bounds import eps2_added, eps2_replaced, mse_bound
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses
from tests.oracle import F64, f64

KINDS = [RegularizedERM(Logistic(), 0.02, 3.0), RegularizedERM(LeastSquares(1.0), 0.05, 3.0)]


def rows(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = Rng(seed).stream("rows")
    x = clip_rows(draw.normal((n, d), F64), 3.0)
    return x, (draw.uniform((n,), F64) < torch.sigmoid(x[:, 0])).double()


def zero_one() -> tuple[Tensor, Tensor]:
    """Return digits 0 and 1 of 8 by 8 pixels in [0, 1], after a constant."""
    pixels, labels = load_digits(return_X_y=True)
    which = labels < 2
    return add_intercept(torch.from_numpy(pixels[which] / 16)), torch.from_numpy(labels[which]).double()


def slope(ridge: RegularizedERM, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    """Return the gradient of the ridge as automatic differentiation finds it in the loss."""
    theta = theta.clone().requires_grad_()
    value = ridge.glm.loss(x @ theta, y).sum() + len(x) * ridge.l2 / 2 * theta.square().sum()
    return torch.autograd.grad(value, theta)[0]


@pytest.mark.parametrize("ridge", KINDS)
def test_minimum_has_zero_gradient_and_inverse_hessian(ridge: RegularizedERM) -> None:
    x, y = rows(50, 4)
    minimum = solve_erm(ridge, x, y)
    assert slope(ridge, x, y, minimum.theta).abs().max() < 1e-12
    weights = minimum.theta.clone()
    hessian = torch.autograd.functional.hessian(
        lambda w: ridge.glm.loss(x @ w, y).sum() + 50 * ridge.l2 / 2 * w.square().sum(), weights
    )
    assert minimum.inverse_hessian @ hessian == pytest.approx(torch.eye(4, dtype=F64), abs=1e-10)


def test_minimum_of_separable_rows() -> None:
    """Rows that a plane divides, far steps, hardly any decay: Newton alone would not come back."""
    x = add_intercept(f64(*(10.0 * i for i in range(-10, 11)))[:, None])
    y = (x[:, 1] > 0).double()
    ridge = RegularizedERM(Logistic(), 1e-7, 101.0)
    minimum = solve_erm(ridge, x, y)
    assert slope(ridge, x, y, minimum.theta).abs().max() < 1e-9
    alone = solve_erm(RegularizedERM(LeastSquares(1.0), 1.0, 2.0), f64(2.0)[:, None], f64(1.0))
    assert alone.theta.tolist() == pytest.approx([2 / 5])


@pytest.mark.parametrize("ridge", KINDS)
def test_row_and_label_jacobians(ridge: RegularizedERM) -> None:
    """Of the weights by a row's numbers and its label; the sizes are those of the Jacobians."""
    x, y = rows(30, 4)
    y = 0.1 + 0.8 * y
    minimum, h, noise = solve_erm(ridge, x, y), 1e-4, 0.3
    for i in (0, 7, 29):

        def weights(dx: Tensor, dy: float, i: int = i) -> Tensor:
            moved, labels = x.clone(), y.clone()
            moved[i] += dx
            labels[i] += dy
            wide = RegularizedERM(ridge.glm, ridge.l2, 10.0)
            return solve_erm(wide, moved, labels).theta

        def central(dx: Tensor, dy: float, h: float = h) -> Tensor:  # of order 4
            near = (weights(h * dx, h * dy) - weights(-h * dx, -h * dy)) / (2 * h)
            far = (weights(2 * h * dx, 2 * h * dy) - weights(-2 * h * dx, -2 * h * dy)) / (4 * h)
            return (4 * near - far) / 3

        zero = torch.zeros(4, dtype=F64)
        j_x = torch.stack([central(e, 0.0) for e in torch.eye(4, dtype=F64)], 1)
        j_y = central(zero, 1.0)
        assert minimum.row_jacobian(i) == pytest.approx(j_x, abs=1e-8)
        assert minimum.label_jacobian(i) == pytest.approx(j_y, abs=1e-8)
        told = erm_leakage(minimum, noise)
        assert told.rows.eta2[i].item() == pytest.approx(j_x.square().sum().item() / (4 * noise**2), rel=1e-7)
        assert told.labels.eta2[i].item() == pytest.approx(j_y.square().sum().item() / noise**2, rel=1e-7)
        some = erm_leakage(minimum, noise, torch.tensor([False, True, True, False]))
        assert some.rows.dim == 2
        assert some.rows.eta2[i].item() == pytest.approx(j_x[:, 1:3].square().sum().item() / (2 * noise**2), rel=1e-7)


@pytest.mark.parametrize("ridge", KINDS)
def test_sensitivity_bounds_all_neighbours(ridge: RegularizedERM) -> None:
    """Of a row by another, the worst that can be drawn, and of a row that comes; the expense says the same."""
    x, y = rows(12, 3)
    minimum = solve_erm(ridge, x, y)
    draw, far, near = Rng(4).stream("others"), 0.0, 0.0
    for _ in range(100):
        other = draw.normal((1, 3), F64)
        other = 3 * other / other.norm()
        label = draw.bernoulli(0.5, (1,)).double()
        moved = solve_erm(ridge, torch.cat([x[1:], other]), torch.cat([y[1:], label]))
        far = max(far, (moved.theta - minimum.theta).norm().item())
        less = solve_erm(ridge, x[1:], y[1:], n=12)
        near = max(near, (moved.theta - less.theta).norm().item())
    assert far <= ridge.sensitivity(12)
    assert near <= ridge.sensitivity(12) / 2
    noise = 0.2
    told = release_weights(minimum, noise, SeededNoise(0, "weights"))
    assert told.event.sigma == pytest.approx(2 * noise / ridge.sensitivity(12))
    assert eps2_replaced((told.event,)) == pytest.approx((ridge.sensitivity(12) / noise) ** 2)
    assert eps2_added((told.event,)) == pytest.approx((ridge.sensitivity(12) / noise) ** 2 / 4)


def test_sensitivity_is_nearly_attained() -> None:
    """One long row with either label, strong decay: a constant that is too small would be seen."""
    ridge = RegularizedERM(Logistic(), 10.0, 1.0)
    one = solve_erm(ridge, f64(1.0)[:, None], f64(0.0)).theta
    other = solve_erm(ridge, f64(1.0)[:, None], f64(1.0)).theta
    assert (one - other).norm().item() == pytest.approx(ridge.sensitivity(1) / 2, rel=0.05)
    assert ridge.sensitivity(1) == pytest.approx(0.2)


def test_epsilon_and_bound_of_the_paper() -> None:
    """12,665 digits of length 1 at most, decay and noise of 1e-2: order 2 spends 2.494, and the bound is 0.0225."""
    ridge = RegularizedERM(Logistic(), 1e-2, 1.0)
    spent = (ridge.sensitivity(12_665) / 1e-2) ** 2
    assert spent == pytest.approx(2.494, abs=5e-4)
    assert mse_bound(spent) == pytest.approx(0.0225, abs=5e-5)
    assert RegularizedERM(Logistic(), 1e-2, 9.0).sensitivity(12_665) == pytest.approx(9 * ridge.sensitivity(12_665))


def test_release_noise() -> None:
    """Its size, chance of a false alarm 1e-6; the epsilon of what is told is that of normal noise."""
    x, y = rows(40, 3)
    minimum = solve_erm(KINDS[0], x, y)
    noise = SeededNoise(0, "many")
    off = torch.stack([release_weights(minimum, 0.3, noise).theta - minimum.theta for _ in range(400)]).flatten()
    assert off.square().mean().item() == pytest.approx(0.09, rel=5 * math.sqrt(2 / len(off)))
    assert off.mean().abs().item() < 5 * 0.3 / math.sqrt(len(off))
    told = release_weights(minimum, 3.0, noise)
    assert compute_epsilon((told.event,), 1e-5) < compute_epsilon((release_weights(minimum, 1.0, noise).event,), 1e-5)


def test_reconstruction_without_noise_is_exact() -> None:
    """Every row of 360 digits, and its label, to 1e-10."""
    x, y = zero_one()
    ridge = RegularizedERM(Logistic(), 1e-2, x.norm(dim=1).max().item())
    minimum = solve_erm(ridge, x, y)
    found, labels = reconstruct_rows(ridge, x, y, minimum.theta[None])
    assert found.shape == (1, 360, 65)
    assert (found[0] - x).abs().max() < 1e-10
    assert (labels[0] - y).abs().max() < 1e-10
    x, y = rows(30, 4)
    x = add_intercept(x)
    ridge = RegularizedERM(LeastSquares(1.0), 0.05, 4.0)
    found, labels = reconstruct_rows(ridge, x, y, solve_erm(ridge, x, y).theta[None])
    assert (found[0] - x).abs().max() < 1e-10
    assert (labels[0] - y).abs().max() < 1e-10


@pytest.mark.parametrize(("decay", "alike", "above"), [(1e-2, 0.956, 2.2), (1e-3, 0.97, 12.0)])
def test_reconstruction_error_is_above_its_bound(decay: float, alike: float, above: float) -> None:
    """2,000 draws of noise: mean error and four standard errors are above the bound of every row, and follow it.

    Pixels are over the longest row, as in the reference, whose correlation of logarithms and median ratio are met.
    """
    x, y = zero_one()
    x = add_intercept(x[:, 1:] / x[:, 1:].norm(dim=1).max())
    ridge = RegularizedERM(Logistic(), decay, x.norm(dim=1).max().item())
    minimum, noise, draws = solve_erm(ridge, x, y), 1e-5, 2000
    bound = erm_leakage(minimum, noise, torch.arange(65) > 0).rows.mse_bound()
    source, total, squares = SeededNoise(0, "attack"), torch.zeros(360, dtype=F64), torch.zeros(360, dtype=F64)
    for _ in range(draws // 100):
        theta = minimum.theta + noise * source.normal((100, 65))
        found, _ = reconstruct_rows(ridge, x, y, theta)
        error = (found - x)[..., 1:].square().mean(2)
        total, squares = total + error.sum(0), squares + error.square().sum(0)
    mean = total / draws
    spread = ((squares / draws - mean**2) / draws).sqrt()
    assert (mean + 4 * spread >= bound).all()
    together = torch.corrcoef(torch.stack([mean.log(), bound.log()]))[0, 1].item()
    assert together > 0.9
    assert together == pytest.approx(alike, abs=0.006)
    assert (mean / bound).median().item() == pytest.approx(above, rel=0.03)


def test_clip_rows() -> None:
    short = clip_rows(f64(3.0, 4.0)[None], 1.0)
    assert short.tolist() == [pytest.approx([0.6, 0.8])]
    assert torch.equal(clip_rows(short, 5.0), short)
    assert isinstance(solve_erm(RegularizedERM(Logistic(), 1.0, 1.0), short, f64(1.0)), ERMSolution)


def test_invalid_problems() -> None:
    x, y, wide = f64(3.0, 4.0)[None], f64(1.0), RegularizedERM(Logistic(), 1.0, 5.0)
    for ridge, labels, found in (
        (RegularizedERM(Logistic(), 1.0, 1.0), y, "a row of larger norm"),
        (wide, f64(2.0), "a label outside this range"),
        (RegularizedERM(LeastSquares(1.0), 1.0, 5.0), f64(-2.0), "a label outside this range"),
        (wide, f64(1.0, 0.0), "2"),
    ):
        with refuses(UsageError, found=found):
            solve_erm(ridge, x, labels)
    for wrong in (0.0, -1.0, math.inf):
        with refuses(UsageError, argument="l2"):
            RegularizedERM(Logistic(), wrong, 1.0)
        with refuses(UsageError, argument="max_row_norm"):
            RegularizedERM(Logistic(), 1.0, wrong)
    with refuses(UsageError, argument="scale", found="0"):
        release_weights(solve_erm(wide, x, y), 0.0, SeededNoise(0))
    with refuses(UsageError, found="another value"):
        reconstruct_rows(wide, x, y, f64(0.1, 0.2)[None])
