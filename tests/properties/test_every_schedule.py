"""Properties of every schedule, prediction and diffusion coefficient."""

import math

import pytest
import torch
from torch import Tensor

from feller.evaluation.conformance import check_schedule
from feller.paths import Prediction, convert
from feller.paths.affine import DiffusionCoefficient
from feller.paths.predictions import ScorePrediction, predicted_endpoints
from feller.paths.schedules import Schedule
from tests.oracle import F64, Normal, close, f64
from tests.properties.examples import Case, ScheduleCase, cases

SCHEDULES = cases(Schedule)
INSIDE = torch.linspace(0.02, 0.98, 49, dtype=F64)


def tensors(schedule: Schedule, t: Tensor) -> list[Tensor]:
    """Return the four scales as tensors of the times' shape."""
    return [torch.as_tensor(scale, dtype=t.dtype).expand(t.shape) for scale in schedule(t)]


@pytest.mark.parametrize("case", SCHEDULES)
def test_d_log_snr_is_the_derivative(case: ScheduleCase) -> None:
    t = INSIDE.clone().requires_grad_()
    scales = case.kind(t)
    log_snr = torch.as_tensor(scales.alpha, dtype=F64).log() - scales.sigma.log()
    (slope,) = torch.autograd.grad(log_snr.sum(), t)
    torch.testing.assert_close(scales.d_log_snr.detach(), slope, rtol=1e-10, atol=0)


@pytest.mark.parametrize("case", SCHEDULES)
def test_end_values(case: ScheduleCase) -> None:
    alpha, sigma, _, _ = tensors(case.kind, f64(0.0, 1.0))
    assert (torch.stack([alpha, sigma])[:, 0].tolist() == [0.0, 1.0]) == case.meets_source
    assert (torch.stack([alpha, sigma])[:, 1].tolist() == [1.0, 0.0]) == case.meets_data


@pytest.mark.parametrize("kind", cases(Prediction))
@pytest.mark.parametrize("case", SCHEDULES)
def test_prediction_conversions_round_trip(case: ScheduleCase, kind: Case) -> None:
    x, t = torch.linspace(-2, 2, 49, dtype=F64)[:, None], INSIDE
    scales = case.kind(t)
    x_1, x_0 = torch.cos(3 * x), torch.sin(5 * x)
    x = scales.alpha * x_1.T + scales.sigma * x_0.T
    x = x.T
    a, b = (torch.as_tensor(v, dtype=F64).expand(49)[:, None] for v in kind.kind.endpoint_coefficients(scales))
    answer = (a * x_1 + b * x_0) * torch.as_tensor(kind.kind.unit_scale(scales), dtype=F64).expand(49)[:, None]
    for other in cases(Prediction):
        there = convert(answer, kind.kind, other.values[0].kind, x, scales)
        back = convert(there, other.values[0].kind, kind.kind, x, scales)
        size = max(1.0, answer.abs().max().item(), there.abs().max().item())
        close(back / size, answer / size, 1e-10)
    found = predicted_endpoints(answer, kind.kind, x, scales)
    close(torch.cat(found), torch.cat([x_1, x_0]), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", cases(Prediction))
@pytest.mark.parametrize("case", SCHEDULES)
def test_conversions_are_finite_at_both_ends(case: ScheduleCase, kind: Case, dtype: torch.dtype) -> None:
    t = torch.tensor([0.0, 1e-7, 1 - 1e-7, 1.0], dtype=dtype)
    x = torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=dtype)[:, None]
    for other in cases(Prediction):
        assert convert(torch.ones_like(x), kind.kind, other.values[0].kind, x, case.kind(t)).isfinite().all()


@pytest.mark.parametrize("noise", cases(DiffusionCoefficient))
@pytest.mark.parametrize("case", SCHEDULES)
def test_diffusion_coefficients_are_finite_and_nonnegative(case: ScheduleCase, noise: Case) -> None:
    t = torch.linspace(0, 1, 21, dtype=F64)
    variance = torch.as_tensor(noise.kind.variance(case.kind(t))).expand(t.shape)
    assert variance.isfinite().all()
    assert (variance >= 0).all()


@pytest.mark.parametrize("case", SCHEDULES)
def test_score_is_the_gradient_of_the_log_density(case: ScheduleCase) -> None:
    data = Normal(case.kind)
    for t in (0.2, 0.6):
        x = torch.linspace(-1, 2, 7, dtype=F64)[:, None].requires_grad_()
        mean, variance = data.moments(t)
        density = -((x - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2
        (gradient,) = torch.autograd.grad(density.sum(), x)
        close(data.predict(ScorePrediction(), x.detach(), torch.full((7,), t, dtype=F64)), gradient, 1e-12)


@pytest.mark.parametrize("case", SCHEDULES)
def test_conforms(case: ScheduleCase) -> None:
    check_schedule(case.kind)
