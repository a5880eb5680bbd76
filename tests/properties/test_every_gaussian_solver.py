"""Properties of every solver with Gaussian steps."""

import pytest
import torch
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import Rng
from feller.paths import Affine, VelocityPrediction
from feller.paths.affine import ConstantDiffusion
from feller.paths.processes import Characteristics
from feller.sampling import GaussianSolver, simulate
from tests.oracle import F64, Normal, close
from tests.properties.examples import SolverCase, cases

SOLVERS = cases(GaussianSolver)
DATA = Normal()
X = torch.linspace(-1.5, 2.5, 5, dtype=F64)[:, None]


def drive(case: SolverCase):
    """Return a process for the solver, with diffusion if it supports that."""
    path = Affine(noise=ConstantDiffusion(1.0)) if case.noise else Affine()
    return path.process(lambda x, t, given: DATA.predict(VelocityPrediction(), x, t), {})


@pytest.mark.parametrize("case", SOLVERS)
def test_a_step_is_mean_plus_scaled_noise(case: SolverCase) -> None:
    mean, variance = case.kind.moments(drive(case), X, 0.3, 0.5)
    end = case.kind.step(drive(case), X, 0.3, 0.5, Rng(0).stream("simulate"))
    noise = Rng(0).stream("simulate").normal((5, 1), F64)
    close(end, mean if variance is None else mean + variance.sqrt() * noise, 1e-15)


@pytest.mark.parametrize("case", SOLVERS)
def test_vjp_of_the_mean(case: SolverCase) -> None:
    process = drive(case)
    _, pull = torch.func.vjp(lambda x: case.kind.moments(process, x, 0.3, 0.5)[0], X)
    (gradient,) = pull(torch.full_like(X, 2.0))
    mean = case.kind.moments(process, torch.tensor([[0.0], [1.0]], dtype=F64), 0.3, 0.5)[0]
    close(gradient, (2 * (mean[1] - mean[0])).expand(5, 1), 1e-12)


@pytest.mark.parametrize("case", SOLVERS)
def test_vjp_of_the_mean_on_trees(case: SolverCase) -> None:
    process = drive(case)

    def both(x: State, t: Tensor) -> State:
        return {name: process(leaf, t) for name, leaf in x.items()}

    _, pull = torch.func.vjp(lambda x: case.kind.moments(both, x, 0.3, 0.5)[0], {"a": X, "b": X + 1})
    (gradient,) = pull({"a": torch.ones_like(X), "b": torch.zeros_like(X)})
    assert gradient["a"].abs().min() > 0
    assert (gradient["b"] == 0).all()


@pytest.mark.parametrize("case", SOLVERS)
def test_sampled_chains_have_the_exact_moments(case: SolverCase) -> None:
    """Through the loop: 20,000 paths of 8 steps; mean and variance, false alarm 2 x 6e-7."""
    from tests.oracle import chain

    times = [i / 8 for i in range(8)]
    mean, variance = chain(case.kind, drive(case), times, 0.0, 1.0)
    x_0 = Rng(0).stream("source").normal((20_000, 1), F64)
    end = simulate(drive(case), x_0, times, case.kind, Rng(1))
    assert abs(end.mean().item() - mean) < 5 * (variance / 20_000) ** 0.5
    assert abs(end.var().item() - variance) < 5 * variance * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("case", SOLVERS)
def test_a_leaf_without_noise_has_no_variance(case: SolverCase) -> None:
    if not case.noise:
        pytest.skip("brings noise of its own, or none")

    def process(x: State, t: Tensor) -> State:
        return {"a": Characteristics(velocity=x["a"]), "b": Characteristics(x["b"], torch.ones_like(x["b"]))}

    mean, variance = case.kind.moments(process, {"a": X, "b": X}, 0.3, 0.5)
    close(mean["a"], 1.2 * X, 1e-14)
    assert variance["a"] is None
    close(variance["b"], torch.full((5, 1), 0.2, dtype=F64), 1e-15)
