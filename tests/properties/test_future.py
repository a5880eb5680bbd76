"""What later parts will ask of the interfaces, written against them: if one of these breaks, so does a plan."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from feller.core.pytree import State, append_dims
from feller.core.rng import RandomStream, Rng
from feller.paths import Affine, Mixture, Path, ProductPath
from feller.paths.discrete.rates import CHUNK_SIZE
from feller.paths.processes import Characteristics, Jumps, Process, superpose
from feller.paths.time_distributions import Stratified, linear_grid
from feller.sampling import Ancestral, Euler, Midpoint, simulate, trajectory
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean, MaskSource, Space, Tokens
from feller.spaces import Product as ProductSpace
from feller.training.objective import FlowMatching
from tests.oracle import F64, Normal, chain, close, column, f64

# (a) Jumps on R^d, one dimension at a time: generator matching, sections 4.3 and 8.


@dataclass(frozen=True)
class JumpKernel:
    """The jump process of X_t = t z + (1 - t) X_0 towards one of a few places z, which a posterior weighs."""

    places: tuple[float, ...]
    chances: tuple[float, ...]

    def posterior(self, x: Tensor, t: Tensor) -> Tensor:
        """Return p(z | x_t), [b, d, z]."""
        z, t = f64(*self.places), t[:, None, None]
        return torch.softmax(f64(*self.chances).log() - (x[..., None] - t * z) ** 2 / (2 * (1 - t) ** 2), -1)

    def expected_jumps(self, x: Tensor, t: Tensor, s: float) -> Tensor:
        """Return the jumps until s of a state that stays, towards each z: how far log p_r(x | z) falls, exactly.

        It falls where k_r(x) = x^2 - (r + 1) x z - (1 - r)^2 + r z^2 is positive: from the smaller root on, up to 1.
        """
        z, x, t = f64(*self.places), x[..., None], t[:, None, None]
        half = (2 + z**2 - x * z) / 2
        first = half - (half**2 + x**2 - x * z - 1).clamp(min=0).sqrt()
        start = torch.maximum(t, first)
        if s == 1:
            return torch.where(start < 1, math.inf, 0.0)

        def log_p(r: Tensor | float) -> Tensor:
            r = torch.as_tensor(r, dtype=F64)
            return -((x - r * z) ** 2) / (2 * (1 - r) ** 2) - torch.log1p(-r)

        return torch.where(start < s, log_p(start.clamp(max=s)) - log_p(s), 0.0)

    def land(self, z: Tensor, u: Tensor, s: float) -> Tensor:
        """Return s z + (1 - s) xi, xi of density [1 + z xi - xi^2]_+ phi(xi), by bisection of its antiderivative."""

        def g(xi: Tensor) -> Tensor:
            return (xi - z) * torch.exp(-(xi**2) / 2)

        low, high = (z - (z**2 + 4).sqrt()) / 2, (z + (z**2 + 4).sqrt()) / 2
        wanted = g(low) + u * (g(high) - g(low))
        for _ in range(30):
            middle = (low + high) / 2
            below = g(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return s * z + (1 - s) * low

    def jumps(self, x: Tensor, t: Tensor) -> Jumps:
        """Superpose the jumps towards every place."""
        weights = self.posterior(x, t)

        def hazards(s: float) -> Tensor:
            return torch.where(weights > 0, weights * self.expected_jumps(x, t, s), 0.0)

        def land(s: float, which: Tensor, draw: RandomStream) -> Tensor:
            rates = hazards(s if s < 1 else s - 1e-9)[which]
            u = [draw.uniform(tuple(which.shape), F64)[which] for _ in range(2)]
            index = (rates.cumsum(-1) < u[0][:, None] * rates.sum(-1, keepdim=True)).sum(-1)
            return self.land(f64(*self.places)[index.clamp(max=len(self.places) - 1)], u[1], s)

        return Jumps(lambda s: hazards(s).sum(-1), land)

    def leap(self, x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(jumps=self.jumps(x, t))

    def flow(self, x: Tensor, t: Tensor) -> Characteristics:
        mean = self.posterior(x, t) @ f64(*self.places)
        return Characteristics(velocity=(mean - x) / (1 - t[:, None]))

    def distribution(self, x: Tensor, t: float) -> Tensor:
        """Return the distribution function of X_t."""
        parts = [w * torch.special.ndtr((x - t * z) / (1 - t)) for z, w in zip(self.places, self.chances, strict=True)]
        return torch.stack(parts).sum(0)


ONE, TWO = JumpKernel((1.0,), (1.0,)), JumpKernel((-1.0, 1.0), (0.3, 0.7))
PROCESSES: dict[str, Process] = {
    "jump to one": ONE.leap,
    "half jump, half flow to one": superpose((0.5, ONE.leap), (0.5, ONE.flow)),
    "jump to two": TWO.leap,
    "half jump, half flow to two": superpose((0.5, TWO.leap), (0.5, TWO.flow)),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_jumps_on_the_line_have_the_marginals(name: str) -> None:
    """At t = 0.4 and 0.8, 20,000 numbers, 80 steps of exact survival that land where the path is at t + h.

    Largest deviation of the distribution function below 0.019 (false alarm 1e-6) plus 0.012 for the steps: a state may
    jump twice in one. Standing still would give 0.3.
    """
    kernel = ONE if name.endswith("one") else TWO
    x = Rng(0).stream("source").normal((10_000, 2), F64)
    times = linear_grid(80, 0.0, 0.8)
    for s, state in zip(times[1:], trajectory(PROCESSES[name], x, times, Euler(), Rng(1)), strict=True):
        if s == pytest.approx(0.4) or s == 0.8:
            values = state.flatten().sort().values
            uniform = kernel.distribution(values, s)
            steps = torch.arange(len(values), dtype=F64) / len(values)
            assert (uniform - steps).abs().max() < 0.019 + 0.012


@pytest.mark.parametrize("name", PROCESSES)
def test_jumps_on_the_line_end_on_the_data(name: str) -> None:
    """At t = 1 everybody who is not there must jump; shares of two places within 5 standard errors and 0.02."""
    x = Rng(0).stream("source").normal((4000, 1), F64)
    end = simulate(PROCESSES[name], x, linear_grid(40), Euler(), Rng(1))
    if name.endswith("one"):
        close(end, torch.ones_like(end), 1e-9)
    else:
        close(end.abs(), torch.ones_like(end), 1e-9)
        assert abs((end > 0).double().mean().item() - 0.7) < 5 * math.sqrt(0.21 / 4000) + 0.02


def test_jump_rates_of_the_vector() -> None:
    """Data 0.3 at -1, 0.7 at 1, t = 0.5: lambda and u as printed in generator matching, section 13.4."""
    x, t = column(-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0), torch.full((7,), 0.5, dtype=F64)
    h = 1e-7
    rate = TWO.jumps(x, t).hazard(0.5 + h) / h
    expected = (10.03754243, 0.90166864, 2.39995872, 2.0, 0.54821162, 0.17134532, 10.00689995)
    torch.testing.assert_close(rate[:, 0], f64(*expected), rtol=1e-5, atol=0)
    velocity = (2.00312854, 0.16393975, -0.04001651, 0.8, 0.78071535, -0.0311537, -2.000575)
    close(TWO.flow(x, t).velocity[:, 0], velocity, 1e-8)
    close(
        TWO.posterior(x, t)[:, 0, 1],
        (0.00078213, 0.04098494, 0.23999587, 0.7, 0.94517884, 0.99221158, 0.99985625),
        5e-9,
    )


def test_landing_law_of_the_vector() -> None:
    """Towards z = 1: mean of xi 0.392123, support between the golden ratios."""
    u = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    xi = ONE.land(torch.ones_like(u), u, 0.0)
    assert xi.mean().item() == pytest.approx(0.392123, abs=2e-6)
    assert -0.6180339888 <= xi.min() < -0.6
    assert 1.6 < xi.max() <= 1.6180339888


# (b) A large alphabet.


class Watch(TorchDispatchMode):
    """Note the largest tensor that any operation makes while it is awake."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.asleep = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not self.asleep:
            sizes = [
                part.numel() for part in (out if isinstance(out, tuple | list) else [out]) if torch.is_tensor(part)
            ]
            self.largest = max([self.largest, *sizes])
        return out


def test_a_large_alphabet_is_never_laid_out() -> None:
    """50,257 symbols, 2 x 64 tokens: no array of all tokens by all symbols but the network's own answer.

    Before the last step the solver makes a row for each token that jumps; there all jump, in parts.
    """
    symbols, space, watch = 50_257, Tokens(50_257, (64,), MaskSource()), Watch()
    table = torch.zeros(symbols)

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        watch.asleep = True
        answer = table.expand(*x.shape, symbols)
        watch.asleep = False
        return answer

    x = space.sample_base(2, Rng(0).stream("source"))
    peaks = []
    with watch:
        for state in trajectory(Mixture().process(network, {}), x, linear_grid(8), Euler(), Rng(0)):
            watch.asleep = True
            peaks.append((watch.largest, int((state != x).sum()) * symbols))
            x, watch.largest, watch.asleep = state, 0, False
    assert (x < symbols).all()
    assert all(largest == jumped < 0.6 * 128 * symbols for largest, jumped in peaks[:-1])
    assert peaks[-1][0] <= CHUNK_SIZE < 128 * symbols


# (c) A product of tokens, a circle and a lattice.


@dataclass(frozen=True)
class Circle(Space):
    """Angles in [0, 2 pi)."""

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        return 2 * math.pi * rng.uniform((n, 2), F64, device)

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        return (x + v) % (2 * math.pi)


def turn(x: Tensor, y: Tensor) -> Tensor:
    """Return the shorter way from x to y."""
    return torch.atan2(torch.sin(y - x), torch.cos(y - x))


@dataclass(frozen=True)
class Arc(Path):
    """Go the shorter way at constant speed."""

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, rng: RandomStream | None = None) -> Tensor:
        return Circle().step(x_0, append_dims(t, x_0) * turn(x_0, x_1))

    def target(self, x_t: Tensor, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return turn(x_0, x_1)

    def characteristics(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=prediction)


CRYSTAL = ProductPath({"element": Mixture(), "angle": Arc(), "lattice": Affine()})
SPACES = ProductSpace({"element": Tokens(5, (4,), MaskSource()), "angle": Circle(), "lattice": Euclidean((3, 3))})


@pytest.mark.parametrize("solver", [Euler(SPACES), Midpoint(SPACES)], ids=lambda solver: type(solver).__name__)
def test_a_product_of_three_spaces_moves_with_one_call(solver) -> None:
    """Tokens jump, angles wrap, the lattice flows, to data that the network knows; one call for all of them."""
    n, calls = 50, []
    x_0 = SPACES.sample_base(n, Rng(0).stream("source"))
    x_0["lattice"] = x_0["lattice"].double()
    draw = Rng(1).stream("data")
    x_1 = {"element": draw.randint(5, (n, 4)), "angle": 2 * math.pi * draw.uniform((n, 2), F64)}
    x_1["lattice"] = draw.normal((n, 3, 3), F64)

    def network(x: State, t: State, given: dict[str, Tensor]) -> State:
        calls.append(t)
        rest = {name: append_dims(1 - t[name], x[name]) for name in x}
        return {
            "element": 800.0 * torch.nn.functional.one_hot(x_1["element"], 5).double(),
            "angle": turn(x["angle"], x_1["angle"]) / rest["angle"],
            "lattice": (x_1["lattice"] - x["lattice"]) / rest["lattice"],
        }

    states = list(trajectory(CRYSTAL.process(network, {}), x_0, linear_grid(10), solver, Rng(2)))
    assert len(calls) == 10 * type(solver).nfe_per_step
    for state in states:
        assert state["angle"].min() >= 0
        assert state["angle"].max() < 2 * math.pi
        assert state["element"].dtype == torch.long
    crossed = ((states[-1]["angle"] - x_0["angle"]).abs() > math.pi).double().mean()
    assert crossed > 0.1  # some took the way over 0
    close(turn(states[-1]["angle"], x_1["angle"]), torch.zeros(n, 2), 1e-12)
    close(states[-1]["lattice"], x_1["lattice"], 1e-12)
    assert torch.equal(states[-1]["element"], x_1["element"])
    half = (states[4]["element"] < 5).double().mean().item()
    assert abs(half - 0.5) < 5 * math.sqrt(0.25 / (4 * n))  # false alarm 6e-7


def test_a_given_leaf_stays_at_its_end() -> None:
    """A leaf that is known has t = 1 of its own and no process."""
    inner = ProductPath({"image": Affine(), "label": Mixture()})

    def network(x: State, t: State, given: dict[str, Tensor]) -> State:
        assert (t["label"] == 1).all()
        return {"image": -x["image"] + x["label"], "label": torch.zeros(*x["label"].shape, 3)}

    process = inner.process(network, {})

    def given_label(x: State, t: Tensor) -> State:
        now = process(x, {"image": t, "label": torch.ones_like(t)})
        return {"image": now["image"], "label": 0.0 * now["label"]}

    x = {"image": torch.zeros(4, 1, dtype=F64), "label": torch.tensor([[0], [1], [2], [2]])}
    end = simulate(given_label, x, linear_grid(5), Euler(), Rng(0))
    assert torch.equal(end["label"], x["label"])
    close(end["image"][:, 0] / (1 - 0.8**5), (0.0, 1.0, 2.0, 2.0), 1e-12)


# (d) The lean adjoint.


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_lean_adjoint_by_transposed_moments(steps: int) -> None:
    """Adjoint matching, section 5.2, "transpose of A, any N": N(1, 0.25), r = 2 x; one VJP of the mean each step."""
    process, solver, times = Normal().flow, Ancestral(), linear_grid(steps)
    x_0 = Rng(0).stream("source").normal((3, 1), F64)
    states = [x_0, *trajectory(process, x_0, times, solver, Rng(1))]
    adjoint, found = torch.full((3, 1), -2.0, dtype=F64), {}
    for k in reversed(range(steps)):
        t, s = times[k], times[k + 1]
        _, pull = torch.func.vjp(lambda x, t=t, s=s: solver.moments(process, x, t, s)[0], states[k])
        (adjoint,) = pull(adjoint)
        found[round(t, 6)] = adjoint
    for t, expected in ((0.1, -0.061538), (0.5, -0.800000), (0.9, -2.117647)):
        close(found[t], torch.full((3, 1), expected), 6e-7)


def test_control_from_two_means() -> None:
    """(mean of the tuned - mean of the base) / std is the control of a step, whatever the schedule."""
    solver, x = Ancestral(), column(-0.5, 0.3, 1.2)
    (base, variance), (tuned, _) = (solver.moments(data.flow, x, 0.4, 0.4001) for data in (Normal(), Normal(m=1.5)))
    control = (tuned - base) / variance.sqrt() / math.sqrt(1e-4)
    v = [data.flow(x, torch.full((3,), 0.4, dtype=F64)).velocity for data in (Normal(), Normal(m=1.5))]
    torch.testing.assert_close(control, (v[1] - v[0]) * 2 / math.sqrt(2 * 0.6 / 0.4), rtol=2e-3, atol=0)


# (e) A learned bridge with constant noise.


@dataclass(frozen=True)
class Bridge(Path):
    """Brownian bridge between paired ends; the drift is learned, the noise is given."""

    g: float = 0.8

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, rng: RandomStream | None = None) -> Tensor:
        spread = self.g * (t * (1 - t)).sqrt()
        noise = rng.normal(tuple(x_0.shape), x_0.dtype)
        return append_dims(1 - t, x_0) * x_0 + append_dims(t, x_0) * x_1 + append_dims(spread, x_0) * noise

    def target(self, x_t: Tensor, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return (x_1 - x_t) / append_dims(1 - t, x_t)

    def characteristics(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(prediction, torch.tensor(self.g**2, dtype=prediction.dtype))


@dataclass(frozen=True)
class Lines:
    """A network of one line per step of the grid, fitted by least squares to what an objective draws."""

    times: list[float]
    lines: Tensor = field(repr=False)

    def __call__(self, x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        step = torch.searchsorted(f64(*self.times), t.double() + 1e-9) - 1
        slope, offset = self.lines[step.clamp(0, len(self.lines) - 1)].T
        return slope[:, None] * x + offset[:, None]


def test_a_learned_bridge_keeps_its_marginals() -> None:
    """From N(0, 1) to N(1, 0.25), 20 steps: exact moments under the fitted drift.

    Each line is fitted to 5,000 examples of one moment, so the end is off by a few hundredths at most.
    """
    times, objective = linear_grid(20), FlowMatching(Bridge(), Euclidean((1,)), time_distribution=Stratified())
    draws, lines = Rng(3), []
    for k, t in enumerate(times[:-1]):
        n, step = 5000, draws.fold_in("step", k)
        x_1 = 1 + 0.5 * step.stream("data").normal((n, 1), F64)
        drawn = objective.draw({"x_1": x_1}, step)
        assert drawn["x_t"].isfinite().all()
        x_0 = step.stream("source").normal((n, 1), F64)
        x_t = objective.path.sample(x_0, x_1, torch.full((n,), t, dtype=F64), step.stream("path"))
        target = objective.path.target(x_t, x_0, x_1, torch.full((n,), t, dtype=F64))
        features = torch.cat([x_t, torch.ones_like(x_t)], 1)
        lines.append(torch.linalg.lstsq(features, target).solution[:, 0])
    network = Lines(times, torch.stack(lines))
    process = Bridge().process(network, {})
    mean, variance = chain(Euler(), process, times[:11], 0.0, 1.0)
    assert mean == pytest.approx(0.5, abs=0.05)
    assert variance == pytest.approx(0.25 + 0.0625 + 0.64 * 0.25, abs=0.06)
    mean, variance = chain(Euler(), process, times, 0.0, 1.0)
    assert mean == pytest.approx(1, abs=0.05)
    assert variance == pytest.approx(0.25, abs=0.06)
    end = simulate(process, Rng(0).stream("source").normal((5000, 1), F64), times, Euler(), Rng(4))
    assert abs(end.mean().item() - mean) < 5 * (variance / 5000) ** 0.5  # false alarm 6e-7


# (f) Guidance over several conditions.


def test_guidance_drops_one_of_two_conditions_of_a_product() -> None:
    """The text is dropped in the second branch, the voice stays in both; the process of a tree is guided whole."""

    def network(x: State, t: State, given: dict[str, Tensor]) -> State:
        push = given["text"].double() + 10 * given["voice"].double()
        return {name: push.reshape(-1, 1).expand(leaf.shape) for name, leaf in x.items()}

    network.null_values = {"text": 0, "voice": -1}
    given = {"text": torch.tensor([1, 2]), "voice": torch.tensor([3, 4])}
    path = ProductPath({"a": Affine(), "b": Affine()})
    process = path.process(cfg(network, 1.7, droppable=("text",)), given)
    x = {"a": torch.zeros(2, 1, dtype=F64), "b": torch.zeros(2, 2, dtype=F64)}
    end = simulate(process, x, linear_grid(4), Midpoint(), Rng(0))
    close(end["a"][:, 0], (1.7 * 1 + 30, 1.7 * 2 + 40), 1e-12)
    close(end["b"][:, 1], (1.7 * 1 + 30, 1.7 * 2 + 40), 1e-12)
    both = path.process(cfg(network, 0.0, droppable=("text", "voice")), given)
    close(simulate(both, x, linear_grid(4), Euler(), Rng(0))["a"][:, 0], (-10.0, -10.0), 1e-12)
