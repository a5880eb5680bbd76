"""Conversions among predictions: the tables of the flow matching reference, section 6."""

import pytest
import torch

from feller.paths import (
    Affine,
    DataPrediction,
    NoisePrediction,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
    convert,
)
from feller.paths.predictions import predicted_endpoints
from feller.paths.schedules import VE, VP, Cosine, Linear, LinearVP, Polynomial, Schedule
from tests.oracle import F64, Normal, close, f64

VECTORS = {  # x_t, v, s from x_1 = (1, -2), x_0 = (0.5, 0.25) at t = 0.3
    Linear(): ((0.65, -0.425), (0.5, -2.25), (-0.7142857143, -0.3571428571)),
    Polynomial(2.0): ((0.545, 0.0475), (0.3, -1.35), (-0.5494505495, -0.2747252747)),
    Polynomial(3.0): ((0.5135, 0.18925), (0.135, -0.6075), (-0.5138746146, -0.2569373073)),
    VP(): ((0.5825705556, 0.0804038523), (0.5666869023, -1.1959897484), (-0.5017883885, -0.2508941942)),
    LinearVP(): ((0.7769696007, -0.3615151996), (0.8427572745, -2.0786213628), (-0.5241424184, -0.2620712092)),
    Cosine(): ((0.8994937618, -0.6852293684), (1.0430264707, -2.9774612030), (-0.5611631188, -0.2805815594)),
}
ORACLE = {  # V, u, s, x_1, x_0 at x = 0.2, t = 0.3, for data N(1, 0.25)
    Linear(): (0.5125, 1.1219512195, 0.1951219512, 0.9853658537, -0.1365853659),
    Polynomial(2.0): (0.830125, 0.5294383376, -0.1325101641, 1.0029814787, 0.1205842494),
    Polynomial(3.0): (0.94691125, 0.2223360426, -0.1826992762, 1.0012332201, 0.1777663957),
    VP(): (0.9946634829, 0.5873807136, -0.1162678954, 1.0024518740, 0.1158535133),
    LinearVP(): (0.9325, 1.0241286863, 0.1072386059, 0.9919571046, -0.1022991101),
    Cosine(): (0.8454194696, 1.5427604320, 0.3004313348, 0.9659017570, -0.2676862794),
}
KINDS: list[Prediction] = [VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction()]
X_1, X_0, T = f64(1.0, -2.0)[None], f64(0.5, 0.25)[None], f64(0.3)


def answers(schedule: Schedule) -> dict[Prediction, torch.Tensor]:
    _x_t, v, s = (f64(*row)[None] for row in VECTORS[schedule])
    return {VelocityPrediction(): v, DataPrediction(): X_1, NoisePrediction(): X_0, ScorePrediction(): s}


@pytest.mark.parametrize("schedule", VECTORS, ids=repr)
def test_states_and_targets(schedule: Schedule) -> None:
    x_t = Affine(schedule).sample(X_0, X_1, T)
    close(x_t, VECTORS[schedule][0], 6e-11)
    for kind, answer in answers(schedule).items():
        close(Affine(schedule, kind).target(x_t, X_0, X_1, T), answer, 6e-11)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("to", KINDS, ids=repr)
@pytest.mark.parametrize("schedule", VECTORS, ids=repr)
def test_conversions_between_all_predictions(schedule: Schedule, to: Prediction, kind: Prediction) -> None:
    """The 12 entries off the diagonal and the 4 on it; printed digits, then full precision for the way back."""
    x_t = Affine(schedule).sample(X_0, X_1, T)
    exact = {kind: Affine(schedule, kind).target(x_t, X_0, X_1, T) for kind in KINDS}
    there = convert(exact[kind], kind, to, x_t, schedule(T))
    close(there, answers(schedule)[to], 6e-11)
    close(there, exact[to], 5e-14)
    close(convert(there, to, kind, x_t, schedule(T)), exact[kind], 5e-14)


@pytest.mark.parametrize("schedule", ORACLE, ids=repr)
def test_predictions_for_gaussian_data(schedule: Schedule) -> None:
    variance, *expected = ORACLE[schedule]
    data, x = Normal(schedule), f64(0.2)[:, None]
    assert data.moments(0.3)[1] == pytest.approx(variance, abs=6e-11)
    for kind, value in zip(
        (VelocityPrediction(), ScorePrediction(), DataPrediction(), NoisePrediction()), expected, strict=True
    ):
        close(data.predict(kind, x, T), value, 6e-11)
        for other in KINDS:  # and each prediction leads to it
            close(convert(data.predict(other, x, T), other, kind, x, schedule(T)), value, 6e-11)


@pytest.mark.parametrize("schedule", VECTORS, ids=repr)
def test_limits_at_the_data(schedule: Schedule) -> None:
    """With a centred source, independent of the data, the velocity at t = 1 is alpha' x and x_1 is x."""
    x, t = f64(0.7, -1.3)[None], f64(1.0)
    scales = schedule(t)
    close(convert(x, DataPrediction(), VelocityPrediction(), x, scales), float(scales.d_alpha) * x, 1e-12)
    close(convert(x, DataPrediction(), NoisePrediction(), x, scales), torch.zeros_like(x), 1e-12)
    for kind in (NoisePrediction(), ScorePrediction()):
        close(convert(torch.zeros_like(x), kind, DataPrediction(), x, scales), x, 1e-12)
    if schedule in (Linear(), Polynomial(2.0), Polynomial(3.0), Cosine()):
        velocity = float(scales.d_alpha) * x
        close(convert(velocity, VelocityPrediction(), DataPrediction(), x, scales), x, 1e-12)


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), LinearVP(), Cosine()], ids=repr)
def test_limits_at_the_source(schedule: Schedule) -> None:
    """With centred data, independent of the source, the velocity at t = 0 is sigma' x; the score is -x always."""
    x, t = f64(0.7, -1.3)[None], f64(0.0)
    scales = schedule(t)
    slope = float(scales.d_sigma)
    close(convert(x, NoisePrediction(), VelocityPrediction(), x, scales), slope * x, 1e-12)
    close(convert(-x, ScorePrediction(), VelocityPrediction(), x, scales), slope * x, 1e-12)
    close(convert(x, NoisePrediction(), DataPrediction(), x, scales), torch.zeros_like(x), 1e-12)
    close(convert(x, NoisePrediction(), ScorePrediction(), x, scales), -x, 1e-12)
    if slope != 0 or float(scales.d_alpha) != 0:
        velocity = float(scales.d_alpha) * 1.0 + slope * x  # data with the mean 1
        close(convert(velocity, VelocityPrediction(), ScorePrediction(), x, scales), -x, 1e-12)


def test_times_broadcast_along_the_batch() -> None:
    """Times [b] and data [b, b]."""
    x, t = torch.ones(3, 3, dtype=F64), f64(0.1, 0.5, 0.9)
    close(convert(2 * x, DataPrediction(), NoisePrediction(), x, Linear()(t))[:, 0], (1 - 2 * t) / (1 - t), 1e-14)


def test_predicted_endpoints_of_any_shape() -> None:
    x, t = torch.rand(2, 3, 4, 4, dtype=F64), f64(0.2, 0.7)
    x_1, x_0 = predicted_endpoints(x * 2, DataPrediction(), x, VE()(t))
    close(x_1, 2 * x, 1e-13)
    assert x_0.shape == x.shape


def test_dtype_is_kept() -> None:
    x = torch.ones(2, 3)
    assert (
        convert(x, VelocityPrediction(), DataPrediction(), x, Linear()(torch.tensor([0.2, 0.4]))).dtype == torch.float32
    )
    assert convert(x, VelocityPrediction(), DataPrediction(), x, Linear()(f64(0.2, 0.4))).dtype == torch.float32


def test_score_matching_is_noise_prediction_with_weight_sigma_squared() -> None:
    """Sigma^2 |s - s'|^2 = |x_0 - x_0'|^2 at every time, so one is the other with a weight."""
    t, x = torch.linspace(0.05, 0.95, 19, dtype=F64), torch.linspace(-2, 2, 19, dtype=F64)[:, None]
    for schedule in (Linear(), Cosine(), VP()):
        scales, ours, truth = schedule(t), torch.cos(x), torch.sin(x)
        score = [convert(x_0, NoisePrediction(), ScorePrediction(), x, scales) for x_0 in (ours, truth)]
        close(scales.sigma[:, None] ** 2 * (score[0] - score[1]) ** 2, (ours - truth) ** 2, 1e-13)
