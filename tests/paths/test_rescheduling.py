"""Rescheduling of trained networks: the flow matching reference, section 7."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    Affine,
    DataPrediction,
    Geodesic,
    Mixture,
    NoisePrediction,
    Path,
    Prediction,
    Premetric,
    ProductPath,
    ScorePrediction,
    VelocityPrediction,
    VPrediction,
)
from feller.paths.affine import ConstantDiffusion
from feller.paths.processes import Characteristics
from feller.paths.rescheduling import match_snr, reschedule
from feller.paths.schedules import VE, VP, Cosine, CustomSchedule, Linear, LinearVP, Polynomial, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import Ancestral, DormandPrince, Euler, simulate
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column, f64

KINDS: list[Prediction] = [VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction(), VPrediction()]
SCHEDULES: list[Schedule] = [Linear(), Polynomial(2.0), Polynomial(1.5), VP(), LinearVP(), Cosine(), VE(0.01, 50.0)]
CHANGES: list[tuple[Schedule, Schedule]] = [
    *((VP(), Linear()), (Linear(), Cosine()), (Linear(), VP()), (Polynomial(2.0), LinearVP())),
    *((LinearVP(), Polynomial(1.5)), (VE(0.01, 50.0), Linear()), (Cosine(), VE(0.01, 50.0)), (VE(0.01, 50.0), VP())),
]
PAIRS = [(before, after) for before in SCHEDULES for after in SCHEDULES]
ROWS = [  # before, after, then at r = 0.3: t, s, their slopes, and the velocity at 0.2 of N(1, 0.25)
    (Linear(), Polynomial(2.0), (0.09, 1, 0.6, 0, 0.5294383376)),
    (Linear(), Polynomial(3.0), (0.027, 1, 0.27, 0, 0.2223360426)),
    (Linear(), VP(), (0.0780472470, 1.0807885410, 0.5083878180, 0.5416405248, 0.5873807136)),
    (Linear(), LinearVP(), (0.2392460493, 1.2539392014, 0.6666936894, 0.6855145490, 1.0241286863)),
    (Linear(), Cosine(), (0.3375401519, 1.3449970239, 0.8683148537, 0.6864631660, 1.5427604320)),
    (VP(), Linear(), (0.5722626205, 0.7615773106, 0.9342779192, -0.5252257314, 1.1219512195)),
]


class Own(Path):
    """A user-defined path."""

    def sample(self, x_0, x_1, t, rng=None):
        return x_0

    def target(self, x_t, x_0, x_1, t):
        return x_t

    def characteristics(self, prediction, x_t, t):
        return Characteristics(velocity=prediction)


def perfect(path: Affine):
    """Return the exact prediction for N(1, 0.25), which refuses non-finite states and times."""

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        assert x.isfinite().all()
        assert ((t >= 0) & (t <= 1)).all()
        return Normal(path.schedule).predict(path.prediction, x, t)

    return network


def changed(before: Schedule, after: Schedule, kind: Prediction):
    """Return the rescheduled path, and its process with the exact prediction."""
    path, network = reschedule(Affine(before, kind), perfect(Affine(before, kind)), after)
    return path, path.process(network, {})


@pytest.mark.parametrize(("before", "after", "row"), ROWS, ids=repr)
def test_vectors_of_time_and_scale(before: Schedule, after: Schedule, row: tuple[float, ...]) -> None:
    at, slope = torch.func.jvp(lambda r: match_snr(before, after, r), (f64(0.3),), (f64(1.0),))
    for actual, expected in zip((*at, *slope), row[:4], strict=True):
        close(actual, expected, 1e-9)
    for kind in KINDS:
        close(changed(before, after, kind)[1](column(0.2), f64(0.3)).velocity, row[4], 1e-9)


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=repr)
def test_velocity_of_any_field_follows_the_formula(before: Schedule, after: Schedule) -> None:
    """u(x) = s' / s x + s t' u(x / s), for a field that is no marginal of anything, at single times per example."""

    def field(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.sin(3 * x) + t[:, None]

    r, x = torch.linspace(0.1, 0.9, 5, dtype=F64), torch.linspace(-2, 2, 5, dtype=F64)[:, None]
    (t, s), (d_t, d_s) = torch.func.jvp(lambda r: match_snr(before, after, r), (r,), (torch.ones_like(r),))
    t, s, d_t, d_s = (value[:, None] for value in (t, s, d_t, d_s))
    path, network = reschedule(Affine(before), field, after)
    inside = (d_t > 0)[:, 0]  # VE goes through ratios from 0.02 to 100 only
    assert inside.sum() >= 4
    expected = d_s / s * x + s * d_t * field(x / s, t[:, 0], {})
    torch.testing.assert_close(path.process(network, {})(x, r).velocity[inside], expected[inside], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=repr)
def test_every_prediction_equals_training_on_the_new_schedule(before: Schedule, after: Schedule) -> None:
    """Inside, at times that both pass; one time for all as solvers give it, in float32 too."""
    r = after.t_from_snr(torch.logspace(-1.67, 1.99, 9, dtype=F64)).clamp(0.01, 0.999)
    x = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
    for kind in KINDS:
        path, network = reschedule(Affine(before, kind), perfect(Affine(before, kind)), after)
        assert path == Affine(after, kind)
        for time in (r, *(one.expand(9) for one in r[::4])):
            truth = Normal(after).predict(kind, x, time)
            torch.testing.assert_close(network(x, time, {}), truth, rtol=1e-6, atol=1e-7)
        assert network(x.float(), r.float(), {}).dtype == torch.float32


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=repr)
def test_velocities_at_both_ends(before: Schedule, after: Schedule) -> None:
    """Near those of a model trained so, also where a Wronskian is 0 or infinite and where an old end is passed."""
    x = column(-0.7, 0.2)
    for r, near in ((0.0, 1e-6), (1.0, 1 - 1e-6)):
        velocity = changed(before, after, VelocityPrediction())[1](x, f64(r).expand(2)).velocity
        truth = Normal(after).predict(VelocityPrediction(), x, f64(near).expand(2))
        torch.testing.assert_close(velocity, truth, rtol=3e-3, atol=1e-3)


def test_velocity_limit_of_a_nonvanishing_field() -> None:
    """Of u(x) = -x from Linear to Cosine at x = 1, r = 1: -pi."""
    path, network = reschedule(Affine(), lambda x, t, given: -x, Cosine())
    close(path.process(network, {})(column(1.0), f64(1.0)).velocity, -torch.pi, 1e-12)


@pytest.mark.parametrize(
    "kind", [VelocityPrediction(), pytest.param(ScorePrediction(), marks=pytest.mark.slow)], ids=repr
)
@pytest.mark.parametrize(("before", "after"), CHANGES, ids=repr)
def test_samples_at_the_end_are_unchanged(before: Schedule, after: Schedule, kind: Prediction) -> None:
    """Through Dormand-Prince from r = 0 to 1, to its tolerance and to what VP and VE leave out at their ends.

    The bias at the start is that of the new schedule: none for most, 0.64671 for VP as if trained on it.
    """
    path, process = changed(before, after, kind)
    x_0 = column(-0.7, 1.3)
    end = simulate(process, path.initial_state(x_0), [0.0, 1.0], DormandPrince(rtol=1e-6, atol=1e-6), Rng(0))
    close(end, Normal(after).carry(path.initial_state(x_0), 0.0, 1.0), 1e-4)


def test_bias_at_the_start_is_that_of_the_new_schedule() -> None:
    """And one of the old path is gone: VP itself ends at 0.64671."""
    solver, x_0 = DormandPrince(rtol=1e-7, atol=1e-7), column(-0.7)
    for before, after, expected in ((Linear(), VP(), 0.64671), (VP(), Linear(), 0.65), (VP(), Cosine(), 0.65)):
        path, process = changed(before, after, VelocityPrediction())
        close(simulate(process, path.initial_state(x_0), [0.0, 1.0], solver, Rng(0)), expected, 1e-5)


def test_from_equal_snr_on_it_is_the_old_flow() -> None:
    r = VP()(f64(0.0)).alpha / (VP()(f64(0.0)).alpha + VP()(f64(0.0)).sigma)
    _, s = match_snr(VP(), Linear(), r)
    _, process = changed(VP(), Linear(), VelocityPrediction())
    start = s * Affine(VP()).initial_state(column(-0.7))
    end = simulate(process, start, [float(r), 1.0], DormandPrince(rtol=1e-7, atol=1e-7), Rng(0))
    close(end, Normal(VP()).carry(Affine(VP()).initial_state(column(-0.7)), 0.0, 1.0), 1e-6)


def test_initial_states_are_scaled_by_the_new_schedule() -> None:
    path, _ = reschedule(Affine(VE(0.01, 50.0)), lambda x, t, given: x, Linear())
    assert path.initial_state(column(2.0)).item() == 2
    path, _ = reschedule(Affine(), lambda x, t, given: x, VE(0.01, 50.0))
    assert path.initial_state(column(2.0)).item() == pytest.approx(100)


def test_diffusion_ancestral_steps_and_guidance_work_after_rescheduling() -> None:
    path = Affine(Linear(), NoisePrediction(), ConstantDiffusion(0.5))
    network = perfect(path)
    network.null_values = {"label": 3}
    path, network = reschedule(path, network, Cosine())
    assert path.noise == ConstantDiffusion(0.5)
    native = Affine(Cosine(), NoisePrediction(), ConstantDiffusion(0.5)).process(
        perfect(Affine(Cosine(), NoisePrediction())), {}
    )
    x, t = column(0.3, -1.0), f64(0.4, 0.8)
    close(path.process(network, {})(x, t).velocity, native(x, t).velocity, 1e-12)
    flow = dataclasses.replace(path, noise=None).process(network, {})
    step = Ancestral(path.schedule, eta=0.0).step(flow, x, 0.4, 0.6, Rng(0).stream("step"))
    close(step, Normal(Cosine()).carry(x, 0.4, 0.6), 0.05)
    assert cfg(network, 0.0)(x, t, {"label": torch.zeros(2, dtype=torch.long)}).shape == x.shape


def test_custom_schedules_are_inverted_by_bisection() -> None:
    schedule = CustomSchedule(lambda t: torch.sin(torch.pi / 2 * t), lambda t: torch.cos(torch.pi / 2 * t))
    _, process = changed(schedule, Linear(), VelocityPrediction())
    close(process(column(0.2), f64(0.3)).velocity, 1.1219512195, 1e-9)


def test_geodesic_paths_change_only_the_time() -> None:
    space, field = Euclidean((1,)), lambda x, t, given: torch.sin(x) + t[:, None]
    x, r = column(0.3, -1.0, 2.0), f64(0.0, 0.4, 1.0)
    t = r.clamp(1e-6)[:, None].sqrt()  # whose slope, 1 / (2 t), is infinite at 0 itself
    for kind in (Geodesic(space, Polynomial(2.0)), Premetric(space, Polynomial(2.0)), Affine(Polynomial(2.0))):
        path, network = reschedule(kind, field, Linear())
        velocity = path.process(network, {})(x, r).velocity
        close(velocity[1:], ((torch.sin(x) + t) / (2 * t))[1:], 1e-12)
        assert velocity.isfinite().all()


def test_mixtures_are_evaluated_at_equal_alpha() -> None:
    """kappa(t) = r at both ends and between; the chance to have jumped by s is that of the new schedule."""
    asked = []

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        asked.append(t)
        return torch.tensor([0.0, 1.0]).double().expand(*x.shape, 2)

    path, changed = reschedule(Mixture(Polynomial(3.0)), network, Polynomial(2.0))
    r, tokens = f64(0.0, 0.3, 1.0), torch.zeros(3, 4, dtype=torch.long)
    now = path.process(changed, {})(tokens, r)
    close(asked[0], r ** (2 / 3), 1e-12)
    assert path == Mixture(Polynomial(2.0))
    close(now.jumps.hazard(0.7)[1], [math.log((1 - 0.09) / (1 - 0.49))] * 4, 1e-12)
    end = simulate(path.process(changed, {}), tokens, linear_grid(4), Euler(), Rng(0))
    assert end.shape == (3, 4)


def test_all_leaves_of_a_product_change() -> None:
    parts = ProductPath({"a": Affine(Linear(), DataPrediction()), "b": ProductPath({"c": Mixture()})})
    seen = {}

    def network(x, t, given):
        seen.update(a=t["a"], c=t["b"]["c"])
        return {"a": Normal().predict(DataPrediction(), x["a"], t["a"]), "b": {"c": torch.zeros(2, 3)}}

    path, changed = reschedule(parts, network, Polynomial(2.0))
    assert path == ProductPath(
        {"a": Affine(Polynomial(2.0), DataPrediction()), "b": ProductPath({"c": Mixture(Polynomial(2.0))})}
    )
    x = {"a": column(0.2, 0.2), "b": {"c": torch.zeros(2, dtype=torch.long)}}
    now = path.process(changed, {})(x, f64(0.3, 0.3))
    close(now["a"].velocity, [0.5294383376, 0.5294383376], 1e-9)
    close(torch.stack(list(seen.values())), [0.09, 0.09, 0.09, 0.09], 1e-12)


def test_other_paths_and_schedules_are_refused() -> None:
    with refuses(UsageError):
        reschedule(ProductPath({"a": Own()}), lambda x, t, given: x, Linear())
    with refuses(UsageError, found="Cosine()"):
        reschedule(Mixture(), lambda x, t, given: x, Cosine())


def test_gradients_pass_through() -> None:
    weight = torch.tensor(0.5, dtype=F64, requires_grad=True)
    for before, after in ((Linear(), VP()), (VP(), Linear()), (Polynomial(2.0), LinearVP())):
        path, network = reschedule(Affine(before), lambda x, t, given: weight * x, after)
        for r in (0.0, 0.5, 1.0):
            x = column(0.3).requires_grad_()
            velocity = path.process(network, {})(x, f64(r)).velocity
            gradients = torch.autograd.grad(velocity.sum(), (x, weight))
            assert all(gradient.isfinite().all() for gradient in gradients)
