"""What paths cost and how few steps they need: exact fields, and small networks."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from feller.core.rng import Rng
from feller.data.examples.loaders import inside
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.evaluation.two_sample import sliced_wasserstein
from feller.paths import Affine, Path, VelocityPrediction
from feller.paths.schedules import Linear
from feller.paths.time_distributions import linear_grid
from feller.sampling import DormandPrince, Euler, Heun, Midpoint, simulate, trajectory
from feller.training.couplings import IndependentCoupling, MinibatchOT
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.flow_matching_guide.setting import Exact, Setting, few_points, fit_points


def _flow(network: Callable, path: Path, x_0: Tensor, tolerance: float = 1e-8) -> Tensor:
    """Return the end of the flow from given source points."""
    solver = DormandPrince(rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        return simulate(path.process(network, {}), path.initial_state(x_0), [0.0, 0.999], solver, Rng(0))


def transport_cost(setting: Setting) -> list[Claim]:
    """Section 4.7: one pass never raises the transport cost of its coupling. Exact field of 32 points."""
    data, ratios = few_points(), []
    for seed in setting.seeds:
        draws = Rng(seed)
        x_0 = draws.stream("source").normal((4096, 2), torch.float64)
        x_1 = data[draws.stream("data").randint(len(data), (4096,))]
        end = _flow(Exact(data, Linear(), VelocityPrediction()), Affine(), x_0)
        ratios.append(((end - x_0).square().sum(1).mean() / (x_1 - x_0).square().sum(1).mean()).item())
    return [
        Claim(
            "A flow never costs more transport than its coupling (section 4.7)",
            "at most 1",
            f"squared distance of flow over coupling {mean_of(ratios)}",
            spread_of(ratios),
            verdict(max(ratios) <= 1),
        )
    ]


def _energy(network: Callable, path: Affine, x_0: Tensor) -> list[float]:
    """Return E |u_t(X_t)|^2 along the flow, on a grid."""
    process, energies = path.process(network, {}), []
    times = linear_grid(50)
    with torch.no_grad():
        for t, x in zip(times[1:], trajectory(process, x_0, times, Heun(), Rng(0)), strict=True):
            now = process(x, torch.full((len(x),), min(t, 0.98), dtype=x.dtype))
            energies.append(now.velocity.square().sum(1).mean().item())
    return energies[:-1]


def kinetic_energy(setting: Setting) -> list[Claim]:
    """Section 4.7: the kinetic energy of straight paths is at most E |X_1 - X_0|^2."""
    data, ratios = few_points(), []
    for seed in setting.seeds:
        draws = Rng(seed)
        x_0 = draws.stream("source").normal((2048, 2), torch.float64)
        x_1 = data[draws.stream("data").randint(len(data), (2048,))]
        energy = _energy(Exact(data, Linear(), VelocityPrediction()), Affine(), x_0)
        ratios.append(sum(energy) / len(energy) / (x_1 - x_0).square().sum(1).mean().item())
    return [
        Claim(
            "The kinetic energy of the straight path's flow is at most E |x_1 - x_0|^2 (section 4.7)",
            "at most 1",
            f"ratio {mean_of(ratios)}",
            spread_of(ratios),
            verdict(max(ratios) <= 1),
        )
    ]


def _few_calls(network: nn.Module, test: Dataset, seed: int, calls: int) -> float:
    """Return the sliced Wasserstein distance of Euler samples to held-out points, in units of their scale."""
    x_0 = Rng(seed).stream("few calls").normal((len(test), 2))
    with torch.no_grad():
        end = simulate(Affine().process(network, {}), x_0, linear_grid(calls), Euler(), Rng(0))
    return float(sliced_wasserstein(end, test.modality.encode(test.values), Rng(0)))


def transport_coupling(setting: Setting) -> list[Claim]:
    """Section 4.9.2: minibatch transport straightens paths, so that few steps are enough."""
    data, test = read("example:moons"), read("example:moons/test")
    plain, coupled = [], []
    for seed in setting.seeds:
        few: Sequence[float] = [
            _few_calls(fit_points(data, setting, seed, coupling), test, seed, 4)
            for coupling in (IndependentCoupling(), MinibatchOT())
        ]
        plain.append(few[0])
        coupled.append(few[1])
    return [
        Claim(
            "Minibatch transport needs fewer steps (section 4.9.2): two moons, 4 Euler steps",
            "better at equal steps",
            f"sliced W1 {mean_of(coupled)} with transport in blocks of 256, {mean_of(plain)} without",
            spread_of([b / a for a, b in zip(plain, coupled, strict=True)]) + " of the ratio",
            verdict(all(b < a for a, b in zip(plain, coupled, strict=True))),
        )
    ]


def checkerboard(setting: Setting) -> list[Claim]:
    """The guide's standalone example: a 2-D checkerboard, shown there as a picture."""
    data, shares = read("example:checkerboard"), []
    for seed in setting.seeds:
        network = fit_points(data, replace(setting, steps=2 * setting.steps), seed)
        x_0 = Rng(seed).stream("board").normal((10_000, 2))
        with torch.no_grad():
            end = simulate(Affine().process(network, {}), x_0, linear_grid(32), Midpoint(), Rng(0))
        shares.append(inside(data.modality.decode(end)).float().mean().item())
    return [
        Claim(
            "A small network learns the 2-D checkerboard (figure in section 4)",
            "picture only; real points: 1",
            f"share of samples on filled squares {mean_of(shares)}, 64 calls",
            spread_of(shares),
            verdict(min(shares) >= 0.95),
        )
    ]
