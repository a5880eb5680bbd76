"""Canaries: likelihood ratios, and audits against the ledger."""

import copy
import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.evaluation.attacks.attack_scores import canary_scores, identification_scores
from feller.networks.network_config import seeded_init
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.auditing.canaries import (
    AuditedGradient,
    Canaries,
    CanaryAttacker,
    log_mixture_ratio,
    row_log_likelihood_ratios,
)
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.per_example_gradients import per_sample_gradients
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.rero import rero
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses
from tests.oracle import F64
from tests.privacy.layers_here import normal, shaken

WIDTH, CANDIDATES, CLIP, EXPECTED = 64, 10, 0.7, 8.0


def loss(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
    return F.mse_loss(network(example["x"]), example["y"], reduction="none").sum(1)


def network(width: int = 6, hidden: int = 5) -> nn.Module:
    with seeded_init(Rng(0)):
        return shaken(nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 2)))


def rows(n: int, seed: int, width: int = 6) -> dict[str, Tensor]:
    return {"x": normal(n, width, seed=seed), "y": normal(n, 2, seed=seed + 100)}


def test_log_mixture_ratio() -> None:
    x = torch.tensor([-3.0, 0.0, 2.5], dtype=F64)
    assert torch.allclose(log_mixture_ratio(0.2, x), (0.8 + 0.2 * x.exp()).log(), atol=1e-14)
    assert torch.equal(log_mixture_ratio(1.0, x), x)


def test_log_likelihood_ratio_of_multivariate_normals() -> None:
    n, p, scale, chances = 4, 7, 0.6, torch.tensor([0.3, 0.05, 0.5, 0.2], dtype=F64)
    gradients, total = normal(n, p, seed=1), normal(1, p, seed=2)[0]
    found = row_log_likelihood_ratios(gradients @ gradients.T, gradients @ total, scale, chances)
    for i in range(n):
        which = [j for j in range(n) if j != i]
        others, here = gradients[which], chances[which]
        mean = here @ others
        cov = scale**2 * torch.eye(p, dtype=F64) + others.T * (here * (1 - here)) @ others
        there, gone = (stats.multivariate_normal(mean + own, cov) for own in (gradients[i], 0 * gradients[i]))
        assert found[i].item() == pytest.approx(there.logpdf(total) - gone.logpdf(total), abs=1e-9)


def test_log_likelihood_ratio_of_one_row() -> None:
    """<sum, g> / s^2 - |g|^2 / (2 s^2)."""
    g, total, scale = normal(1, 9, seed=3), normal(1, 9, seed=4)[0], 0.4
    plain = (g[0] @ total - g[0] @ g[0] / 2) / scale**2
    assert row_log_likelihood_ratios(g @ g.T, g @ total, scale, torch.ones(1, dtype=F64)).item() == pytest.approx(
        plain.item(), abs=1e-10
    )


def test_per_sample_gradients() -> None:
    net, some = network(), rows(7, 1)
    found = per_sample_gradients(loss, net, some, 0.5)
    for i in range(7):
        one = loss(net, {name: leaf[i : i + 1] for name, leaf in some.items()}).sum()
        plain = torch.cat([part.flatten() for part in torch.autograd.grad(one, list(net.parameters()))])
        assert torch.allclose(found[i], plain * min(1.0, 0.5 / plain.norm().item()), atol=1e-6)
    some["y"][2] = torch.inf
    spoiled = per_sample_gradients(loss, net, some, 0.5)
    assert torch.equal(spoiled[2], torch.zeros_like(spoiled[2]))
    assert torch.allclose(spoiled[3], found[3], atol=1e-6)


def game(planted: Canaries, examples: dict[str, Tensor], rate: float, seed: int) -> CanaryAttacker:
    return CanaryAttacker(planted, lambda network, step: examples, rate=rate, noise=SeededNoise(seed, "coins"))


def test_gradient_includes_canaries() -> None:
    """Canaries are clipped and noised as if they were in the batch."""
    known, mine = rows(5, 1), rows(23, 2)
    planted = Canaries(torch.tensor([True, False, True]), torch.tensor([4, 0]), CANDIDATES)
    assert planted.included.tolist() == [0, 2, 3 + 4, 3 + CANDIDATES]
    plain, audited = network(), network()
    together = {name: torch.cat([known[name], mine[name][planted.included]]) for name in known}
    private = {"sigma": 0.9, "clip": FixedClipNorm(CLIP)}
    DPSGD(**private, noise=SeededNoise(3))(loss, plain, [together], EXPECTED)
    ear = game(planted, mine, 1.0, 0)
    AuditedGradient(inner=DPSGD(**private, noise=SeededNoise(3)), attacker=ear)(loss, audited, [known], EXPECTED)
    for a, b in zip(plain.parameters(), audited.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, atol=1e-6)


def test_scores_of_one_step() -> None:
    """Sampling rate 1: candidates know all other rows, coins all but each other."""
    known, mine, sigma = rows(5, 1), rows(3 + 2 * CANDIDATES, 2), 0.9
    planted = Canaries(torch.tensor([True, False, True]), torch.tensor([4, 0]), CANDIDATES)
    net, ear = network(), game(planted, mine, 1.0, 0)
    AuditedGradient(inner=DPSGD(sigma=sigma, clip=FixedClipNorm(CLIP), noise=SeededNoise(3)), attacker=ear)(
        loss, net, [known], EXPECTED
    )
    noisy = EXPECTED * torch.cat([weight.grad.flatten() for weight in net.parameters() if weight.grad is not None])
    each, others = per_sample_gradients(loss, net, mine, CLIP), per_sample_gradients(loss, net, known, CLIP).sum(0)
    there = planted.included
    scale = min(sigma * CLIP, (noisy - others).square().mean().sqrt().item())
    for k in range(2):
        right = 3 + k * CANDIDATES + int(planted.chosen[k])
        rest = noisy - others - sum(each[i] for i in there.tolist() if i != right)
        own = each[3 + k * CANDIDATES : 3 + (k + 1) * CANDIDATES].double()
        expected = (own @ rest.double() - own.square().sum(1) / 2) / scale**2
        assert torch.allclose(ear.candidate_scores[k], expected, atol=1e-4)
    left = noisy - others - each[there[2:]].sum(0)
    coins = each[:3].double()
    even = torch.full((3,), 0.5, dtype=F64)
    assert torch.allclose(
        ear.coin_scores, row_log_likelihood_ratios(coins @ coins.T, coins @ left.double(), scale, even), atol=1e-4
    )


def played(sigma: float, factor: float, seed: int, *, steps: int = 80, rate: float = 0.05) -> CanaryAttacker:
    """Train on two dozen known rows and planted ones, with a factor of the noise that is charged."""
    coins, places = 160, 40
    draws = Rng(seed)
    present = draws.stream("coins").uniform((coins,)) < 0.5
    planted = Canaries(present, draws.stream("chosen").randint(CANDIDATES, (places,)), CANDIDATES)
    known, mine = rows(24, 5, WIDTH), rows(coins + places * CANDIDATES, seed + 7, WIDTH)
    net, ear = network(WIDTH, 16), game(planted, mine, rate, seed)
    inner = DPSGD(sigma=sigma * factor, clip=FixedClipNorm(CLIP), noise=SeededNoise(seed, "noise"))
    gradient = AuditedGradient(inner=inner, attacker=ear, sigma=sigma)
    for step in range(steps):
        net.zero_grad()
        gradient(loss, net, [{name: leaf[step % 3 :: 3] for name, leaf in known.items()}], EXPECTED)
        with torch.no_grad():
            for weight in net.parameters():
                weight -= 0.02 * weight.grad
    assert ear.steps == steps
    return ear


@pytest.mark.slow
def test_audit_detects_a_quarter_of_the_noise() -> None:
    sigma, rate, steps, delta = 1.5, 0.05, 80, 1e-5
    spent = (PoissonSubsampledGaussian("training", sigma, rate, steps),)
    stated, allowed = compute_epsilon(spent, delta), rero(1 / CANDIDATES, spent)
    assert 1.4 < stated < 1.7
    right, broken = played(sigma, 1.0, 1), played(sigma, 0.25, 1)
    fine, caught = (canary_scores(ear.coin_scores, ear.canaries.present, delta) for ear in (right, broken))
    assert fine.epsilon <= stated < caught.epsilon
    assert 0.4 < fine.auc < 0.65
    assert caught.auc > 0.85
    fine, caught = (
        identification_scores(ear.candidate_scores, ear.canaries.chosen, allowed) for ear in (right, broken)
    )
    assert fine.least <= allowed < caught.least


@pytest.mark.slow
def test_identification_rate_is_below_rero_bound() -> None:
    """Success less four standard errors is below the bound, and above a blind guess."""
    sigma, rate, steps = 0.7, 0.05, 80
    allowed = rero(1 / CANDIDATES, (PoissonSubsampledGaussian("training", sigma, rate, steps),))
    ear = played(sigma, 1.0, 0)
    hits = (ear.candidate_scores.argmax(1) == ear.canaries.chosen).double()
    assert hits.mean() - 4 * (allowed * (1 - allowed) / len(hits)) ** 0.5 < allowed
    assert hits.mean() > 1 / CANDIDATES + 4 * (0.09 / len(hits)) ** 0.5
    loud = played(0.05, 1.0, 0, steps=20, rate=0.25)
    assert identification_scores(loud.candidate_scores, loud.canaries.chosen, 1.0).right > 0.9


def test_invalid_audits_and_no_candidates() -> None:
    planted = Canaries(torch.tensor([True]), torch.zeros(0, dtype=torch.long), CANDIDATES)
    ear = game(planted, rows(1, 1), 0.5, 0)
    with refuses(UsageError):
        AuditedGradient(inner=DPSGD(sigma=0.0), attacker=ear)
    with refuses(UsageError, argument="rate", found="1.5"):
        game(planted, rows(1, 1), 1.5, 0)
    quiet = copy.copy(network())
    AuditedGradient(inner=DPSGD(sigma=1.0, noise=SeededNoise(0)), attacker=ear)(loss, quiet, [rows(2, 1)], 2.0)
    assert math.isfinite(ear.coin_scores.item())
    assert ear.candidate_scores.shape == (0, CANDIDATES)
