"""Operators: what they are by hand, their adjoints, and what is refused."""

import math

import pytest
import torch
from tests.oracle import F64, close

from feller.control.operators import (
    Blur,
    Grey,
    Inpaint,
    LinearOperator,
    Magnitudes,
    Own,
    OwnLinear,
    Pool,
    RandomSums,
    UnknownBlur,
    check_adjoint,
)
from feller.draws import Draws
from feller.errors import InputError, UsageError

HOLE = torch.zeros(1, 6, 4, dtype=torch.bool)
HOLE[:, 2:4] = True
LINEAR = [
    (Inpaint(HOLE), (1, 6, 4)),
    (Pool(2), (1, 6, 4)),
    (Blur(0.8), (1, 6, 4)),
    (Grey(), (3, 4, 4)),
    (RandomSums(7), (1, 6, 4)),
]


@pytest.mark.parametrize(("operator", "shape"), LINEAR, ids=lambda value: type(value).__name__)
def test_adjoints_and_inverses(operator: LinearOperator, shape: tuple[int, ...]) -> None:
    """Against the matrix: A^T, the pseudo-inverse, and (A S A^T + noise)^-1 y."""
    check_adjoint(operator, shape)
    d = math.prod(shape)
    matrix = operator(torch.eye(d, dtype=F64).reshape(d, *shape)).flatten(1).T
    x = Draws(0).at("x").normal((3, *shape), F64)
    y = operator(x)
    close(y.flatten(1), (x.flatten(1) @ matrix.T).tolist(), 1e-12)
    close(operator.adjoint(y, x).flatten(1), (y.flatten(1) @ matrix).tolist(), 1e-12)
    pinned = torch.linalg.pinv(matrix, rtol=1e-9)
    near = y.flatten(1) @ pinned.T
    if not isinstance(operator, Blur):  # whose smallest eigenvalues take more steps than a picture is worth
        close(operator.pseudo_inverse(y, x).flatten(1), near.tolist(), 1e-6)
    spread = Draws(0).at("s").uniform(shape, F64) + 0.5
    inner = matrix @ spread.flatten().diag() @ matrix.T + 0.1 * torch.eye(len(matrix), dtype=F64)
    wanted = torch.linalg.solve(inner, y.flatten(1).T).T
    close(operator.solve(y, x, spread, 0.1).flatten(1), wanted.tolist(), 1e-5)


def test_what_they_do() -> None:
    x = torch.arange(16, dtype=F64).reshape(1, 1, 4, 4)
    close(Pool(2)(x)[0, 0], [[2.5, 4.5], [10.5, 12.5]], 1e-12)
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
    assert Grey()(colours).item() == pytest.approx(0.299)


def test_an_unknown_blur_is_a_blur() -> None:
    x = Draws(0).at("x").normal((2, 1, 8, 8), F64)
    operator = UnknownBlur(1.0)
    close(operator(x, torch.zeros(2, 1, dtype=F64)), Blur(1.0)(x).tolist(), 1e-2)  # which stops at 3 widths
    log = torch.tensor([[math.log(2.0)], [0.0]], dtype=F64).requires_grad_()
    found = operator(x, log)
    close(found[0].detach(), Blur(2.0)(x)[0].tolist(), 1e-2)
    (slope,) = torch.autograd.grad(found.sum(), log)
    assert slope.isfinite().all()
    assert operator.unknown.shape == (1,)


def test_magnitudes_do_not_know_where() -> None:
    x = Draws(0).at("x").normal((2, 1, 8, 8), F64)
    close(Magnitudes()(x.roll((2, 3), (2, 3))), Magnitudes()(x).tolist(), 1e-10)
    flat = torch.zeros(1, 1, 4, 4, dtype=F64).requires_grad_()
    (slope,) = torch.autograd.grad(Magnitudes()(flat).sum(), flat)
    assert slope.isfinite().all()


def test_own_operators_are_tested() -> None:
    matrix = Draws(0).at("m").normal((3, 5), F64)
    OwnLinear(lambda x: x @ matrix.T, lambda y: y @ matrix, (5,))
    with pytest.raises(InputError, match="the adjoint does not belong to the operator"):
        OwnLinear(lambda x: x @ matrix.T, lambda y: 2 * y @ matrix, (5,))
    with pytest.raises(InputError, match="is not linear"):
        OwnLinear(lambda x: x.square() @ matrix.T, lambda y: y @ matrix, (5,))
    with pytest.raises(InputError, match=r"measurements \[4, ...\], got \[\]"):
        Own(lambda x: x.sum())(torch.ones(4, 2))


def test_refusals() -> None:
    with pytest.raises(UsageError, match="5 x 4 pixels have no squares of 2"):
        Pool(2)(torch.zeros(1, 1, 5, 4))
    with pytest.raises(UsageError, match="no colours"):
        Grey()(torch.zeros(1, 1, 5, 4))
    for make in (lambda: Pool(0), lambda: Blur(0.0), lambda: RandomSums(0)):
        with pytest.raises(UsageError, match="expected"):
            make()
