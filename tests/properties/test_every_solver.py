"""Properties of every solver."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.evaluation.conformance import check_solver
from feller.paths.processes import Characteristics, Jumps
from feller.paths.time_distributions import edm_grid, linear_grid
from feller.sampling import Solver, simulate, trajectory
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column, f64
from tests.properties.examples import SolverCase, cases

SOLVERS = cases(Solver)
DATA = Normal()
X = torch.linspace(-1.5, 2.5, 5, dtype=F64)[:, None]
GRIDS = {
    "forwards": linear_grid(16),
    "part": linear_grid(16, 0.2, 0.9),
    "from the middle": linear_grid(16, 0.5, 1.0),
    "uneven": [0.0, *edm_grid(16)],
    "one step": [0.0, 1.0],
}


@pytest.mark.parametrize("times", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("case", SOLVERS)
def test_follows_any_grid(case: SolverCase, times: list[float]) -> None:
    """As many states as steps, all finite, of the state's shape and type, in time within [0, 1]."""
    seen = []

    def process(x: Tensor, t: Tensor) -> Characteristics:
        seen.append(t)
        return DATA.flow(x, t)

    states = list(trajectory(process, X, times, case.kind, Rng(0)))
    assert len(states) == len(times) - 1
    assert all(state.shape == X.shape and state.dtype == F64 and state.isfinite().all() for state in states)
    assert all(t.shape == (5,) and t.dtype == F64 for t in seen)
    assert min(t.min() for t in seen) == min(times)
    assert max(t.max() for t in seen) <= max(times)


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: case.order is not None))
@pytest.mark.parametrize("steps", [1, 49])
def test_nfe_per_step(case: SolverCase, steps: int) -> None:
    """One forty-ninth makes 49 steps, with as many calls as the solver states."""
    calls = []

    def process(x: Tensor, t: Tensor) -> Characteristics:
        calls.append(1)
        return Characteristics(velocity=torch.ones_like(x))

    simulate(process, X, linear_grid(steps), case.kind, Rng(0))
    assert len(calls) == case.kind.num_evaluations(steps)


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: not case.backwards))
def test_forward_solvers_refuse_decreasing_times(case: SolverCase) -> None:
    with refuses(ValueError, argument="times"):
        simulate(DATA.flow, X, [0.8, 0.4], case.kind, Rng(0))


def noisy(x: Tensor, t: Tensor) -> Characteristics:
    return Characteristics(-x, torch.ones_like(x))


def jumping(x: Tensor, t: Tensor) -> Characteristics:
    hazard = torch.full(x.shape, 0.4, dtype=F64)

    def land(s: float, which: Tensor, draw) -> Tensor:
        return s + draw.normal(tuple(which.shape), F64)[which]

    return Characteristics(-x, jumps=Jumps(lambda s: hazard, land))


@pytest.mark.parametrize("case", SOLVERS)
@pytest.mark.parametrize("process", [noisy, jumping])
def test_noise_and_jumps_are_refused_on_decreasing_times(case: SolverCase, process) -> None:
    def tree(x: State, t: Tensor) -> State:
        return {"a": process(x["a"], t)}

    for times in ([0.9, 0.4], linear_grid(3, 1.0, 0.0)):
        with pytest.raises(UsageError) as refused:
            simulate(process, X, times, case.kind, Rng(0))
        assert refused.value.argument in ("times", "solver")
        with pytest.raises(UsageError) as refused:
            simulate(tree, {"a": X}, times, case.kind, Rng(0))
        assert refused.value.argument in ("times", "solver")


@pytest.mark.parametrize("case", SOLVERS)
def test_unsupported_processes_are_refused(case: SolverCase) -> None:
    for process, able in ((noisy, case.noise), (jumping, case.jumps)):
        if able:
            assert simulate(process, X, linear_grid(3), case.kind, Rng(0)).isfinite().all()
        else:
            with pytest.raises(UsageError) as refused:
                simulate(process, X, linear_grid(3), case.kind, Rng(0))
            assert refused.value.argument == "solver"


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: case.noise))
def test_gradient_through_a_simulation_with_noise(case: SolverCase) -> None:
    """The same with and without recomputing, to rounding, and that of finite differences.

    With noise that is drawn anew in the backward pass the gradient would be 2.67 instead of 2.08, without an error.
    """
    theta, times = f64(1.3)[0].requires_grad_(), linear_grid(6, 0.1, 0.9)

    def value(theta: Tensor, recompute: bool) -> Tensor:
        def process(x: Tensor, t: Tensor) -> Characteristics:
            velocity = -theta * x + (theta * x).sin() * (1 + t[:, None])
            return Characteristics(velocity, (0.2 * theta**2).expand(x.shape))

        return simulate(process, X, times, case.kind, Rng(2), recompute=recompute).square().sum()

    (plain,) = torch.autograd.grad(value(theta, False), theta)
    (again,) = torch.autograd.grad(value(theta, True), theta)
    close(again, plain.item(), 1e-12)
    h = 1e-5
    with torch.no_grad():
        difference = (value(theta + h, False) - value(theta - h, False)) / (2 * h)
    close(plain, difference.item(), 1e-7)


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: case.splits))
def test_samples_do_not_depend_on_the_batch(case: SolverCase) -> None:
    """300 examples at once, or in parts with their first numbers: the same, bit for bit on a processor.

    A solver that chooses its steps takes powers of its errors, which torch rounds by their place in memory.
    """
    everything = [*([noisy] if case.noise else []), *([jumping] if case.jumps else [])]
    x_0 = Rng(0).stream("source").normal((300, 2), F64)
    for process in everything:
        whole = simulate(process, x_0, linear_grid(5, 0.0, 0.9), case.kind, Rng(7))
        for cuts in ((0, 256, 300), (0, 1, 100, 300)):
            parts = [
                simulate(process, x_0[a:b], linear_grid(5, 0.0, 0.9), case.kind, Rng(7, first_example=a))
                for a, b in itertools.pairwise(cuts)
            ]
            close(torch.cat(parts), whole, 1e-14 if case.order is None and case.backwards else 0.0)


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: case.splits and case.jumps))
def test_samples_of_jumping_products_do_not_depend_on_the_batch(case: SolverCase) -> None:
    """A leaf with rare jumps next to one with frequent jumps."""

    def process(x: State, t: Tensor) -> State:
        def jumps(rate: float) -> Jumps:
            def land(s: float, which: Tensor, draw) -> Tensor:
                return draw.normal(tuple(which.shape), F64)[which]

            return Jumps(lambda s: torch.full((len(t), 2), rate, dtype=F64), land)

        return {"rare": Characteristics(jumps=jumps(0.002)), "often": Characteristics(jumps=jumps(0.5))}

    x_0 = {name: torch.zeros(300, 2, dtype=F64) for name in ("rare", "often")}
    whole = simulate(process, x_0, linear_grid(4), case.kind, Rng(7))
    parts = [
        simulate(process, {k: v[a:b] for k, v in x_0.items()}, linear_grid(4), case.kind, Rng(7, first_example=a))
        for a, b in ((0, 60), (60, 256), (256, 300))
    ]
    for name in x_0:
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert 0 < (whole["rare"] != 0).sum() < 20


@pytest.mark.parametrize("case", SOLVERS)
def test_products_equal_their_leaves(case: SolverCase) -> None:
    if not case.splits:
        pytest.skip("chooses steps for the whole state")
    if type(case.kind).__name__ == "DormandPrince":
        pytest.skip("chooses steps for the whole example")
    if case.order is None:
        pytest.skip("the leaves share one stream of noise, in their order")

    def process(x: State, t: Tensor) -> State:
        return {"a": DATA.flow(x["a"], t), "deep": {"b": DATA.flow(x["deep"]["b"], t)}}

    x_0 = {"a": X, "deep": {"b": X.flip(0).repeat(1, 3)}}
    end = simulate(process, x_0, linear_grid(5), case.kind, Rng(0))
    assert torch.equal(end["a"], simulate(DATA.flow, X, linear_grid(5), case.kind, Rng(0)))
    assert torch.equal(end["deep"]["b"], simulate(DATA.flow, x_0["deep"]["b"], linear_grid(5), case.kind, Rng(0)))


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: case.order is None and case.backwards))
def test_adaptive_steps_on_a_product_keep_the_tolerance(case: SolverCase) -> None:
    def process(x: State, t: Tensor) -> State:
        return {"a": DATA.flow(x["a"], t), "b": DATA.flow(x["b"], t)}

    end = simulate(process, {"a": X, "b": X.repeat(1, 2)}, [0.0, 1.0], case.kind, Rng(0))
    close(end["a"], 1 + 0.5 * X, 1e-6)
    close(end["b"], 1 + 0.5 * X.repeat(1, 2), 1e-6)


@pytest.mark.parametrize("case", cases(Solver, when=lambda case: case.noise or case.jumps))
def test_noise_of_a_leaf_does_not_depend_on_flowing_leaves(case: SolverCase) -> None:
    random = noisy if case.noise else jumping

    def process(x: State, t: Tensor) -> State:
        return {"flow": DATA.flow(x["flow"], t), "random": random(x["random"], t)}

    end = simulate(process, {"flow": X, "random": X}, linear_grid(5), case.kind, Rng(3))
    assert torch.equal(end["random"], simulate(random, X, linear_grid(5), case.kind, Rng(3)))
    assert torch.equal(end["flow"], simulate(DATA.flow, X, linear_grid(5), case.kind, Rng(3)))


def test_closed_form_of_the_gaussian_flow() -> None:
    h = 1e-5
    slope = (DATA.carry(X, 0.3, 0.5 + h) - DATA.carry(X, 0.3, 0.5 - h)) / (2 * h)
    close(slope, DATA.flow(DATA.carry(X, 0.3, 0.5), torch.full((5,), 0.5, dtype=F64)).velocity, 1e-8)
    close(DATA.carry(column(-0.7), 0.0, 1.0), 0.65, 1e-15)
    assert math.isclose(DATA.moments(0.3)[1], 0.5125)


@pytest.mark.parametrize("case", SOLVERS)
def test_conforms(case: SolverCase) -> None:
    noise = case.order is None and not case.backwards
    order = None if case.order is None else float(case.order)
    check_solver(case.kind, order=order, runs_backwards=case.backwards, has_noise=noise, rows_independent=case.splits)
