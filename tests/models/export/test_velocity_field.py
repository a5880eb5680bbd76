"""`feller.velocity`: inputs, outputs, external integrators."""

import numpy as np
import pandas as pd
import torch
from scipy.integrate import solve_ivp

import feller
from feller.core.errors import UsageError
from feller.core.rng import Rng
from tests.errors import refuses
from tests.models.export.untrained import as_run, untrained


def test_euler_loop_draws_the_samples_of_the_model(points, tmp_path):
    model, recipe = points
    field = feller.velocity(str(as_run(tmp_path / "run", model, recipe, "example:moons").path))
    x = field.source(4, seed=5).numpy().astype(np.float64)
    for i in range(16):
        x = x + field(x, i / 16) / 16
    ours = model.sample_dataset(4, sampling=feller.SamplerConfig("euler", 16), rng=Rng(5)).numpy()
    np.testing.assert_allclose(field.decode(x).numpy(), ours, rtol=1e-4, atol=1e-4)


def test_scipy_integrator():
    """From N(0, 1) to N(m, sd^2) the exact flow is x -> m + sd x."""
    m, sd = 1.5, 0.5

    def network(x, t):
        t = t[:, None]
        gain = t * sd**2 / ((t * sd) ** 2 + (1 - t) ** 2)
        return (m + gain * (x - t * m) - x) / (1 - t).clamp(min=1e-4)

    field = feller.velocity(feller.Model(network, data=(1,)))
    x_0 = field.source(4).numpy()
    end = solve_ivp(lambda t, x: field(x[:, None], t)[:, 0], (0, 1 - 1e-3), x_0[:, 0], rtol=1e-4, atol=1e-4).y[:, -1]
    np.testing.assert_allclose(end, m + sd * x_0[:, 0], atol=5e-3)


def test_types_of_arrays_and_tensors(points):
    field, x = feller.velocity(points[0]), np.ones((3, 2), dtype=np.float64)
    assert field(x, 0.5).dtype == np.float64
    assert field(torch.ones(3, 2, dtype=torch.float64), 0.5).dtype == torch.float64
    each = field(torch.ones(3, 2), torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(each[1:2], field(torch.ones(1, 2), 0.5))
    assert not torch.allclose(each[0], each[2])


def test_gradient(points):
    x = torch.randn(2, 2, requires_grad=True)
    feller.velocity(points[0])(x, 0.3).sum().backward()
    assert x.grad.abs().sum() > 0


def test_labels(pictures):
    model, x = pictures[0], torch.randn(2, 1, 8, 8)
    field = feller.velocity(model)
    t = torch.full((2,), 0.4)
    with torch.no_grad():
        seven, nothing = (model.network(x, t, {"label": torch.full((2,), k)}) for k in (7, 10))
    names = (["7", "7"], ("7", 7), np.array(["7", "7"]), np.array(["7", "7"], dtype=object), pd.Series(["7", "7"]))
    for given in ("7", 7, 7.0, torch.tensor([7, 7]), np.array([7, 7]), [7, 7], torch.tensor([7]), *names):
        torch.testing.assert_close(field(x, 0.4, label=given), seven)
    torch.testing.assert_close(field(x, 0.4), nothing)
    torch.testing.assert_close(
        feller.velocity(model, guidance=2.0)(x, 0.4, label="7"), 2 * seven - nothing, rtol=1e-4, atol=1e-5
    )
    with refuses(UsageError, argument="given", expected="one of label", found="'colour'"):
        field(x, 0.4, colour="red")
    with refuses(UsageError, argument="label", found="'seven'"):
        field(x, 0.4, label="seven")


def test_jump_processes_have_no_velocity():
    with refuses(UsageError):
        feller.velocity(untrained("example:digits", "levels-mask")[0])


def test_invalid_times_and_states() -> None:
    field = feller.velocity(feller.Model(lambda x, t: x @ torch.ones(2, 2), data=(2,)))
    x = torch.zeros(3, 2)
    for t in (1.5, -0.1, float("nan"), torch.tensor([0.0, 2.0, 1.0])):
        with refuses(UsageError, argument="t"):
            field(x, t)
    for state, t, found in (
        (x, torch.zeros(2), "times [2]"),
        (torch.zeros(3, 5), 0.5, "[n, 5]"),
        ({"x": x}, 0.5, "{x: [n, 2]}"),
    ):
        with refuses(UsageError, found=found):
            field(state, t)


def test_invalid_labels(pictures) -> None:
    field, x = feller.velocity(pictures[0]), torch.zeros(2, 1, 8, 8)
    for label in (1.5, 11, -1, [1, 11], torch.tensor([0.5, 1.0]), float("nan"), np.array([1.5, 2.0])):
        with refuses(UsageError, argument="label"):
            field(x, 0.5, label=label)
    for label, found in (
        ([1, 2, 3], "[3]"),
        (np.arange(3), "[3]"),
        (torch.zeros(2, 1, dtype=torch.long), "[2, 1]"),
        (["1", "2", "3"], "[3]"),
    ):
        with refuses(UsageError, found=found):
            field(x, 0.5, label=label)
    for label in (object(), [None, 1], {1}, [[1], [2, 3]], b"7", True, 10**30):
        with refuses(UsageError, found=str(label)):
            field(x, 0.5, label=label)
    with refuses(UsageError, argument="label", found="'seven'"):
        field(x, 0.5, label=["1", "seven"])


def test_states_of_another_shape(pictures) -> None:
    field, x = feller.velocity(pictures[0]), torch.zeros(2, 1, 8, 8)
    for state, shape in ((x[:, :, :4], "4, 8"), (x[..., :4].numpy(), "8, 4"), (x[0][None, :, :4, :4], "4, 4")):
        with refuses(UsageError, found=f"[n, 1, {shape}]"):
            field(state, 0.5)
