"""One-run audits by pairs of training rows and held-out rows."""

import pytest
import torch
from scipy.stats import norm

from feller.core.rng import Rng
from feller.evaluation.attacks.paired_audit import paired_audit


def scores(seed: int, shift: float, n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=generator) + shift, torch.randn(n + 50, generator=generator)


def test_share_of_right_guesses() -> None:
    """Scores one standard deviation apart are in the right order with probability Phi(1 / sqrt 2) = 0.760."""
    found = paired_audit({"loss": scores(0, 1.0, 2_000)}, None, 0.0, Rng(0))
    assert found["one_run_right"] == pytest.approx(norm.cdf(2**-0.5), abs=0.03)
    assert found["one_run_right_low"] < norm.cdf(2**-0.5) < found["one_run_right_high"]
    assert 0.2 < found["one_run_mu"] < 2**0.5
    assert found["one_run_epsilon"] > 0.5
    assert "one_run_violation" not in found


def test_a_private_mechanism_is_never_contradicted() -> None:
    """Forty audits of scores that say nothing, and of randomised response at the guarantee."""
    for seed in range(40):
        blind = {"loss": scores(seed, 0.0), "density": scores(seed + 100, 0.0)}
        found = paired_audit(blind, 1.0, 1e-6, Rng(seed))
        assert found["one_run_violation"] == 0
        assert found["one_run_epsilon"] <= 1.0
    right = torch.rand(1_000, generator=torch.Generator().manual_seed(0)) < 1 / (1 + torch.exp(torch.tensor(-2.0)))
    response = {"loss": (right.double() - 0.5, torch.zeros(1_000))}  # epsilon 2 for replacement, 1 for adding
    assert paired_audit(response, 1.0, 0.0, Rng(0))["one_run_violation"] == 0


def test_a_memorising_model_contradicts_its_guarantee() -> None:
    for seed in range(20):
        found = paired_audit({"loss": scores(seed, 30.0)}, 1.0, 1e-6, Rng(seed))
        assert found["one_run_violation"] == 1
        assert found["one_run_epsilon"] > 1
        assert found["one_run_right"] == 1


def test_ties_are_coins() -> None:
    found = paired_audit({"loss": (torch.zeros(4_000), torch.zeros(4_000))}, None, 0.0, Rng(0))
    assert found["one_run_right"] == pytest.approx(0.5, abs=0.04)
    assert found["one_run_mu"] == 0


def test_too_few_pairs() -> None:
    assert paired_audit({}, None, 0.0, Rng(0)) == {}
    assert paired_audit({"loss": (torch.zeros(49), torch.zeros(49))}, 1.0, 1e-5, Rng(0)) == {}
