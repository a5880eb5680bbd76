"""Operators: what they are by hand, their adjoints, and what is refused."""

import math

import pytest
import torch

from feller.control.inverse.operators import (
    Blur,
    CompressedSensing,
    CustomLinearOperator,
    CustomOperator,
    Downsample,
    Grayscale,
    Inpaint,
    LinearOperator,
    PhaseRetrieval,
    UnknownBlur,
    check_adjoint,
)
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from tests.errors import refuses
from tests.oracle import F64, close

HOLE = torch.zeros(1, 6, 4, dtype=torch.bool)
HOLE[:, 2:4] = True
LINEAR = [
    (Inpaint(HOLE), (1, 6, 4)),
    (Downsample(2), (1, 6, 4)),
    (Blur(0.8), (1, 6, 4)),
    (Grayscale(), (3, 4, 4)),
    (CompressedSensing(7), (1, 6, 4)),
]


@pytest.mark.parametrize(("operator", "shape"), LINEAR, ids=lambda value: type(value).__name__)
def test_adjoint_and_pseudo_inverse(operator: LinearOperator, shape: tuple[int, ...]) -> None:
    """Against the matrix: A^T, the pseudo-inverse, and the ridge estimate A^T (A A^T + ridge)^-1 y."""
    check_adjoint(operator, shape)
    d = math.prod(shape)
    matrix = operator(torch.eye(d, dtype=F64).reshape(d, *shape)).flatten(1).T
    x = Rng(0).stream("x").normal((3, *shape), F64)
    y = operator(x)
    close(y.flatten(1), (x.flatten(1) @ matrix.T).tolist(), 1e-12)
    close(operator.adjoint(y, x).flatten(1), (y.flatten(1) @ matrix).tolist(), 1e-12)
    pinned = torch.linalg.pinv(matrix, rtol=1e-9)
    near = y.flatten(1) @ pinned.T
    if not isinstance(operator, Blur):  # whose smallest eigenvalues take more steps than a picture is worth
        close(operator.pseudo_inverse(y, x).flatten(1), near.tolist(), 1e-6)
    y = Rng(0).stream("y").normal(tuple(y.shape), F64)  # outside of the range
    for ridge in (1e-3, 0.1, 10.0):
        inner = matrix @ matrix.T + ridge * torch.eye(len(matrix), dtype=F64)
        wanted = torch.linalg.solve(inner, operator.zero_unmeasured(y).flatten(1).T).T @ matrix
        close(operator.pseudo_inverse(y, x, ridge).flatten(1), wanted.tolist(), 1e-8)
        single = operator.pseudo_inverse(y.float(), x.float(), ridge).double()
        assert (single.flatten(1) - wanted).norm() < 1e-3 * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("width", [1.0, 2.0])
def test_pseudo_inverse_of_a_blur(width: float, dtype: torch.dtype) -> None:
    """Smallest singular values of 3e-3 and 1e-8: what is left of y in float32 is nearly nothing, and nothing grows."""
    x = Rng(0).stream("x").normal((4, 1, 16, 16), dtype)
    y = Blur(width)(x)
    found = Blur(width).pseudo_inverse(y, x)
    assert (Blur(width)(found) - y).square().mean().sqrt() < 2e-3
    assert found.norm() < 1.001 * x.norm()


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_pseudo_inverse_of_an_overdetermined_system(dtype: torch.dtype) -> None:
    """More sums than numbers, with noise: the least squares of numpy, and for the ridge the normal equations."""
    operator, x = CompressedSensing(260), Rng(0).stream("x").normal((3, 200), F64)
    matrix = operator(torch.eye(200, dtype=F64)).T
    y = operator(x) + 0.05 * Rng(1).stream("y").normal((3, 260), F64)
    wanted = torch.linalg.lstsq(matrix, y.T).solution.T
    found = operator.pseudo_inverse(y.to(dtype), x.to(dtype))
    close(found.double(), wanted.tolist(), 1e-3 if dtype == torch.float32 else 1e-8)
    inner = matrix.T @ matrix + 0.05**2 * torch.eye(200, dtype=F64)
    found = operator.pseudo_inverse(y.to(dtype), x.to(dtype), 0.05**2)
    close(
        found.double(), torch.linalg.solve(inner, matrix.T @ y.T).T.tolist(), 1e-4 if dtype == torch.float32 else 1e-8
    )


@pytest.mark.parametrize("inside", [7.0, math.nan, math.inf])
def test_pseudo_inverse_ignores_the_hole(inside: float) -> None:
    x = Rng(0).stream("x").normal((3, 1, 6, 4), torch.float32)
    y = torch.where(HOLE, inside, x)
    found = Inpaint(HOLE).pseudo_inverse(y, x)
    close(found, torch.where(HOLE, 0.0, x).tolist(), 1e-6)
    close(Inpaint(HOLE).pseudo_inverse(y, x, 0.25), (found / 1.25).tolist(), 1e-6)


def test_pseudo_inverse_of_zero_and_tiny_measurements() -> None:
    """Beside an example of which something is measured, whose result does not change; in tiny units, too."""
    y = torch.tensor([[0.0, 0.0], [1e-18, 2e-18]])
    found = CompressedSensing(2).pseudo_inverse(y, torch.zeros(2, 5))
    assert found[0].tolist() == [0.0] * 5
    close(CompressedSensing(2)(found)[1] * 1e18, [1.0, 2.0], 1e-4)


def test_values_of_operators() -> None:
    x = torch.arange(16, dtype=F64).reshape(1, 1, 4, 4)
    close(Downsample(2)(x)[0, 0], [[2.5, 4.5], [10.5, 12.5]], 1e-12)
    constant = torch.full((2, 1, 5, 7), 3.0, dtype=F64)
    close(Blur(1.3)(constant), constant.tolist(), 1e-12)
    spot = torch.zeros(1, 1, 9, 9, dtype=F64)
    spot[0, 0, 4, 4] = 1
    kernel = Blur(1.0)(spot)[0, 0]
    assert kernel[4, 5] / kernel[4, 4] == pytest.approx(math.exp(-0.5), rel=1e-9)
    assert kernel[3, 5] / kernel[4, 4] == pytest.approx(math.exp(-1.0), rel=1e-9)
    edge = torch.zeros(1, 1, 9, 1, dtype=F64)
    edge[0, 0, 0, 0] = 1
    assert Blur(1.0)(edge)[0, 0, 0, 0] > kernel.sum(1)[4]  # what would leave comes back
    colours = torch.tensor([1.0, 0.0, 0.0], dtype=F64).reshape(1, 3, 1, 1)
    assert Grayscale()(colours).item() == pytest.approx(0.299)


def test_unknown_blur() -> None:
    x = Rng(0).stream("x").normal((2, 1, 8, 8), F64)
    operator = UnknownBlur(1.0)
    close(operator(x, torch.zeros(2, 1, dtype=F64)), Blur(1.0)(x).tolist(), 1e-2)  # which stops at 3 widths
    log = torch.tensor([[math.log(2.0)], [0.0]], dtype=F64).requires_grad_()
    found = operator(x, log)
    close(found[0].detach(), Blur(2.0)(x)[0].tolist(), 1e-2)
    (slope,) = torch.autograd.grad(found.sum(), log)
    assert slope.isfinite().all()
    assert operator.unknown.shape == (1,)


def test_phase_retrieval_is_shift_invariant() -> None:
    x = Rng(0).stream("x").normal((2, 1, 8, 8), F64)
    close(PhaseRetrieval()(x.roll((2, 3), (2, 3))), PhaseRetrieval()(x).tolist(), 1e-10)
    flat = torch.zeros(1, 1, 4, 4, dtype=F64).requires_grad_()
    (slope,) = torch.autograd.grad(PhaseRetrieval()(flat).sum(), flat)
    assert slope.isfinite().all()


def test_custom_operators_are_checked() -> None:
    matrix = Rng(0).stream("m").normal((3, 5), F64)
    CustomLinearOperator(lambda x: x @ matrix.T, lambda y: y @ matrix, (5,))
    with refuses(InputError):
        CustomLinearOperator(lambda x: x @ matrix.T, lambda y: 2 * y @ matrix, (5,))
    with refuses(InputError):
        CustomLinearOperator(lambda x: x.square() @ matrix.T, lambda y: y @ matrix, (5,))
    with refuses(InputError, found="[]"):
        CustomOperator(lambda x: x.sum())(torch.ones(4, 2))


def test_invalid_shapes_and_settings() -> None:
    for operator in (Downsample(2), Grayscale()):
        with refuses(UsageError):
            operator(torch.zeros(1, 1, 5, 4))
    for make in (lambda: Downsample(0), lambda: Blur(0.0), lambda: CompressedSensing(0)):
        with refuses(UsageError, found="0"):
            make()
