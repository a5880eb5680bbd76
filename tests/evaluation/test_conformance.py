"""Checks of `feller.testing`: each violated property is named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import feller
from feller.core.pytree import append_dims, tree_map
from feller.core.rng import Rng
from feller.evaluation.conformance import (
    ConformanceError,
    check_manifold,
    check_objective,
    check_path,
    check_schedule,
    check_solver,
)
from feller.paths import Affine
from feller.paths.schedules import AlphaSigma
from feller.sampling.solvers.solver import expand_time
from tests.properties.makers import Small, batch_of, reals


@dataclass(frozen=True)
class Curve(feller.Schedule):
    """alpha = t^2, sigma = (1 - t)^2, with one property violated."""

    wrong: str = ""

    def __call__(self, t):
        d_alpha, d_sigma = 2 * t, -2 * (1 - t)
        if self.wrong == "slope":
            d_alpha = 1.9 * t
        if self.wrong == "constant slope":
            d_sigma = -1.0
        alpha, sigma = t**2, (1 - t) ** 2
        if self.wrong == "rises":
            sigma, d_sigma = sigma + torch.sin(9 * t) ** 2 / 9, d_sigma + torch.sin(18 * t)
        if self.wrong == "type":
            alpha, sigma, d_alpha, d_sigma = (n.double() for n in (alpha, sigma, d_alpha, d_sigma))
        return AlphaSigma(alpha, sigma, d_alpha, d_sigma)

    def t_from_snr(self, snr):
        return snr / (1 + snr) if self.wrong == "time" else super().t_from_snr(snr)


@dataclass(frozen=True)
class Ball(feller.Sphere):
    """A sphere with one property violated."""

    wrong: str = ""

    def exp(self, x, v):
        if self.wrong == "in place":
            v.mul_(1.0 + 1e-9)
        return x + v if self.wrong == "leaves it" else super().exp(x, 1.01 * v if self.wrong == "exp" else v)

    def log(self, x, y):
        return super().log(x, y) if self.wrong != "not tangent" else y - x

    def transport(self, x, y, v):
        found = super().transport(x, y, v)
        return self.to_tangent(y, v) if self.wrong == "transport" else found

    def base_log_prob(self, x):
        return super().base_log_prob(x) + (x[:, 0] if self.wrong == "density" else 0.0)

    def to_tangent(self, x, v):
        return v if self.wrong == "tangent" else super().to_tangent(x, v)

    def sample_base(self, n, rng, device="cpu"):
        x = super().sample_base(n, rng, device)
        return torch.cat([x[:, :1].abs(), x[:, 1:]], 1) if self.wrong == "source" else x

    @property
    def dimension(self):
        return 3 if self.wrong == "dimension" else super().dimension


@dataclass(frozen=True)
class Interpolant(feller.Path):
    """x_t = (1 - t) x_0 + t^2 x_1 with one property violated."""

    wrong: str = ""

    def sample(self, x_0, x_1, t, rng=None):
        t = append_dims(t, x_1)
        if self.wrong == "batch":
            x_0 = x_0 - 0.01 * x_0.mean(0)
        if self.wrong == "not padded":
            return (1 - t.flatten()) * x_0 + t.flatten() * x_1
        if self.wrong == "one column":
            return x_0[:, :1]
        if self.wrong == "chance":
            x_0 = torch.randn_like(x_0)
        if self.wrong == "float64":
            return ((1 - t) * x_0 + t**2 * x_1).double()
        return (1 - t) * x_0 + t**2 * x_1

    def target(self, x_t, x_0, x_1, t):
        t = append_dims(t, x_1)
        return (t if self.wrong == "target" else 2 * t) * x_1 - x_0

    def characteristics(self, prediction, x_t, t):
        if self.wrong == "in place":
            x_t.add_(1e-3)
        if self.wrong == "a tensor":
            return prediction
        velocity = 1.1 * prediction if self.wrong == "velocity" else prediction
        diffusion = torch.ones_like(x_t) if self.wrong == "noise" else None
        return feller.Characteristics(velocity=velocity, diffusion=diffusion)


class Drawless(Interpolant):
    def sample(self, x_0, x_1, t):
        return x_1


@dataclass(frozen=True)
class Ralston(feller.Solver):
    """The order-2 method of Ralston with one property violated."""

    wrong: str = ""

    def step(self, process, x, t, s, rng):
        h = s - t
        a = process(x, expand_time(x, t)).velocity
        at = t if self.wrong == "time" else t + 2 / 3 * h
        if self.wrong == "clock":
            return x + h * process(x, torch.full((len(x),), t, dtype=torch.float32)).velocity
        b = process(x + 2 / 3 * h * (a.detach() if self.wrong == "gradient" else a), expand_time(x, at)).velocity
        if self.wrong == "batch":
            a = a + 1e-6 * x.mean()
        first = 1 / 3 if self.wrong == "weights" else 1 / 4
        return x + h * (first * a + (1 - first) * b) * (1.001 if self.wrong == "long" else 1)


@dataclass(frozen=True)
class Regress(feller.Objective):
    """Flow matching with one property violated."""

    path: Affine
    space: feller.Euclidean
    cond_dropout: float = 0.0
    wrong: str = ""

    def draw(self, batch: dict[str, Any], draws: Rng, network: Any = None) -> dict[str, Any]:
        x_1 = batch["x_1"]
        if self.wrong == "in place":
            x_1.mul_(1.001)
        x_0 = draws.stream("source").normal(x_1.shape, x_1.dtype)
        if self.wrong == "rows":
            x_0 = x_0.roll(1, 0)
        if self.wrong == "torch's generator":
            x_0 = torch.randn_like(x_0)
        t = draws.stream("time").uniform((len(x_1),), x_1.dtype)
        return {"x_t": append_dims(1 - t, x_1) * x_0 + append_dims(t, x_1) * x_1, "t": t, "target": x_1 - x_0}

    def loss(self, network: Any, example: dict[str, Any]) -> Tensor:
        x_t = example["x_t"]
        if self.wrong == "noise in the loss":
            x_t = x_t + 1e-3 * torch.randn_like(x_t)
        error = (network(x_t, example["t"], {}) - example["target"]) ** 2
        if self.wrong == "one number":
            return error.mean()
        if self.wrong == "no network":
            error = error.detach() + 0 * network(x_t, example["t"], {})
        if self.wrong == "over the batch":
            error = error / error.detach().mean()
        return error.flatten(1).sum(1)


def schedule(wrong: str) -> None:
    check_schedule(Curve(wrong))


def manifold(wrong: str) -> None:
    check_manifold(Ball(2, wrong=wrong))


def path(wrong: str) -> None:
    check_path(Drawless() if wrong == "no rng" else Interpolant(wrong), feller.Euclidean((3,)))


def solver(wrong: str) -> None:
    check_solver(Ralston(wrong), order=1.2 if wrong == "clock" else 2.0)


def objective(wrong: str) -> None:
    batch = tree_map(torch.clone, batch_of(reals(2))(6, Rng(0).stream("batch")))
    check_objective(Regress(Affine(), feller.Euclidean((2,)), wrong=wrong), Small(2), batch)


VIOLATIONS = {
    schedule: {
        "slope": "d_alpha is the derivative",
        "constant slope": "d_sigma is the derivative",
        "rises": "sigma decreases",
        "time": "t_from_snr(alpha / sigma)",
        "type": "shape and dtype",
    },
    manifold: {
        "exp": "exp is the identity",
        "leaves it": "exp are on the manifold",
        "not tangent": "log are tangent",
        "transport": "transport preserves lengths",
        "density": "volume",
        "source": "volume",
        "tangent": "",
        "dimension": "dimension",
        "in place": "inputs",
    },
    path: {
        "target": "time derivative",
        "velocity": "time derivative",
        "noise": "mean squares",
        "batch": "",
        "chance": "deterministic",
        "float64": "float32",
        "in place": "inputs",
        "not padded": "sample",
        "one column": "shape of the data",
        "a tensor": "characteristics",
        "no rng": "sample",
    },
    solver: {"weights": "order", "time": "order", "long": "order", "gradient": "gradient", "batch": "", "clock": ""},
    objective: {
        "in place": "inputs",
        "rows": "its own row",
        "torch's generator": "deterministic",
        "noise in the loss": "no random numbers",
        "one number": "one loss per example",
        "no network": "depends on the network",
        "over the batch": "",
    },
}
"""Violations of each kind of object, and text in the name of the property."""


@pytest.mark.parametrize("check", VIOLATIONS)
def test_valid_objects(check: Callable[[str], None]) -> None:
    check("")


@pytest.mark.parametrize(("check", "wrong"), [(check, wrong) for check, each in VIOLATIONS.items() for wrong in each])
def test_violations_are_named(check: Callable[[str], None], wrong: str) -> None:
    with pytest.raises(ConformanceError) as error:
        check(wrong)
    assert VIOLATIONS[check][wrong] in error.value.property
    assert error.value.allowed


def test_objects_of_the_library() -> None:
    check_manifold(feller.Product({"a": feller.Sphere(2), "b": feller.Torus((2,))}))
    check_path(Affine(noise=feller.SigmaProportional()), feller.Euclidean((2,)))
    check_path(feller.Geodesic(feller.Sphere(2)), feller.Sphere(2))
