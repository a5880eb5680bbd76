"""Many small attacks, each beside the bound that applies to it."""

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
from feller_papers.reconstruction_bounds.inversion import Prior, inverted
from feller_papers.reconstruction_bounds.setting import Setting

DRAWS = 400
"""Of the noise in each trial."""
F64 = torch.float64


@dataclass(frozen=True)
class Trial:
    """Squared errors of one attack at each draw of the noise, beside its bound; a pixel's, or another number's."""

    errors: Float64[Tensor, " k"]
    bound: float

    def below(self, factor: float = 1.0) -> bool:
        """Whether the mean is below a multiple of the bound by more than chance."""
        standard = self.errors.std().item() / math.sqrt(len(self.errors))
        return self.errors.mean().item() + NUM_STANDARD_ERRORS * standard < factor * self.bound


def _small(draws: Rng) -> tuple[ERMSolution, float, int]:
    """Return a small logistic regression with a constant, its noise, and a row."""
    n, d, row = 5 + _whole(draws, "n", 16), 1 + _whole(draws, "d", 4), _whole(draws, "row", 5)
    x = draws.stream("x").normal((n, d), F64).clamp(-2, 2)
    y = draws.stream("y").bernoulli(0.5, (n,)).double()
    decay, noise = (10 ** (-2 + 2 * draws.stream(name).uniform((1,), F64).item()) for name in ("decay", "noise"))
    return (
        solve_erm(RegularizedERM(Logistic(), decay, math.hypot(1, 2 * math.sqrt(d))), add_intercept(x), y),
        noise,
        row,
    )


def _whole(draws: Rng, purpose: str, high: int) -> int:
    return int(draws.stream(purpose).randint(high, (1,)).item())


def locally(draws: Rng) -> Trial:
    """Let the best estimate without bias be made of one row: from the row itself, back through its Jacobian."""
    minimum, noise, row = _small(draws)
    bound = erm_leakage(minimum, noise).rows.mse_bound()[row].item()
    moved = noise * draws.stream("weights").normal((DRAWS, len(minimum.theta)), F64)
    return Trial(torch.linalg.solve(minimum.row_jacobian(row), moved.T).square().mean(0), bound)


def by_others(draws: Rng) -> Trial:
    """Attack one row by what is known of all others."""
    minimum, noise, row = _small(draws)
    noise = noise / 100
    pixels = torch.arange(len(minimum.theta)) > 0
    bound = erm_leakage(minimum, noise, pixels).rows.mse_bound()[row].item()
    theta = minimum.theta + noise * draws.stream("weights").normal((DRAWS, len(minimum.theta)), F64)
    return Trial(squared_errors(minimum, theta)[:, row], bound)


def by_prior(draws: Rng) -> Trial:
    """Read rows of a known normal law from smooth sums, one row at each draw of the noise."""
    d, spread = 1 + _whole(draws, "d", 3), 0.5 + draws.stream("spread").uniform((1,), F64).item()
    noise = 10 ** (-1 + 1.5 * draws.stream("noise").uniform((1,), F64).item())
    a = draws.stream("a").normal((d + 2, d), F64)
    z = spread * draws.stream("z").normal((DRAWS, d), F64)
    seen = torch.tanh(z @ a.T) + noise * draws.stream("seen").normal((DRAWS, d + 2), F64)
    found = inverted(lambda z: torch.tanh(a @ z), seen, noise, Prior(torch.zeros(d, dtype=F64), spread), 0 * z)
    slopes = (1 - torch.tanh(z @ a.T).square()).square() @ a.square().sum(1)
    return Trial((found - z).square().mean(1), van_trees(slopes.mean().item() / (d * noise**2), spread))


KINDS: dict[str, Callable[[Rng], Trial]] = {
    "best without bias": locally,
    "by all other rows": by_others,
    "by a prior": by_prior,
}


def tried(setting: Setting, kind: str) -> list[Trial]:
    """Return a third of the trials."""
    count = setting.trials // len(KINDS) + (kind == next(iter(KINDS))) * (setting.trials % len(KINDS))
    return [KINDS[kind](Rng(setting.seed).fold_in("trials", kind, i)) for i in range(count)]


def never(setting: Setting) -> Iterator[Claim]:
    """No attack is better than its bound."""
    found = {kind: tried(setting, kind) for kind in KINDS}
    below = {kind: sum(trial.below() for trial in trials) for kind, trials in found.items()}
    twice = sum(trial.below(2.0) for trial in found["best without bias"])
    each = ", ".join(f"{n} of {len(found[kind])} {kind}" for kind, n in below.items())
    yield Claim(
        "no attack falls below the bound that applies to it: small problems with seeds of their own",
        "at least",
        f"below by {NUM_STANDARD_ERRORS:g} standard errors: {each}; with bounds twice as high {twice} of the first"
        " kind",
        f"{setting.trials:,} trials of {DRAWS} draws; chance of a false alarm in any at most"
        f" {100 * setting.trials * math.erfc(NUM_STANDARD_ERRORS / math.sqrt(2)) / 2:.1g} %",
        verdict(not any(below.values())),
    )
