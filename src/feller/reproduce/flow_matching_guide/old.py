"""Flow Matching Guide and Code (Lipman et al. 2024, arXiv 2412.06264): its continuous claims that a laptop can test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from feller.couplings import Coupling, Independent, MinibatchTransport
from feller.data.batches import batches
from feller.data.examples import inside
from feller.data.modality import Dataset
from feller.data.read import read
from feller.draws import Draws
from feller.evaluate.two_sample import sliced_wasserstein
from feller.networks.mlp import MLP
from feller.objective import Matching
from feller.paths import Affine, Data, Path, Prediction, Score, Source, Velocity, convert
from feller.paths.affine import Constant, Vanishing
from feller.paths.path import Given
from feller.reproduce.claims import Claim, mean_of, spread_of, untestable, verdict
from feller.schedules import Cosine, Linear, LinearVP, Polynomial, Schedule
from feller.simulate import DormandPrince, Euler, Heun, Midpoint, endpoint, simulate
from feller.spaces import Euclidean
from feller.times import linear_grid
from feller.train.engine import engine
from feller.train.loop import make_learner, train
from feller.train.optimiser import Training
from feller.tree import pad_right

GUIDE = "arXiv 2412.06264"


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    steps: int
    """Of training each network."""


def flow_matching_guide(quick: bool, tell: Callable[[str], None]) -> list[Claim]:
    """Test the guide's claims one after the other."""
    setting = Setting((0,), 1500) if quick else Setting((0, 1, 2), 4000)
    found = []
    for test in (
        _same_gradient,
        _same_field,
        _same_end,
        _noise_keeps_marginals,
        _transport_cost,
        _kinetic_energy,
        _transport_coupling,
        _checkerboard,
    ):
        claim = test(setting)
        tell(f"{claim.verdict}: {claim.claim}")
        found.append(claim)
    return [
        *found,
        untestable("CIFAR-10 without labels: FID of the U-Net after 1,800 epochs", "2.07", "needs 8 GPUs and CIFAR-10"),
        untestable("ImageNet 64 x 64 (blurred), class-conditional: FID", "1.64", "needs 64 GPUs and ImageNet"),
    ]


class Exact(nn.Module):
    """The exact field of a finite data set on an affine path: a posterior mean over its points."""

    nulls: dict[str, int] = {}  # noqa: RUF012 - nothing to be without

    def __init__(self, data: Tensor, schedule: Schedule, kind: Prediction) -> None:
        super().__init__()
        self.data, self.schedule, self.kind = data, schedule, kind

    def forward(self, x_t: Tensor, t: Tensor, given: Given) -> Tensor:
        """Return E[x_1 | x_t], as the kind of prediction that was asked for."""
        scales = self.schedule(t)
        alpha, sigma = (torch.as_tensor(number).expand(t.shape)[:, None] for number in scales[:2])
        distance = (x_t[:, None] - alpha[..., None] * self.data).square().sum(-1)
        weight = torch.softmax(-distance / (2 * sigma.clamp(min=1e-9) ** 2), 1)
        return convert(weight @ self.data, Data(), self.kind, x_t, scales)


def _few_points() -> Tensor:
    return read("example:moons").values[:32].double()


def _same_gradient(setting: Setting) -> Claim:
    """Theorem 4, with the exact marginal field of 32 points and a linear model."""
    data, n = _few_points(), 400_000
    exact, path, gaps, errors = Exact(data, Linear(), Velocity()), Affine(), [], []
    for seed in setting.seeds:
        draws = Draws(seed).named("gradient")
        x_1 = data[draws.at("data").integers(len(data), (n,))]
        x_0, t = draws.at("source").normal((n, 2), torch.float64), draws.at("time").uniform((n,), torch.float64) * 0.9
        x_t = path.sample(x_0, x_1, t)
        inputs = torch.cat([x_t, t[:, None], torch.ones(n, 1, dtype=torch.float64)], 1)
        # At zero weights the gradient of |inputs weights - target|^2 is -2 inputs^T target, example by example.
        conditional, marginal = (
            -2 * inputs[:, :, None] * target[:, None, :]
            for target in (path.target(x_t, x_0, x_1, t), exact(x_t, t, {}))
        )
        size, difference = marginal.mean(0).norm(), conditional - marginal
        gaps.append((difference.mean(0).norm() / size).item())
        errors.append((difference.var(0).sum().div(n).sqrt() / size).item())
    return Claim(
        "The conditional loss has the gradient of the marginal loss (theorem 4)",
        "equal",
        f"relative difference {mean_of(gaps, 2)} from {n:,} draws; its standard error is {mean_of(errors, 2)}",
        spread_of(gaps),
        verdict(all(gap < 3 * error for gap, error in zip(gaps, errors, strict=True))),
    )


def _flow(network: Callable, path: Path, x_0: Tensor, tolerance: float = 1e-8) -> Tensor:
    """Return the end of the flow from given source points."""
    solver = DormandPrince(tolerance, tolerance)
    with torch.no_grad():
        return endpoint(path.process(network, {}), path.start(x_0), [0.0, 0.999], solver, Draws(0))


def _same_field(setting: Setting) -> Claim:
    """Section 4.8.1: velocity, data, source and score heads drive the same flow."""
    data, gaps = _few_points(), []
    for seed in setting.seeds:
        x_0 = Draws(seed).at("source").normal((256, 2), torch.float64)
        ends = []
        for kind in (Velocity(), Data(), Source(), Score()):
            path = Affine(prediction=kind)
            process = path.process(Exact(data, Linear(), kind), {})
            solver = Midpoint()
            ends.append(endpoint(process, x_0, linear_grid(200, 1e-3, 0.99), solver, Draws(0)))
        gaps.append(max((end - ends[0]).abs().max().item() for end in ends[1:]))
    return Claim(
        "Velocity, data, source and score predictions give the same trajectories (table 1)",
        "equal",
        f"largest difference {mean_of(gaps, 2)} in the state after 200 midpoint steps, float64",
        spread_of(gaps),
        verdict(max(gaps) < 1e-8),
    )


def _same_end(setting: Setting) -> Claim:
    """Equation 4.68: schedules with the same ends lead a source point to the same datum."""
    data, gaps = _few_points(), []
    for seed in setting.seeds:
        x_0 = Draws(seed).at("source").normal((256, 2), torch.float64)
        ends = []
        for schedule in (Linear(), Polynomial(2.0), Cosine(), LinearVP()):
            path = Affine(schedule)
            # Stop at one signal-to-noise ratio, not at one time: there the flows differ by a scale alone.
            snr = torch.tensor([2000.0], dtype=torch.float64)
            stop = schedule.time(snr)
            process = path.process(Exact(data, schedule, Velocity()), {})
            with torch.no_grad():
                end = endpoint(process, x_0, [0.0, stop.item()], DormandPrince(1e-9, 1e-9), Draws(0))
            ends.append(end / torch.as_tensor(schedule(stop).alpha))
        gaps.append(max((end - ends[0]).abs().max().item() for end in ends[1:]))
    return Claim(
        "Linear, polynomial, cosine and variance-preserving schedules map a source point to the same datum (4.68)",
        "equal",
        f"largest difference {mean_of(gaps, 2)} in the end point",
        spread_of(gaps),
        verdict(max(gaps) < 1e-4),
    )


def _noise_keeps_marginals(setting: Setting) -> Claim:
    """Section 10.4: any noise level keeps the marginals. Data N(1, 0.25), exact field."""
    worst = []
    n = 200_000

    def field(x_t: Tensor, t: Tensor, given: Given) -> Tensor:
        t = pad_right(t, x_t)
        gain = (0.25 * t - (1 - t)) / (0.25 * t**2 + (1 - t) ** 2)
        return 1 + gain * (x_t - t)

    for seed in setting.seeds:
        for noise in (None, Constant(1.0), Vanishing(2.0)):
            path = Affine(noise=noise)
            x_0 = Draws(seed).at("source").normal((n, 1))
            end = endpoint(path.process(field, {}), x_0, linear_grid(400), Euler(), Draws(seed))
            worst.append(max(abs(end.mean().item() - 1), abs(end.std().item() - 0.5)))
    return Claim(
        "Sampling with any noise level keeps the marginals (section 10.4)",
        "mean 1, standard deviation 0.5",
        f"largest error {max(worst):.2g} for g^2 = 0, 1, 2(1 - t); 400 Euler-Maruyama steps",
        f"{len(setting.seeds)} seeds x 3 levels, {min(worst):.2g} to {max(worst):.2g}",
        verdict(max(worst) < 0.006),
    )


def _fit(data: Dataset, setting: Setting, seed: int, coupling: Coupling | None = None) -> nn.Module:
    """Train a network on points and return the average of its weights."""
    network = MLP(width=128, depth=3, frequencies=4).build((2,), {}, Draws(seed))
    training = Training(batch=512, lr=2e-3, steps=setting.steps)
    learner = make_learner(network, training)
    objective = Matching(Affine(), Euclidean((2,)), coupling=coupling or Independent())
    for _ in train(learner, objective, batches(data, 512, Draws(seed)), training, draws=Draws(seed), engine=engine()):
        pass
    learner.average.copy_to(network)
    return network.eval()


def _transport_cost(setting: Setting) -> Claim:
    """Section 4.7: one pass never raises the transport cost of its coupling. Exact field of 32 points."""
    data, ratios = _few_points(), []
    for seed in setting.seeds:
        draws = Draws(seed)
        x_0 = draws.at("source").normal((4096, 2), torch.float64)
        x_1 = data[draws.at("data").integers(len(data), (4096,))]
        end = _flow(Exact(data, Linear(), Velocity()), Affine(), x_0)
        ratios.append(((end - x_0).square().sum(1).mean() / (x_1 - x_0).square().sum(1).mean()).item())
    return Claim(
        "A flow never costs more transport than its coupling (section 4.7)",
        "at most 1",
        f"squared distance of flow over coupling {mean_of(ratios)}",
        spread_of(ratios),
        verdict(max(ratios) <= 1),
    )


def _energy(network: Callable, path: Affine, x_0: Tensor) -> list[float]:
    """Return E |u_t(X_t)|^2 along the flow, on a grid."""
    process, energies = path.process(network, {}), []
    times = linear_grid(50)
    with torch.no_grad():
        for t, x in zip(times[1:], simulate(process, x_0, times, Heun(), Draws(0)), strict=True):
            now = process(x, torch.full((len(x),), min(t, 0.98), dtype=x.dtype))
            energies.append(now.velocity.square().sum(1).mean().item())
    return energies[:-1]


def _kinetic_energy(setting: Setting) -> Claim:
    """Section 4.7: the kinetic energy of straight paths is at most E |X_1 - X_0|^2."""
    data, ratios = _few_points(), []
    for seed in setting.seeds:
        draws = Draws(seed)
        x_0 = draws.at("source").normal((2048, 2), torch.float64)
        x_1 = data[draws.at("data").integers(len(data), (2048,))]
        energy = _energy(Exact(data, Linear(), Velocity()), Affine(), x_0)
        ratios.append(sum(energy) / len(energy) / (x_1 - x_0).square().sum(1).mean().item())
    return Claim(
        "The kinetic energy of the straight path's flow is at most E |x_1 - x_0|^2 (section 4.7)",
        "at most 1",
        f"ratio {mean_of(ratios)}",
        spread_of(ratios),
        verdict(max(ratios) <= 1),
    )


def _few_calls(network: nn.Module, test: Dataset, seed: int, calls: int) -> float:
    """Return the sliced Wasserstein distance of Euler samples to held-out points, in units of their scale."""
    x_0 = Draws(seed).at("few calls").normal((len(test), 2))
    with torch.no_grad():
        end = endpoint(Affine().process(network, {}), x_0, linear_grid(calls), Euler(), Draws(0))
    return float(sliced_wasserstein(end, test.modality.encode(test.values), Draws(0)))


def _transport_coupling(setting: Setting) -> Claim:
    """Section 4.9.2: minibatch transport straightens paths, so that few steps are enough."""
    data, test = read("example:moons"), read("example:moons/test")
    plain, coupled = [], []
    for seed in setting.seeds:
        few: Sequence[float] = [
            _few_calls(_fit(data, setting, seed, coupling), test, seed, 4)
            for coupling in (Independent(), MinibatchTransport())
        ]
        plain.append(few[0])
        coupled.append(few[1])
    return Claim(
        "Minibatch transport needs fewer steps (section 4.9.2): two moons, 4 Euler steps",
        "better at equal steps",
        f"sliced W1 {mean_of(coupled)} with transport in blocks of 256, {mean_of(plain)} without",
        spread_of([b / a for a, b in zip(plain, coupled, strict=True)]) + " of the ratio",
        verdict(all(b < a for a, b in zip(plain, coupled, strict=True))),
    )


def _checkerboard(setting: Setting) -> Claim:
    """The guide's standalone example: a 2-D checkerboard, shown there as a picture."""
    data, shares = read("example:checkerboard"), []
    for seed in setting.seeds:
        network = _fit(data, replace(setting, steps=2 * setting.steps), seed)
        x_0 = Draws(seed).at("board").normal((10_000, 2))
        with torch.no_grad():
            end = endpoint(Affine().process(network, {}), x_0, linear_grid(32), Midpoint(), Draws(0))
        shares.append(inside(data.modality.decode(end)).float().mean().item())
    return Claim(
        "A small network learns the 2-D checkerboard (figure in section 4)",
        "picture only; real points: 1",
        f"share of samples on filled squares {mean_of(shares)}, 64 calls",
        spread_of(shares),
        verdict(min(shares) >= 0.95),
    )
