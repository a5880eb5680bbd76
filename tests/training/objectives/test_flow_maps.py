"""Flow maps between Gaussians, whose map is known, and learned maps of a mixture."""

from collections.abc import Callable
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import STEP_END
from feller.core.rng import Rng
from feller.networks.mlp import MLP
from feller.networks.step_end import WithStepEnd
from feller.paths import Affine, DataPrediction, Geodesic, Mixture
from feller.paths.affine import SigmaProportional
from feller.paths.schedules import VP, Linear, Schedule
from feller.paths.time_distributions import Stratified, linear_grid
from feller.sampling import ConsistencySampler, Euler, simulate
from feller.spaces import Euclidean, MaskSource, Sphere, Tokens
from feller.training.losses import CrossEntropy
from feller.training.objective import FlowMatching, TrainingContext
from feller.training.objectives.flow_map_losses import Consistency, FlowMapLoss, Lagrangian, MeanFlow, Pair, Shortcut
from feller.training.objectives.flow_maps import FlowMapObjective, FlowMaps
from feller.training.objectives.step_pairs import AnySteps, GridSteps, StepsToLast
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column, f64

DATA = Normal()
LINE = Euclidean((1,))
LOSSES = (Lagrangian(), MeanFlow(), Shortcut(), Consistency(2000))


class GaussianMap(nn.Module):
    """Average velocity of the exact flow map between Gaussians, plus `error` times the length of the step times x."""

    takes_step_end = True

    def __init__(self, error: float = 0.0, data: Normal = DATA) -> None:
        super().__init__()
        self.error, self.data, self.null_values = nn.Parameter(torch.tensor(error, dtype=F64)), data, {}

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        (m, v), (m_s, v_s) = (self._moments(time) for time in (t, cond.get(STEP_END, t)))
        length = (cond.get(STEP_END, t) - t)[:, None]
        moved = (m_s + (v_s / v).sqrt() * (x - m) - x) / torch.where(length > 0, length, 1.0)
        velocity = self.data.flow(x, t).velocity
        return torch.where(length > 0, moved, velocity) + self.error * length * x

    def _moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scales = self.data.schedule(t[:, None])
        return scales.alpha * self.data.m, (scales.alpha * self.data.s) ** 2 + scales.sigma**2


def teacher(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    return DATA.flow(x, t).velocity


def objective(loss: FlowMapLoss, *, distills: bool, **settings: object) -> FlowMapObjective:
    flow = FlowMatching(Affine(), LINE, cond_dropout=0.0)
    return FlowMaps(flow, loss, distills=distills, **settings).build(TrainingContext(teacher=teacher))


def data(n: int, seed: int = 1) -> dict[str, Tensor]:
    return {"x_1": DATA.m + DATA.s * Rng(seed).stream("x").normal((n, 1), F64)}


@pytest.mark.parametrize("schedule", [Linear(), VP()])
def test_one_step_of_the_exact_map_ends_where_the_flow_does(schedule: Schedule) -> None:
    """Also in parts, and with recomputed steps, whose gradient is the same."""
    normal = Normal(schedule)
    process = Affine(schedule).process(GaussianMap(data=normal), {})
    for times in ([0.1, 0.9], [0.1, 0.3, 0.9], [0.9, 0.1]):
        x = column(-1.0, 0.5, 2.0).requires_grad_()
        plain, again = (simulate(process, x, times, Euler(), Rng(0), recompute=r) for r in (False, True))
        if times[0] < times[1]:
            close(plain, normal.carry(x.detach(), 0.1, 0.9), 1e-12)
            slope = float(normal.carry(column(1.0), 0.1, 0.9) - normal.carry(column(0.0), 0.1, 0.9))
            (gradient,) = torch.autograd.grad(again.sum(), x)
            close(gradient, torch.full((3, 1), slope, dtype=F64), 1e-10)
        close(again, plain, 0.0)


def test_consistency_sampler_has_the_law_of_the_data_after_any_number_of_steps() -> None:
    """20,000 samples; a false alarm has five standard errors."""
    n = 20_000
    process = Affine().process(GaussianMap(), {})
    for steps in (1, 3):
        x = Rng(1).stream("source").normal((n, 1), F64)
        end = simulate(process, x, linear_grid(steps), ConsistencySampler(), Rng(2))
        assert abs(end.mean() - DATA.m) < 5 * DATA.s / n**0.5
        assert abs(end.std() - DATA.s) < 5 * DATA.s / (2 * n) ** 0.5


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_vanish_at_the_exact_map_and_only_there(loss: FlowMapLoss) -> None:
    """The consistency loss of 2,000 steps differs by the error of its Euler steps."""
    taught, network = objective(loss, distills=True), GaussianMap()
    example = taught.draw(data(256), Rng(0), network)
    tolerance = 1e-6 if isinstance(loss, Consistency) else 1e-10  # times are float32
    exact = taught.loss(network, example)
    assert exact.max() < tolerance
    (gradient,) = torch.autograd.grad(exact.mean(), network.error)
    assert abs(gradient) < 1e-3 if isinstance(loss, Consistency) else 1e-6
    wrong = GaussianMap(0.1)
    assert taught.loss(wrong, example).mean() > 100 * exact.mean()
    (slope,) = torch.autograd.grad(taught.loss(wrong, example).mean(), wrong.error)
    assert slope > 0  # the error decreases, although parts of the loss have no gradient


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradient_from_data_alone_vanishes_at_the_exact_map(loss: FlowMapLoss) -> None:
    """In expectation: 40,000 examples, five standard errors, and the bias of Euler steps for consistency."""
    untaught, n, means, std_errors = objective(loss, distills=False), 40_000, [], []
    for error in (0.0, 0.3):
        network = GaussianMap(error)
        example = untaught.draw(data(n), Rng(3), network)

        def row_loss(error: Tensor, row: dict[str, Tensor], network: nn.Module = network) -> Tensor:
            def call(*inputs: object) -> Tensor:
                return torch.func.functional_call(network, {"error": error}, inputs)

            return untaught.loss(call, {k: v if isinstance(v, dict) else v[None] for k, v in row.items()})[0]

        gradients = torch.vmap(torch.func.grad(row_loss), (None, 0))(network.error.detach(), example)
        means.append(gradients.mean())
        std_errors.append(gradients.std() / n**0.5)
    assert abs(means[0]) < 5 * std_errors[0] + 0.01 * abs(means[1])
    assert means[1] > 20 * std_errors[1]


def test_sides_equal_finite_differences_along_the_flow() -> None:
    """Of a wrong map, so that each term counts; the velocity is that of the flow."""
    network, h = GaussianMap(0.3), 1e-5
    x, t, s = column(-1.0, 0.2, 1.5), f64(0.1, 0.4, 0.6), f64(0.5, 0.9, 1.0)

    def u(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return network(x, t, {STEP_END: s})

    def v(x: Tensor, t: Tensor) -> Tensor:
        return DATA.flow(x, t).velocity

    def map_to(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return x + (s - t)[:, None] * u(x, t, s)

    pair = Pair(x, t, s, lambda: v(x, t))
    with torch.no_grad():
        rate, goal = Lagrangian().sides(u, v, pair, LINE)
        close(rate, (map_to(x, t, s + h) - map_to(x, t, s - h)) / (2 * h), 1e-8)
        close(goal, v(map_to(x, t, s), s), 1e-12)
        prediction, goal = MeanFlow().sides(u, v, pair, LINE)
        later, earlier = (u(x + e * v(x, t), t + e, s) for e in (h, -h))
        close(goal, v(x, t) + (s - t)[:, None] * (later - earlier) / (2 * h), 1e-8)
        close(prediction, u(x, t, s), 1e-12)
        prediction, goal = Shortcut().sides(u, v, pair, LINE)
        middle = (t + s) / 2
        close(goal, (map_to(map_to(x, t, middle), middle, s) - x) / (s - t)[:, None], 1e-12)
        prediction, goal = Consistency(4).sides(u, v, pair, LINE)
        later = torch.minimum(t + 0.25, s)
        end = map_to(x + (later - t)[:, None] * v(x, t), later, s)
        close(goal, (end - x) / (s - t)[:, None], 1e-12)


def test_guidance_is_built_into_the_velocity() -> None:
    """With empty steps alone the minimiser is w v(x | c) + (1 - w) v(x), with and without a teacher."""
    space, w = Euclidean((1,)), 3.0

    class Labelled(nn.Module):
        takes_step_end, null_values = True, MappingProxyType({"label": 2})

        def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
            return x * cond["label"][:, None]

    class Guided(Labelled):
        def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
            label = cond["label"][:, None]
            return x * torch.where(label == 2, label, w * label + (1 - w) * 2)

    flow = FlowMatching(Affine(), space, cond_dropout=0.3, null={"label": 2})
    config = FlowMaps(flow, empty_prob=1.0, distills=True, guidance=w)
    taught = config.build(TrainingContext(teacher=Labelled()))
    batch = {**data(64), "label": torch.arange(64) % 2}
    example = taught.draw(batch, Rng(0), Guided())
    label = example["given"]["label"]
    assert set(example["given"]) == {"label"}
    assert 5 < (label == 2).sum() < 40
    assert ((label == batch["label"]) | (label == 2)).all()
    assert taught.loss(Guided(), example).max() < 1e-12
    assert taught.loss(Labelled(), example).mean() > 0.1
    untaught = FlowMaps(flow, empty_prob=1.0, guidance=w).build(TrainingContext())
    expected = w * example["velocity"] + (1 - w) * 2 * example["x_t"]
    loss = untaught.loss(Labelled(), example)
    close(loss, (example["x_t"] * label[:, None] - expected).square().mean(1), 1e-12)


def test_observed_entries_do_not_move() -> None:
    flow = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=0.0, inpaint_prob=1.0)
    maps = FlowMaps(flow, Shortcut(), empty_prob=0.0).build(TrainingContext())
    network = WithStepEnd(MLP(8, 1)).build((2,), {}, Rng(0))
    example = maps.draw({"x_1": torch.ones(64, 2)}, Rng(0), network)
    observed = example["given"]["known"]
    assert 0 < observed.sum() < 128
    assert (example["velocity"][observed] == 0).all()
    assert (example["x_t"][observed] == 1).all()


@pytest.mark.parametrize("loss", [Lagrangian(), Shortcut()], ids=lambda loss: type(loss).__name__)
def test_on_the_sphere_the_map_of_a_rotation_is_exact(loss: FlowMapLoss) -> None:
    """The velocity omega x p turns points about an axis: geodesics on the equator, where the average velocity is v."""
    space = Sphere()

    def turn(p: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return torch.stack([-p[:, 1], p[:, 0], 0 * p[:, 2]], 1)

    angle = torch.linspace(0, 6, 16, dtype=F64)
    equator = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    ends = (f64(0.1).repeat(16), f64(0.7).repeat(16))
    pair = Pair(equator, *ends, lambda: turn(equator, ends[0], {}))
    side, goal = loss.sides(lambda x, t, s: turn(x, t, {}), lambda x, t: turn(x, t, {}), pair, space)
    close(side, goal, 1e-12)
    side, goal = loss.sides(
        lambda x, t, s: (1 + (s - t)[:, None]) * turn(x, t, {}), lambda x, t: turn(x, t, {}), pair, space
    )
    assert (side - goal).norm(dim=1).min() > 0.1


def test_steps() -> None:
    device = torch.device("cpu")
    t, s = AnySteps().sample(4000, Rng(0), device)
    assert ((t >= 0) & (t <= s) & (s <= 1)).all()
    assert abs((s - t).mean() - 1 / 3) < 0.02
    t, s = GridSteps((1, 4)).sample(4000, Rng(0), device)
    steps = {(a, b) for a, b in zip(t.tolist(), s.tolist(), strict=True)}
    assert steps == {(0.0, 1.0), (0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)}
    assert abs((s - t == 1).double().mean() - 0.5) < 0.04
    assert (StepsToLast().sample(4, Rng(0), device)[1] == 1).all()


MEANS, SPREAD = torch.tensor([[-1.5, 0.0], [1.5, 1.0]]), 0.4


def mixture_velocity(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """Velocity of the linear path from N(0, I) to 0.3 N((-1.5, 0), 0.4^2) + 0.7 N((1.5, 1), 0.4^2)."""
    t = t[:, None, None]
    variance = (t * SPREAD) ** 2 + (1 - t) ** 2
    away = x[:, None] - t * MEANS
    each = MEANS + (t * SPREAD**2 - (1 - t)) / variance * away
    logits = torch.tensor([0.3, 0.7]).log() - 0.5 * away.square().sum(-1) / variance[..., 0]
    return (logits.softmax(1)[..., None] * each).sum(1)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [Lagrangian(), Shortcut()], ids=lambda loss: type(loss).__name__)
def test_learned_map_of_a_mixture(loss: FlowMapLoss) -> None:
    """One step has the weights of the modes, their places and spread."""
    flow = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=0.0)
    maps = FlowMaps(flow, loss, distills=True).build(TrainingContext(teacher=mixture_velocity))
    network = WithStepEnd(MLP(64, 2, frequencies=1)).build((2,), {}, Rng(0))
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    rng = Rng(0)
    for i in range(600):
        draw = rng.step(i).stream("data")
        modes = MEANS[(draw.uniform((256,)) < 0.7).long()]
        batch = {"x_1": modes + SPREAD * draw.normal((256, 2))}
        value = maps.loss(network, maps.draw(batch, rng.step(i), network)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        x_0 = Rng(5).stream("source").normal((4000, 2))
        end = simulate(flow.path.process(network, {}), x_0, [0.0, 1.0], Euler(flow.space), Rng(0))
    right = end[:, 0] > 0
    assert abs(right.double().mean() - 0.7) < 0.06
    for mode, mean in zip((~right, right), MEANS, strict=True):
        assert (end[mode].mean(0) - mean).abs().max() < 0.2
        assert ((end[mode].std(0) - SPREAD).abs() < 0.2).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_bfloat16(loss: FlowMapLoss) -> None:
    """Under autocast losses are those of float32, to the rounding of bfloat16, and the gradient is finite."""
    network = WithStepEnd(MLP(16, 2)).build((1,), {}, Rng(0))
    with torch.no_grad():
        network.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    maps = objective(loss, distills=False, steps=StepsToLast())
    example = maps.draw({"x_1": data(64)["x_1"].float()}, Rng(0), network)
    plain = maps.loss(network, example)
    with torch.autocast("cpu", torch.bfloat16):
        low = maps.loss(network, example)
    assert (low - plain).abs().mean() < 0.05 * plain.mean()
    low.mean().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)


def settings(**changes: object) -> Callable[[], object]:
    flow = changes.pop("flow", FlowMatching(Affine(prediction=DataPrediction()), LINE))
    return lambda: FlowMaps(flow, **changes)


def test_bad_settings() -> None:
    tokens = Tokens(4, (2,), MaskSource())
    jumps = FlowMatching(Mixture(source=MaskSource()), tokens, CrossEntropy())
    noisy = FlowMatching(Affine(noise=SigmaProportional()), LINE)
    sphere = FlowMatching(Geodesic(Sphere()), Sphere())
    for make, argument in (
        (settings(flow=jumps), "path"),
        (settings(flow=noisy), "path"),
        (settings(flow=sphere, loss=MeanFlow()), "loss"),
        (settings(flow=sphere, loss=Consistency(), steps=StepsToLast()), "nfe"),
        (settings(nfe=0), "nfe"),
        (settings(empty_prob=1.5), "empty_prob"),
        (settings(guidance=float("nan")), "guidance"),
        (lambda: AnySteps(Stratified()), "times"),
        (lambda: Consistency(1), "steps"),
        (lambda: settings(distills=True)().build(TrainingContext()), "teacher"),
        (lambda: objective(Lagrangian(), distills=True).draw(data(4), Rng(0), nn.Linear(1, 1)), "network"),
    ):
        with refuses(UsageError, argument=argument):
            make()
