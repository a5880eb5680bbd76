"""Claims about bounds of reconstruction: pieces against the truth, verdicts at their edges, on small settings."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from feller.core.rng import Rng
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.erm.glm import Logistic
from feller.privacy.erm.regularized_erm import ERMSolution, RegularizedERM, add_intercept, solve_erm
from feller.privacy.erm.weight_release import erm_leakage, reconstruct_rows
from feller.privacy.leakage.reconstruction_bounds import mse_bound
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE
from feller_papers.reconstruction_bounds import (
    BEYOND,
    account,
    attacked,
    inversion,
    inverted,
    perturbed,
    private,
    reconstruction_bounds,
    stepwise,
    trials,
)
from feller_papers.reconstruction_bounds.pictures import digits, pictures
from feller_papers.reconstruction_bounds.private import PrivateRun, amplification_factor
from feller_papers.reconstruction_bounds.setting import SMALL, Setting

F64 = torch.float64
BRIEF = replace(SMALL, epochs=1, num_tracked=8)
TINY = Setting(draws=400, trials=12, large=None, small=BRIEF, rows=4)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return Rng(seed).stream("x").normal(shape, F64)


def small() -> ERMSolution:
    x = add_intercept(normal(30, 4))
    y = (normal(30, seed=1) > 0).double()
    return solve_erm(RegularizedERM(Logistic(), 0.05, 10.0), x, y)


def test_errors_of_the_attack_are_those_of_rows_that_are_laid_out() -> None:
    minimum = small()
    theta = minimum.theta + 1e-2 * normal(7, 5, seed=2)
    to_images, _ = reconstruct_rows(minimum.erm, minimum.x, minimum.y, theta)
    expected = (to_images - minimum.x)[..., 1:].square().mean(2)
    torch.testing.assert_close(attacked.squared_errors(minimum, theta), expected, rtol=1e-8, atol=1e-14)
    which = torch.tensor([3, 17])
    torch.testing.assert_close(
        reconstruct_rows(minimum.erm, minimum.x, minimum.y, theta, which)[0], to_images[:, which]
    )


def test_line_for_all_rows() -> None:
    """The published one: 4 / (n decay noise)^2 = 2.494 for 12,665 rows of length 1, so 0.0225."""
    assert 10 ** perturbed.log10_bound(4 / 1.2665**2) == pytest.approx(0.0225, rel=2e-3)
    for eps2 in (0.1, 2.494, 29.0, 31.0, 600.0):
        assert perturbed.log10_bound(eps2) == pytest.approx(math.log10(mse_bound(eps2)), rel=1e-12)
    assert perturbed.log10_bound(1e5) == pytest.approx(math.log10(0.25) - 1e5 / math.log(10))
    model = perturbed.fitted(TINY, constant=False)
    minimum, found = model.minimum, perturbed.lines(model)
    eps2 = (2 * 4.8 / (len(minimum.x) * 1e-2 * 1e-2)) ** 2
    assert minimum.erm.max_row_norm == pytest.approx(4.8)
    assert found.exact == pytest.approx(perturbed.log10_bound(eps2))
    assert found.published_bounds == pytest.approx(perturbed.log10_bound(eps2 / 4.8**2))


def test_bounds_of_rows_are_those_of_their_jacobians() -> None:
    model = perturbed.fitted(TINY, constant=True)
    each = model.bounds(1e-3)
    for i in (0, 40):
        jacobian = model.minimum.row_jacobian(i)[:, 1:]
        assert each[i].item() == pytest.approx(64 * 1e-6 / jacobian.square().sum().item(), rel=1e-9)


def test_bounds_of_logistic_regression_and_the_attack() -> None:
    assert [claim.verdict for claim in perturbed.bounds(TINY)] == [HOLDS, HOLDS]
    assert [claim.verdict for claim in attacked.attack(TINY)] == [HOLDS] * 6
    found = attacked.run_attack(TINY)
    assert not found.below.any()
    assert replace(found, bounds=20 * found.bounds).below.any()  # a bound that is wrong by as much is seen
    assert found.extremes[0] == found.bounds.argmin()
    assert found.extremes[attacked.SHOWN] == found.bounds.argmax()
    lower = replace(found, errors=found.bounds / 2, standard_errors=found.bounds / 100)
    ratio = lower.errors / lower.bounds
    assert [claim.verdict for claim in attacked._above(lower, "", ratio, "")] == [FAILS, FAILS]
    first = torch.arange(len(ratio)) == 0
    far = replace(lower, bounds=torch.where(first, 1.0, 3.0).double(), errors=torch.where(first, 1.0, 2.0).double())
    assert [claim.verdict for claim in attacked._above(far, "", ratio, "")] == [HOLDS, FAILS]


def test_bracket() -> None:
    """At rate 0.01, delta 1e-9 it is 0.867 for a noise of one sensitivity, which is two clip norms."""
    assert amplification_factor(0.01, 2.0, 1e-9) == pytest.approx(0.867, abs=1e-3)
    assert amplification_factor(0.01, 0.5, 1e-9) == pytest.approx(1.0, abs=1e-9)


def clipped(network: nn.Module, z: torch.Tensor, label: int, clip: float) -> torch.Tensor:
    loss = nn.functional.cross_entropy(network(z[None]), torch.tensor([label]))
    gradient = torch.cat(
        [part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()), create_graph=True)]
    )
    return gradient / max(1.0, gradient.norm().item() / clip)


def test_what_a_row_adds() -> None:
    first, second = (private.small_network(Rng(seed)) for seed in range(2))
    z = normal(64).abs() / 3
    for clip in (1e3, 0.1):
        added = inverted.clipped_gradient_sum([first, second], 4, clip)(z)
        expected = torch.cat([clipped(each.double(), z, 4, clip) for each in (first, second)])
        torch.testing.assert_close(added, expected.detach(), rtol=1e-6, atol=1e-9)
    assert expected.norm().item() == pytest.approx(math.sqrt(2) * 0.1)


def test_the_account_of_one_step_in_which_all_rows_are() -> None:
    """Where everybody is in the sample, information is |J|^2 / scale^2: at the first weights, where nothing is cut."""
    plan = replace(BRIEF, batch=1437, clip=1e3, num_tracked=3)
    _, exact = account.totals(replace(TINY, small=plan))
    which, network = private.tracked_rows(1437, plan, 0), private.small_network(Rng(0)).double()
    part = digits().train
    for row, found in zip(which.tolist(), exact.tolist(), strict=True):
        label = int(part.labels[row])
        jacobian = torch.autograd.functional.jacobian(
            lambda z, label=label: clipped(network, z, label, plan.clip), part.x[row]
        )
        assert found == pytest.approx(jacobian.square().sum().item() / 64 / (0.5e3) ** 2, rel=1e-3)


def test_a_private_training_keeps_account() -> None:
    found = private.digits_run(TINY)
    assert found.dp_event.steps == 1437 // 144
    assert len(found.bounds) == 8
    gain, most = found.bounds / found.published_bounds, 1 / found.dp_event.rate
    assert (gain > 1).all()
    assert (gain < most).all()
    assert len(found.snapshots) == 3  # before steps 0, 3 and 6 of 9
    again = private._watched(digits(), private.small_network(Rng(0)), BRIEF, 0)
    assert torch.equal(again.bounds, found.bounds)


def test_estimates_without_bias_reach_what_knows_directions() -> None:
    free = inverted.unbiased_errors(TINY)
    assert (free.matrix_bounds >= free.bounds).all()
    assert ((free.errors - free.matrix_bounds).abs() < 5 * free.standard_errors).all()


def test_inversion_is_not_better_than_its_bounds(monkeypatch) -> None:
    monkeypatch.setattr(inverted, "NOISE_MULTIPLIERS", (0.005, 0.5))
    monkeypatch.setattr(inverted, "NUM_STARTS", 1)
    monkeypatch.setattr(inversion, "STEPS", 6)
    claims = list(inverted.gradients(TINY))
    assert [claim.verdict for claim in claims] == [HOLDS, HOLDS]
    quiet, loud = inverted.prior_attack(TINY)
    assert quiet.error < loud.error < 1.5 * inverted.PRIOR_STD**2
    assert quiet.bound < loud.bound < inverted.PRIOR_STD**2
    assert replace(quiet, bound=10 * quiet.error).below


def test_no_trial_falls_below_and_a_wrong_factor_would() -> None:
    (claim,) = trials.never(TINY)
    assert claim.verdict == HOLDS
    assert sum(trial.below(2.0) for trial in trials.run_trials(replace(TINY, trials=45), "best without bias")) >= 3
    wide = trials.Trial(torch.tensor([0.9, 1.1] * 50, dtype=F64), 1.0)  # standard error 0.01
    assert not wide.below()
    assert not wide.below(1.03)
    assert wide.below(1.05)


def test_best_without_bias_errs_by_its_bound_where_there_is_one_number() -> None:
    """In one dimension 1 / eta^2 is reached, so that a bound a little too high would be seen."""
    minimum = solve_erm(RegularizedERM(Logistic(), 0.1, 5.0), normal(9, 1), (normal(9, seed=1) > 0).double())
    bound = erm_leakage(minimum, 0.1).rows.mse_bound()[2].item()
    slope = minimum.row_jacobian(2).item()
    assert bound == pytest.approx((0.1 / slope) ** 2, rel=1e-12)


def fake(monkeypatch, **changes) -> None:
    """Let the private training be one with other figures."""
    bounds = torch.tensor([0.5, 1.0, 2.0], dtype=F64)
    usual = PrivateRun(
        "digits", 8, SMALL, 0.9, PoissonSubsampledGaussian("training", 0.5, 0.1, 149), torch.zeros(3, 8, 8),
        torch.zeros(3, dtype=torch.long), bounds, bounds / 3, 0.3, [], 1.0,
    )  # fmt: skip
    monkeypatch.setattr(stepwise, "private_run", lambda setting: replace(usual, **changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [HOLDS, HOLDS, HOLDS]),
        ({"accuracy": 0.84}, [FAILS, HOLDS, HOLDS]),
        ({"dp_event": PoissonSubsampledGaussian("training", 5.0, 0.1, 10)}, [FAILS, HOLDS, HOLDS]),
        ({"bounds": torch.tensor([0.5, 0.9, 0.9], dtype=F64)}, [HOLDS, FAILS, HOLDS]),
        ({"published_bounds": torch.tensor([0.3, 0.6, 1.0], dtype=F64)}, [HOLDS, HOLDS, FAILS]),
        ({"published_bounds": torch.tensor([0.6, 0.1, 0.1], dtype=F64)}, [HOLDS, HOLDS, FAILS]),
    ],
)
def test_verdicts_about_steps(monkeypatch, changes, expected) -> None:
    fake(monkeypatch, **changes)
    assert [claim.verdict for test in (stepwise.steps, stepwise.factor) for claim in test(TINY)] == expected


def test_probes_come_near_and_cost_little(monkeypatch) -> None:
    probed, exact = account.totals(TINY)
    assert (probed / exact - 1).abs().median() < 0.5
    for off, expected in ((0.09, HOLDS), (0.11, FAILS)):
        monkeypatch.setattr(account, "totals", lambda setting, off=off: (exact * (1 - off), exact))
        (claim,) = account.nearness(TINY)
        assert claim.verdict == expected
    for ratio, expected in ((3.9, HOLDS), (4.1, FAILS)):
        monkeypatch.setattr(account, "evaluations", lambda *args, ratio=ratio: ratio)
        (claim,) = account.cost(TINY)
        assert claim.verdict == expected


def test_only_some_claims_are_tested(tmp_path) -> None:
    assert pictures(Setting(data=tmp_path)).name == "digits"
    found = list(reconstruction_bounds(True, None, "perturbed"))
    assert len(found) == 2
    assert BEYOND[0].verdict == UNTESTABLE
