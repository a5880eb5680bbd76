"""python -m benchmarks.inference: posteriors of four simulators by feller and by `sbi`'s FMPE, at equal processor time.

The problems are those of sbibm (Lueckmann et al. 2021, arXiv 2101.04653). The score is C2ST: accuracy of a classifier
that tells samples of the posterior from exact ones; 0.5 is the best. Simulation-based calibration and TARP check the
posteriors of feller on new simulations. Prints one JSON object per problem and seed.
"""

import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import feller
from feller.core.rng import Rng
from feller.evaluation.conditional_metrics import calibration

SIMULATIONS, OBSERVATIONS, SAMPLES = 10_000, 3, 1_000
CALIBRATED, RANKED = 300, 63
"""Number of simulations for calibration, and of samples of the posterior of each."""
Array = np.ndarray


@dataclass(frozen=True)
class Problem:
    """Prior, simulator and exact posterior."""

    prior: Callable[[int, np.random.Generator], Array]
    simulate: Callable[[Array, np.random.Generator], Array]
    posterior: Callable[[Array, int, np.random.Generator], Array]


def _uniform(bound: float, dim: int) -> Callable[[int, np.random.Generator], Array]:
    return lambda n, rng: rng.uniform(-bound, bound, (n, dim))


def _rejected(draw: Callable[[int], Array], bound: float, n: int) -> Array:
    """Return n draws inside the box of the prior."""
    kept = np.empty((0, draw(1).shape[1]))
    while len(kept) < n:
        draws = draw(4 * n)
        kept = np.concatenate([kept, draws[(np.abs(draws) < bound).all(1)]])
    return kept[:n]


def _mixture_posterior(x: Array, n: int, rng: np.random.Generator) -> Array:
    def draw(count: int) -> Array:
        scale = np.where(rng.random((count, 1)) < 0.5, 1.0, 0.1)
        return x + scale * rng.normal(size=(count, 2))

    return _rejected(draw, 10, n)


def _moons(theta: Array, rng: np.random.Generator) -> Array:
    angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, len(theta)), rng.normal(0.1, 0.01, len(theta))
    shift = np.stack([-abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], 1) / math.sqrt(2)
    return np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1) + shift


def _moons_posterior(x: Array, n: int, rng: np.random.Generator) -> Array:
    def draw(count: int) -> Array:
        crescent = _moons(np.zeros((count, 2)), rng)
        total, difference = math.sqrt(2) * (crescent[:, 0] - x[0]), math.sqrt(2) * (x[1] - crescent[:, 1])
        total = np.where(rng.random(count) < 0.5, total, -total)
        theta = np.stack([total - difference, total + difference], 1) / 2
        return theta[crescent[:, 0] >= x[0]]

    return _rejected(lambda count: draw(2 * count + 64), 1, n)


def _slcp_normal(theta: Array) -> tuple[Array, Array, Array]:
    """Return means, standard deviations and correlation of the four points."""
    return theta[:, :2], theta[:, 2:4] ** 2 + 1e-12, np.tanh(theta[:, 4])


def _slcp(theta: Array, rng: np.random.Generator) -> Array:
    mean, scale, correlation = _slcp_normal(theta)
    noise = rng.normal(size=(len(theta), 4, 2))
    second = correlation[:, None] * noise[:, :, 0] + np.sqrt(1 - correlation**2)[:, None] * noise[:, :, 1]
    return (mean[:, None] + scale[:, None] * np.stack([noise[:, :, 0], second], 2)).reshape(len(theta), 8)


def _slcp_log_likelihood(theta: Array, x: Array) -> Array:
    mean, scale, correlation = _slcp_normal(theta)
    z = (x.reshape(1, 4, 2) - mean[:, None]) / scale[:, None]
    c = correlation[:, None]
    square = (z[:, :, 0] ** 2 - 2 * c * z[:, :, 0] * z[:, :, 1] + z[:, :, 1] ** 2) / (1 - c**2)
    return -(square / 2 + np.log(scale).sum(1)[:, None] + np.log(1 - c**2) / 2).sum(1)


def _slcp_posterior(x: Array, n: int, rng: np.random.Generator) -> Array:
    """Sample by Metropolis steps of many chains from the best prior draws; signs of the scales are free."""
    start = rng.uniform(-3, 3, (400_000, 5))
    log_p = _slcp_log_likelihood(start, x)
    chosen = rng.choice(len(start), n, p=np.exp(log_p - log_p.max()) / np.exp(log_p - log_p.max()).sum())
    theta, log_p = start[chosen], log_p[chosen]
    for step in range(1_000):
        width = (0.5, 0.2, 0.05)[step % 3]
        proposal = theta + width * rng.normal(size=theta.shape) * (rng.random(theta.shape) < 0.5)
        new = np.where((np.abs(proposal) < 3).all(1), _slcp_log_likelihood(proposal, x), -np.inf)
        accepted = np.log(rng.random(n)) < new - log_p
        theta, log_p = np.where(accepted[:, None], proposal, theta), np.where(accepted, new, log_p)
    theta[:, 2:4] *= np.where(rng.random((n, 2)) < 0.5, 1, -1)
    return theta


SIGMA = math.sqrt(0.1)
PROBLEMS = {
    "gaussian_linear": Problem(
        lambda n, rng: SIGMA * rng.normal(size=(n, 10)),
        lambda theta, rng: theta + SIGMA * rng.normal(size=theta.shape),
        lambda x, n, rng: x / 2 + math.sqrt(0.05) * rng.normal(size=(n, 10)),
    ),
    "gaussian_mixture": Problem(
        _uniform(10, 2),
        lambda theta, rng: theta + np.where(rng.random((len(theta), 1)) < 0.5, 1.0, 0.1) * rng.normal(size=theta.shape),
        _mixture_posterior,
    ),
    "two_moons": Problem(_uniform(1, 2), _moons, _moons_posterior),
    "slcp": Problem(_uniform(3, 5), _slcp, _slcp_posterior),
}


def c2st(a: Array, b: Array, seed: int) -> float:
    """Return the cross-validated accuracy of a classifier of two sets of samples."""
    x, y = StandardScaler().fit_transform(np.concatenate([a, b])), np.repeat([0, 1], [len(a), len(b)])
    width = 10 * a.shape[1]
    classifier = MLPClassifier((width, width), max_iter=500, early_stopping=True, random_state=seed)
    return float(cross_val_score(classifier, x, y, cv=5).mean())


def by_sbi(theta: Array, x: Array, observations: Array, seed: int) -> tuple[list[Array], float]:
    """Return posterior samples by FMPE with its defaults, and the processor seconds of its training."""
    from sbi.inference import FMPE

    torch.manual_seed(seed)
    start = time.process_time()
    trainer = FMPE(prior=None, show_progress_bars=False)
    trainer.append_simulations(torch.tensor(theta).float(), torch.tensor(x).float()).train()
    seconds = time.process_time() - start
    posterior = trainer.build_posterior()
    options: dict[str, Any] = {"show_progress_bars": False}
    return [posterior.sample((SAMPLES,), x=torch.tensor(o).float(), **options).numpy() for o in observations], seconds


def by_feller(
    theta: Array, x: Array, observations: Array, checks: tuple[Array, Array], seed: int, seconds: float
) -> tuple[list[Array], dict[str, float]]:
    """Return posterior samples after as many steps as fit in the same processor time, their number, and p-values.

    Two short fits measure the time of a step and of the start. `checks` are new parameters and their simulations.
    """
    with tempfile.TemporaryDirectory() as folder:

        def fit(steps: int) -> tuple[Any, float]:
            start = time.process_time()
            data, options = {"samples": theta, "x": x}, {"report": "none", "out": folder, "overwrite": True}
            run = feller.fit(data, condition="x", steps=steps, seed=seed, **options)
            return run, time.process_time() - start

        fit(1)  # imports and first calls
        (_, few), (_, more) = fit(100), fit(500)
        steps = max(1, 100 + round((seconds - few) / ((more - few) / 400)))
        run, _ = fit(steps)
        draws = run.sample(RANKED * len(checks[0]), given={"x": np.repeat(checks[1], RANKED, 0)}, nfe=100)
        draws = draws.numpy().reshape(len(checks[0]), RANKED, -1).astype(float)
        found = calibration(checks[0], draws, Rng(seed))
        p_values = {name: round(found[name], 3) for name in ("sbc_p", "tarp_p")}
        samples = [run.sample(SAMPLES, given={"x": o}, nfe=100).numpy() for o in observations]
        return samples, {"steps": steps, **p_values}


def main() -> None:
    """Compare on the problems and seeds named on the command line: PROBLEM ... SEED ..."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    names = [word for word in sys.argv[1:] if word in PROBLEMS] or [*PROBLEMS]
    for seed in [int(word) for word in sys.argv[1:] if word.isdecimal()] or [0, 1, 2]:
        for name in names:
            problem, rng = PROBLEMS[name], np.random.default_rng(seed)
            theta = problem.prior(SIMULATIONS, rng)
            x = problem.simulate(theta, rng)
            observations = problem.simulate(problem.prior(OBSERVATIONS, rng), rng)
            exact = [problem.posterior(o, SAMPLES, rng) for o in observations]
            peer, seconds = by_sbi(theta, x, observations, seed)
            new = problem.prior(CALIBRATED, rng)
            ours, figures = by_feller(theta, x, observations, (new, problem.simulate(new, rng)), seed, seconds)
            scores = {
                label: [round(c2st(a, b, seed), 3) for a, b in zip(samples, exact, strict=True)]
                for label, samples in (("feller", ours), ("sbi", peer))
            }
            means = {f"{label}_mean": round(float(np.mean(values)), 3) for label, values in scores.items()}
            print(
                json.dumps({"problem": name, "seed": seed, "seconds": round(seconds, 1), **figures, **scores, **means}),
                flush=True,
            )


if __name__ == "__main__":
    main()
