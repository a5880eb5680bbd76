"""Claims about transport cost and number of steps, with exact fields and small networks."""

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
from feller_papers.flow_matching_guide.setting import ExactField, Setting, few_points, fit_points


def _flow(network: Callable, path: Path, x_0: Tensor, tolerance: float = 1e-8) -> Tensor:
    """Return the end points of the flow from source points."""
    solver = DormandPrince(rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        return simulate(path.process(network, {}), path.initial_state(x_0), [0.0, 0.999], solver, Rng(0))


def transport_cost(setting: Setting) -> list[Claim]:
    """Return the claim of section 4.7 about the transport cost, with the exact field of 32 points."""
    data, ratios = few_points(), []
    for seed in setting.seeds:
        rng = Rng(seed)
        x_0 = rng.stream("source").normal((4096, 2), torch.float64)
        x_1 = data[rng.stream("data").randint(len(data), (4096,))]
        end = _flow(ExactField(data, Linear(), VelocityPrediction()), Affine(), x_0)
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
            characteristics = process(x, torch.full((len(x),), min(t, 0.98), dtype=x.dtype))
            energies.append(characteristics.velocity.square().sum(1).mean().item())
    return energies[:-1]


def kinetic_energy(setting: Setting) -> list[Claim]:
    """Return the claim of section 4.7 about the kinetic energy."""
    data, ratios = few_points(), []
    for seed in setting.seeds:
        rng = Rng(seed)
        x_0 = rng.stream("source").normal((2048, 2), torch.float64)
        x_1 = data[rng.stream("data").randint(len(data), (2048,))]
        energy = _energy(ExactField(data, Linear(), VelocityPrediction()), Affine(), x_0)
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


def _sample_distance(network: nn.Module, test: Dataset, seed: int, calls: int) -> float:
    """Return the sliced Wasserstein distance of Euler samples to test points, in scaled units."""
    x_0 = Rng(seed).stream("few calls").normal((len(test), 2))
    with torch.no_grad():
        end = simulate(Affine().process(network, {}), x_0, linear_grid(calls), Euler(), Rng(0))
    return float(sliced_wasserstein(end, test.modality.encode(test.values), Rng(0)))


def transport_coupling(setting: Setting) -> list[Claim]:
    """Return the claim of section 4.9.2 about minibatch transport with few steps."""
    data, test = read("example:moons"), read("example:moons/test")
    independent, coupled = [], []
    for seed in setting.seeds:
        distances: Sequence[float] = [
            _sample_distance(fit_points(data, setting, seed, coupling), test, seed, 4)
            for coupling in (IndependentCoupling(), MinibatchOT())
        ]
        independent.append(distances[0])
        coupled.append(distances[1])
    return [
        Claim(
            "Minibatch transport needs fewer steps (section 4.9.2): two moons, 4 Euler steps",
            "better at equal steps",
            f"sliced W1 {mean_of(coupled)} with transport in blocks of 256, {mean_of(independent)} without",
            spread_of([b / a for a, b in zip(independent, coupled, strict=True)]) + " of the ratio",
            verdict(all(b < a for a, b in zip(independent, coupled, strict=True))),
        )
    ]


def checkerboard(setting: Setting) -> list[Claim]:
    """Return the claim about the 2-D checkerboard of the guide's standalone example."""
    data, fractions = read("example:checkerboard"), []
    for seed in setting.seeds:
        network = fit_points(data, replace(setting, steps=2 * setting.steps), seed)
        x_0 = Rng(seed).stream("board").normal((10_000, 2))
        with torch.no_grad():
            end = simulate(Affine().process(network, {}), x_0, linear_grid(32), Midpoint(), Rng(0))
        fractions.append(inside(data.modality.decode(end)).float().mean().item())
    return [
        Claim(
            "A small network learns the 2-D checkerboard (figure in section 4)",
            "picture only; real points: 1",
            f"share of samples on filled squares {mean_of(fractions)}, 64 calls",
            spread_of(fractions),
            verdict(min(fractions) >= 0.95),
        )
    ]
