"""D-Flow: its reference, sections 2, 3 and 6, in float64."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.inverse.d_flow import ChiPrior, GaussianPrior, NoPrior, NormConstraint, optimize_source, solve_flow
from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Adam
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, Midpoint, simulate
from feller.spaces import Euclidean, Product, Sphere, Tokens
from tests.errors import refuses
from tests.oracle import F64, close

M, LAM = torch.tensor([1.0, -1.0, 0.5], dtype=F64), torch.tensor([4.0, 1.0, 0.01], dtype=F64)
Q = torch.tensor(
    [
        [-math.sqrt(1 / 2), -math.sqrt(1 / 3), -math.sqrt(1 / 6)],
        [0.0, -math.sqrt(1 / 3), 2 * math.sqrt(1 / 6)],
        [-math.sqrt(1 / 2), math.sqrt(1 / 3), math.sqrt(1 / 6)],
    ],
    dtype=F64,
)
SIGMA, ROOT = Q @ LAM.diag() @ Q.T, Q @ LAM.sqrt().diag() @ Q.T
X_0 = torch.tensor([[0.3, -0.7, 1.1]], dtype=F64)
A, Y = torch.tensor([[1.0, 1.0, 0.0]], dtype=F64), 2.0


def gaussian(x: Tensor, t: Tensor) -> Characteristics:
    """Return the flow to N(M, SIGMA) on straight paths: in each direction of its own."""
    t = t[:, None]
    slope = (t * LAM - (1 - t)) / (t**2 * LAM + (1 - t) ** 2)
    return Characteristics(M + (((x - t * M) @ Q) * slope) @ Q.T)


def flow_of(steps: int, solver=None):
    return solve_flow(lambda rows: gaussian, linear_grid(steps), solver or Midpoint(), Rng(0))


def test_gradient_through_the_flow() -> None:
    x_0 = X_0.clone().requires_grad_()
    end = simulate(gaussian, x_0, linear_grid(200), Midpoint(), Rng(0), recompute=True)
    close(end.detach(), (1.91, -1.52, 2.39), 1e-4)
    (found,) = torch.autograd.grad(end.square().sum() / 2, x_0)
    close(found, (3.676, -0.752, 4.924), 1e-4)


@pytest.mark.parametrize(
    ("steps", "midpoint", "euler"), [(3, 1.03e-2, 7.48e-1), (6, 1.84e-3, 4.02e-1), (12, 2.14e-4, 2.11e-1)]
)
def test_solver_errors_of_few_steps(steps: int, midpoint: float, euler: float) -> None:
    truth = torch.tensor([[1.91, -1.52, 2.39]], dtype=F64)
    for solver, error in ((Midpoint(), midpoint), (Euler(), euler)):
        end = simulate(gaussian, X_0, linear_grid(steps), solver, Rng(0))
        assert (end - truth).abs().max().item() == pytest.approx(error, rel=5e-3)


def test_minima_without_prior() -> None:
    """From any start: x_0 + B^+ (y - A m - B x_0), so that random starts sample the posterior."""
    x_0 = Rng(0).stream("source").normal((400, 3), F64)
    flow = solve_flow(lambda rows: _Exact(), [0.0, 1.0], Euler(), Rng(0))
    found = optimize_source(
        flow, lambda x, rows: 50 * (x @ A.T - Y).square().sum(1), x_0, Euclidean((3,)), prior=NoPrior()
    )
    b = A @ ROOT
    wanted = x_0 + (Y - M @ A.T - x_0 @ b.T) @ torch.linalg.pinv(b).T
    assert (found.source - wanted).abs().max() < 1e-6


class _Exact:
    """The solution of the flow, as one Euler step."""

    def __call__(self, x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(M + x @ ROOT.T - x)


def test_gaussian_prior_gives_the_posterior_mean() -> None:
    flow = solve_flow(lambda rows: _Exact(), [0.0, 1.0], Euler(), Rng(0))
    found = optimize_source(
        flow, lambda x, rows: (x @ A.T - Y).square().sum(1) / 0.5, X_0, Euclidean((3,)), prior=GaussianPrior()
    )
    close(found.end, (2.4867503, -0.6262204, 1.2447699), 2e-7)


def test_chi_prior_gradient() -> None:
    """Its gradient is (1 - (d - 1) / |x|^2) x: it pulls in from outside and pushes out from inside."""
    x = torch.tensor([[3.0, 0.0, 4.0], [0.3, 0.4, 0.0], [1.0, 1.0, 0.0]], dtype=F64).requires_grad_()
    (slope,) = torch.autograd.grad(ChiPrior(2.0).cost(x, torch.full((len(x),), x.shape[1])).sum(), x)
    square = x.detach().square().sum(1, keepdim=True)
    close(slope, (2 * (1 - 2 / square) * x.detach()).tolist(), 1e-12)
    assert slope[0, 0] > 0 > slope[1, 0]
    assert slope[2].abs().max() < 1e-12


def test_norm_constraint() -> None:
    """The end farthest along an axis, from sources of one length, has a source along that axis."""
    x_0 = Rng(0).stream("source").normal((5, 3), F64)
    flow = solve_flow(lambda rows: _Exact(), [0.0, 1.0], Euler(), Rng(0))
    found = optimize_source(flow, lambda x, rows: -100 * x[:, 0], x_0, Euclidean((3,)), prior=NormConstraint())
    close(found.source.norm(dim=1), x_0.norm(dim=1).tolist(), 1e-9)
    way = ROOT[0] / ROOT[0].norm()
    close(found.source @ way, x_0.norm(dim=1).tolist(), 1e-5)
    still = optimize_source(flow, lambda x, rows: 0 * x[:, 0], x_0, Euclidean((3,)), prior=NormConstraint())
    close(still.source, x_0.tolist(), 1e-12)


def test_default_prior_bounds_the_source() -> None:
    """By default a source keeps its length, as in the command; vectors beside points of a sphere do, too."""
    x_0 = Rng(0).stream("source").normal((5, 3), F64)
    flow = solve_flow(lambda rows: _Exact(), [0.0, 1.0], Euler(), Rng(0))
    found = optimize_source(flow, lambda x, rows: -100 * x[:, 0], x_0, Euclidean((3,)))
    close(found.source.norm(dim=1), x_0.norm(dim=1).tolist(), 1e-9)
    free = optimize_source(flow, lambda x, rows: -100 * x[:, 0], x_0, Euclidean((3,)), prior=NoPrior())
    assert (free.source.norm(dim=1) > 1e3).all()
    space = Product({"way": Sphere(2), "real": Euclidean((3,))})
    both = {"way": Sphere(2).project(x_0), "real": x_0}
    found = optimize_source(
        lambda x, rows: x, lambda x, rows: -100 * x["real"][:, 0] - x["way"][:, 0], both, space
    ).source
    close(found["real"].norm(dim=1), x_0.norm(dim=1).tolist(), 1e-9)
    close(found["way"].norm(dim=1), (1.0,) * 5, 1e-9)
    assert (found["real"][:, 0] > 0.99 * x_0.norm(dim=1)).all()


def objective(x: Tensor, rows: Tensor) -> Tensor:
    return (x[:, 0] - 3).square() + 0.1 * (rows.double() - x[:, 1]).square()


@pytest.mark.parametrize("minimiser", [LBFGS(), Adam(0.05, 30)], ids=repr)
def test_rows_do_not_depend_on_the_batch(minimiser) -> None:
    x_0 = Rng(1).stream("source").normal((4, 3), F64)
    how = {"minimizer": minimiser, "prior": NoPrior()}
    whole = optimize_source(flow_of(6), objective, x_0, Euclidean((3,)), **how)
    alone = optimize_source(flow_of(6), lambda x, rows: objective(x, rows + 2), x_0[2:3], Euclidean((3,)), **how)
    torch.testing.assert_close(alone.source, whole.source[2:3], rtol=1e-6, atol=1e-8)
    assert (whole.loss < 0.5 * whole.initial_loss).all()
    close(whole.end, flow_of(6)(whole.source, torch.arange(4)).tolist(), 1e-12)
    assert alone.nfe[0] == whole.nfe[2]


def test_float64_losses() -> None:
    x_0 = torch.zeros(2, 3)
    flow = solve_flow(lambda rows: lambda x, t: Characteristics(x * 0 + 1), linear_grid(2), Euler(), Rng(0))
    found = optimize_source(flow, lambda x, rows: (x.double() - 3).square().sum(1), x_0, Euclidean((3,)))
    close(found.end, [[3.0] * 3] * 2, 1e-3)


def test_target_loss_met_at_the_start() -> None:
    x_0 = Rng(1).stream("source").normal((4, 3), F64)
    start = flow_of(6)(x_0, torch.arange(4))
    found = optimize_source(flow_of(6), objective, x_0, Euclidean((3,)), target_loss=1e9)
    assert torch.equal(found.source, x_0)
    assert torch.equal(found.end, start)
    assert found.nfe.tolist() == [1] * 4
    some = optimize_source(flow_of(6), objective, x_0, Euclidean((3,)), target_loss=torch.tensor([1e9, 0.0, 1e9, 0.0]))
    assert torch.equal(some.source[[0, 2]], x_0[[0, 2]])
    assert (some.source[[1, 3]] != x_0[[1, 3]]).all()


def test_target_loss() -> None:
    x_0 = Rng(1).stream("source").normal((4, 3), F64)
    loose, tight = (
        optimize_source(flow_of(6), objective, x_0, Euclidean((3,)), prior=NoPrior(), target_loss=e)
        for e in (1.0, 0.01)
    )
    assert (loose.loss <= 1.0).all()
    assert (tight.loss <= 0.01).all()
    assert (loose.nfe <= tight.nfe).all()


def test_target_loss_counts_accepted_steps_only() -> None:
    """A step that is good for the objective and bad for the whole is not kept, so it does not end the search either."""
    still = solve_flow(lambda rows: lambda x, t: Characteristics(x * 0), [0.0, 1.0], Euler(), Rng(0))
    found = optimize_source(
        still,
        lambda x, rows: (x[:, 0] - 1).square(),
        torch.zeros(1, 1, dtype=F64),
        Euclidean((1,)),
        minimizer=Adam(0.5, 60),
        prior=GaussianPrior(10.0),
        target_loss=0.3,  # as after the first step, where the whole is 1.5 instead of 1
    )
    assert found.source.item() == pytest.approx(1 / 6, abs=0.02)
    assert found.nfe.item() == 61


@pytest.mark.slow
def test_source_on_a_sphere() -> None:
    space, goal = Sphere(2), torch.tensor([0.0, 0.0, 1.0], dtype=F64)

    def turning(x: Tensor, t: Tensor) -> Characteristics:
        axis = torch.tensor([0.0, 1.0, 0.0], dtype=F64).expand_as(x)
        return Characteristics(torch.linalg.cross(axis, x))

    x_0 = space.project(Rng(0).stream("source").normal((5, 3), F64))
    flow = solve_flow(lambda rows: turning, linear_grid(4), Midpoint(space), Rng(0))
    found = optimize_source(flow, lambda x, rows: 1 - x @ goal, x_0, space)
    close(found.source.norm(dim=1), (1.0,) * 5, 1e-12)
    assert found.loss.max() < 1e-8


def test_tokens_of_a_product_are_fixed() -> None:
    space = Product({"real": Euclidean((2,)), "token": Tokens(4, (3,))})

    def process(x, t):
        return {"real": Characteristics(x["real"] * 0 + 1), "token": Characteristics()}

    x_0 = {"real": torch.zeros(2, 2, dtype=F64), "token": torch.tensor([[0, 1, 2], [3, 3, 3]])}
    flow = solve_flow(lambda rows: process, linear_grid(2), Euler(space), Rng(0))
    found = optimize_source(flow, lambda x, rows: x["real"].square().sum(1), x_0, space, prior=NoPrior())
    assert torch.equal(found.source["token"], x_0["token"])
    close(found.source["real"], [[-1.0, -1.0]] * 2, 1e-7)


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda x, rows: x, "[1, 3]"),
        (lambda x, rows: x[:, 0].round().detach(), None),
        (lambda x, rows: (x[:, 0] - 1e9).log(), None),
    ],
)
def test_invalid_losses(loss, found: str | None) -> None:
    with refuses(InputError, found=found):
        optimize_source(flow_of(3), loss, X_0, Euclidean((3,)))


def test_norm_constraint_of_products_and_masks() -> None:
    x_0 = {"a": Rng(0).stream("a").normal((4, 2), F64), "b": Rng(0).stream("b").normal((4, 6), F64)}
    real = {"b": torch.tensor([True, True, True, False, False, False]).expand(4, -1)}
    space = Product({"a": Euclidean((2,)), "b": Euclidean((6,))})

    def objective(x: dict[str, Tensor], rows: Tensor) -> Tensor:
        return -10 * x["a"][:, 0] - 10 * x["b"][:, 0] + x["b"][:, 4]

    found = optimize_source(lambda x, rows: x, objective, x_0, space, prior=NormConstraint(), mask=real).source
    close(found["a"].norm(dim=1), x_0["a"].norm(dim=1).tolist(), 1e-9)
    close(found["b"][:, :3].norm(dim=1), x_0["b"][:, :3].norm(dim=1).tolist(), 1e-9)
    assert torch.equal(found["b"][:, 3:], x_0["b"][:, 3:])
    assert (found["a"][:, 0] > 0.99 * x_0["a"].norm(dim=1)).all()


def test_progress() -> None:
    for minimiser in (Adam(steps=4), LBFGS(steps=4)):
        told: list[float] = []
        optimize_source(
            flow_of(2), lambda x, rows: -x[:, 0], X_0, Euclidean((3,)), minimizer=minimiser, on_progress=told.append
        )
        assert told == sorted(told)
        assert told[:3] == [0.0, 0.25, 0.5]
