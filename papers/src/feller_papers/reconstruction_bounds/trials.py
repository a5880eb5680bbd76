"""Claim about many small attacks and their bounds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.attacks.reconstruction import NUM_STANDARD_ERRORS
from feller.privacy.erm.glm import Logistic
from feller.privacy.erm.regularized_erm import ERMSolution, RegularizedERM, add_intercept, solve_erm
from feller.privacy.erm.weight_release import erm_leakage
from feller.privacy.leakage.reconstruction_bounds import van_trees
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.attacked import squared_errors
from feller_papers.reconstruction_bounds.inversion import Prior, invert_gradients
from feller_papers.reconstruction_bounds.setting import Setting

DRAWS = 400
"""Noise samples per trial."""
F64 = torch.float64


@dataclass(frozen=True)
class Trial:
    """Mean squared errors of one attack per noise sample, and its bound."""

    errors: Float64[Tensor, " k"]
    bound: float

    def below(self, factor: float = 1.0) -> bool:
        """Return whether the mean is significantly below a multiple of the bound."""
        standard = self.errors.std().item() / math.sqrt(len(self.errors))
        return self.errors.mean().item() + NUM_STANDARD_ERRORS * standard < factor * self.bound


def _small(draws: Rng) -> tuple[ERMSolution, float, int]:
    """Return a small logistic regression with an intercept, its noise and a row index."""
    n, d, row = 5 + _random_int(draws, "n", 16), 1 + _random_int(draws, "d", 4), _random_int(draws, "row", 5)
    x = draws.stream("x").normal((n, d), F64).clamp(-2, 2)
    y = draws.stream("y").bernoulli(0.5, (n,)).double()
    decay, noise = (10 ** (-2 + 2 * draws.stream(name).uniform((1,), F64).item()) for name in ("decay", "noise"))
    return (
        solve_erm(RegularizedERM(Logistic(), decay, math.hypot(1, 2 * math.sqrt(d))), add_intercept(x), y),
        noise,
        row,
    )


def _random_int(draws: Rng, purpose: str, high: int) -> int:
    return int(draws.stream(purpose).randint(high, (1,)).item())


def unbiased_trial(draws: Rng) -> Trial:
    """Return a trial of the best locally unbiased estimator of one row."""
    minimum, noise, row = _small(draws)
    bound = erm_leakage(minimum, noise).rows.mse_bound()[row].item()
    moved = noise * draws.stream("weights").normal((DRAWS, len(minimum.theta)), F64)
    return Trial(torch.linalg.solve(minimum.row_jacobian(row), moved.T).square().mean(0), bound)


def informed_trial(draws: Rng) -> Trial:
    """Return a trial of an attacker who knows all other rows."""
    minimum, noise, row = _small(draws)
    noise = noise / 100
    pixels = torch.arange(len(minimum.theta)) > 0
    bound = erm_leakage(minimum, noise, pixels).rows.mse_bound()[row].item()
    theta = minimum.theta + noise * draws.stream("weights").normal((DRAWS, len(minimum.theta)), F64)
    return Trial(squared_errors(minimum, theta)[:, row], bound)


def prior_trial(draws: Rng) -> Trial:
    """Return a trial of an attacker who knows the Gaussian prior, with one row per noise sample."""
    d, spread = 1 + _random_int(draws, "d", 3), 0.5 + draws.stream("spread").uniform((1,), F64).item()
    noise = 10 ** (-1 + 1.5 * draws.stream("noise").uniform((1,), F64).item())
    a = draws.stream("a").normal((d + 2, d), F64)
    z = spread * draws.stream("z").normal((DRAWS, d), F64)
    seen = torch.tanh(z @ a.T) + noise * draws.stream("seen").normal((DRAWS, d + 2), F64)
    found = invert_gradients(lambda z: torch.tanh(a @ z), seen, noise, Prior(torch.zeros(d, dtype=F64), spread), 0 * z)
    slopes = (1 - torch.tanh(z @ a.T).square()).square() @ a.square().sum(1)
    return Trial((found - z).square().mean(1), van_trees(slopes.mean().item() / (d * noise**2), spread))


ATTACKS: dict[str, Callable[[Rng], Trial]] = {
    "best without bias": unbiased_trial,
    "by all other rows": informed_trial,
    "by a prior": prior_trial,
}


def run_trials(setting: Setting, attack: str) -> list[Trial]:
    """Return the trials of one kind of attack."""
    count = setting.trials // len(ATTACKS) + (attack == next(iter(ATTACKS))) * (setting.trials % len(ATTACKS))
    return [ATTACKS[attack](Rng(setting.seed).fold_in("trials", attack, i)) for i in range(count)]


def never(setting: Setting) -> Iterator[Claim]:
    """Return the claim that no attack is better than its bound."""
    found = {attack: run_trials(setting, attack) for attack in ATTACKS}
    below = {attack: sum(trial.below() for trial in trials) for attack, trials in found.items()}
    twice = sum(trial.below(2.0) for trial in found["best without bias"])
    each = ", ".join(f"{n} of {len(found[attack])} {attack}" for attack, n in below.items())
    yield Claim(
        "no attack falls below the bound that applies to it: small problems with seeds of their own",
        "at least",
        f"below by {NUM_STANDARD_ERRORS:g} standard errors: {each}; with bounds twice as high {twice} of the first"
        " kind",
        f"{setting.trials:,} trials of {DRAWS} draws; chance of a false alarm in any at most"
        f" {100 * setting.trials * math.erfc(NUM_STANDARD_ERRORS / math.sqrt(2)) / 2:.1g} %",
        verdict(not any(below.values())),
    )
