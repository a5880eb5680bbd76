"""Claims about tuning to a reward: the exact ones hold, figures are those of the reference, and measures measure."""

import math
from dataclasses import replace

import pytest
import torch
from tests.oracle import F64, close

from feller.core.errors import UsageError
from feller.sampling import MemorylessEuler
from feller_papers.adjoint_matching import (
    BY_NAME,
    TESTS,
    ablation,
    adjoint_matching,
    digits,
    handwriting,
    ink,
    mixture,
    theory,
)
from feller_papers.adjoint_matching.mixture import ConstantNoise
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import FAILS, HOLDS

FEW = handwriting.TuningBudget(2, batch=8, steps=4)
TINY = Setting(
    seeds=(0,),
    short_rounds=2,
    long_rounds=2,
    num_points=200,
    fine_steps=500,
    grid_cells=701,
    base_steps=2,
    lean_budget=FEW,
    landing_budget=FEW,
    ink_budget=FEW,
    draft_rounds=2,
    early_stopping_rounds=(1, 2),
    max_rounds=1,
    num_samples=30,
    num_weighted=40,
    num_rollouts=20,
)
WORDS = {HOLDS, FAILS}


@pytest.mark.parametrize("test", [theory.normal, theory.fixed_point, theory.modes, theory.hidden])
def test_exact_claims_hold(test) -> None:
    assert [claim.verdict for claim in test(TINY)] == [HOLDS]


@pytest.mark.parametrize(
    ("noise", "rho", "mean"),
    [
        (0.2, 0.9690724, 0.0608986),
        (0.5, 0.8217250, 0.3247681),
        (1.0, 0.4559381, 0.7921204),
        (2.0, 0.0432139, 0.9981326),
    ],
)
def test_chains_remember_as_the_closed_form_says(noise: float, rho: float, mean: float) -> None:
    """Section 3.3: correlation of the ends, and the mean that tuning to r = x reaches."""
    assert theory.chain_memory(ConstantNoise(noise), 2000) == pytest.approx((rho, mean), abs=5e-4)
    assert theory.chain_memory(MemorylessEuler(), 20)[0] == 0


@pytest.mark.parametrize(
    ("noise", "figures"),
    [(0.2, (0.538, 0.120, 4.236)), (1.0, (0.752, 1.094, 3.255)), (2.0, (0.865, 1.586, 2.113))],
)
def test_optimal_control_between_modes(noise: float, figures: tuple[float, float, float]) -> None:
    """Section 3.3, second table, by another scheme; on a coarser grid to 0.02."""
    assert theory.optimal_control(lambda t: noise, 701, 500) == pytest.approx(figures, abs=0.02)


def test_the_mean_of_a_step_makes_a_tilt_of_one_mode() -> None:
    """Of a single normal law it makes all of it, in any number of steps; of two, less."""
    assert theory.response(10, 301) == pytest.approx(0.785, abs=0.01)
    one = theory.relative_shifts(0.25, 40)[0]
    assert one == pytest.approx(1, abs=2e-3)


def test_the_velocity_of_modes_keeps_their_law() -> None:
    """d log p / dt = -div v - v . score, by differences."""
    x, t, h = torch.linspace(-3, 3, 13, dtype=F64).numpy(), 0.6, 1e-5

    def log_density(x, t):
        variance = t**2 / 4 + (1 - t) ** 2
        modes = [torch.tensor(-((x - m * t) ** 2) / (2 * variance)) for m in (-2, 2)]
        return torch.logaddexp(*modes) - math.log(variance) / 2

    change = (log_density(x, t + h) - log_density(x, t - h)) / (2 * h)
    slope = (theory._velocity(x + h, t) - theory._velocity(x - h, t)) / (2 * h)
    close(change, torch.tensor(-slope - theory._velocity(x, t) * theory._score(x, t)), 1e-6)
    score = (log_density(x + h, t) - log_density(x - h, t)) / (2 * h)
    close(score, torch.tensor(theory._score(x, t)), 1e-6)


def test_the_mixture_is_the_reference_s() -> None:
    """Section 10.1: weights and mean of the tilted law; untuned it is 0.235 away."""
    close(mixture.WEIGHTS, [0.45885, 0.16575, 0.09962, 0.27578], 1e-5)
    close(mixture.WEIGHTS @ mixture.TILTED, [0.49418, 0.25945], 1e-5)
    even = mixture.CENTRES.repeat_interleave(100, 0)
    assert mixture.mode_tv(even) == pytest.approx(0.235, abs=1e-3)


def test_claims_of_short_trainings_have_verdicts() -> None:
    claims = [*mixture.short(TINY), *mixture.long(TINY)]
    assert len(claims) == 4
    assert {claim.verdict for claim in claims} <= WORDS


@pytest.fixture
def unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing learn for long."""
    monkeypatch.setattr(handwriting, "CLASSIFIER_STEPS", 1)
    for cached in (
        handwriting.digit_model,
        digits.tuned_metrics,
        digits.target_metrics,
        digits.draft_network,
        ink.tuned_metrics,
        ink.target_metrics,
    ):
        cached.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("unlearned")
def test_claims_about_digits_have_verdicts() -> None:
    tests = (digits.in_set, digits.near, digits.collapse, digits.equal, ink.thicker, ink.possible)
    claims = [claim for test in tests for claim in test(TINY)]
    assert len(claims) == 6
    assert {claim.verdict for claim in claims} <= WORDS
    assert FAILS in {claim.verdict for claim in claims}


@pytest.mark.slow
@pytest.mark.usefixtures("unlearned")
def test_changes_are_tried_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "CHANGES", {name: replace(FEW, rounds=9) for name in ("one", "other")})
    claims = [*ablation.in_set(TINY), *ablation.more_ink(TINY)]
    assert len(claims) == 4
    assert all("1 rounds of 8 roll-outs of 4 steps" in claim.claim for claim in claims)


def test_long_tests_are_run_by_name_alone() -> None:
    assert not set(BY_NAME) & set(TESTS)
    with pytest.raises(UsageError, match=r"ablation\.more_ink"):
        next(adjoint_matching(quick=True, data=None, only="ablations"))


def seen(share: float, entropy: float, pairwise_distance: float, near: float) -> digits.SampleMetrics:
    return digits.SampleMetrics(share, entropy, pairwise_distance, near)


@pytest.mark.parametrize(
    ("found", "gate", "goal"),
    [
        (seen(0.95, 1.06, 5.3, 1.9), True, True),
        (seen(0.95, 1.06, 5.1, 1.9), True, False),
        (seen(0.84, 1.06, 5.3, 1.9), False, False),
        (seen(0.95, 0.80, 5.3, 1.9), False, False),
        (seen(0.95, 1.06, 4.6, 1.9), False, False),
        (seen(0.95, 1.06, 5.3, 2.3), False, True),
    ],
)
def test_verdicts_follow_from_the_figures(
    monkeypatch: pytest.MonkeyPatch, found: digits.SampleMetrics, gate: bool, goal: bool
) -> None:
    monkeypatch.setattr(digits, "tuned_metrics", lambda setting, budget, seed: found)
    monkeypatch.setattr(digits, "format_metrics", lambda setting, found: "")
    assert [claim.verdict for claim in digits.in_set(TINY)] == [HOLDS if gate else FAILS]
    assert [claim.verdict for claim in digits.near(TINY)] == [HOLDS if goal else FAILS]


class Reads(torch.nn.Module):
    """A judge that reads the class from the first pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(x[:, 0].long(), 10).float()


def test_what_is_measured_of_samples() -> None:
    """Classes 1, 1, 3, 7 and 5: 4 of 5 are wanted, with shares 1/2, 1/4, 1/4."""
    x = torch.zeros(5, 64)
    x[:, 0] = torch.tensor([1.0, 1.0, 3.0, 7.0, 5.0])
    model = handwriting.DigitModel(Reads(), torch.zeros(1, 64), Reads(), Reads())
    found = digits.measure_samples(model, x)
    assert found.target_fraction == pytest.approx(0.8)
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.nearest_distance == pytest.approx(17 / 5)
    inked = ink.measure_samples(model, x, torch.tensor([1, 1, 3, 7, 0]))
    assert inked.accuracy == pytest.approx(0.8)
    assert inked.ink == pytest.approx(0.5 + 17 / 5 / 128)


class Even(torch.nn.Module):
    """The velocity of data N(0, 1), whatever the label."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, given: dict[str, torch.Tensor]) -> torch.Tensor:
        t = t[:, None]
        return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x


def test_pairs_of_futures_tell_what_can_be_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one normal law all, in each roll-out alike: 0.996 of the variance of ink, 1 / 256, in 20 steps."""
    model = handwriting.DigitModel(Even(), torch.zeros(1, 64), Reads(), Reads())
    monkeypatch.setattr(ink, "digit_model", lambda steps: model)
    gained, error, within = ink.response(replace(TINY, num_rollouts=400), 20)
    assert gained * 256 == pytest.approx(0.996, abs=1e-3)
    assert error < 1e-6
    assert within * 256 == pytest.approx(1, abs=4 * (2 / 390) ** 0.5)


def test_samples_are_weighed_within_their_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of each class, of ink 0 and 1 / 60 more: weights 1 and e of it, whatever the classes' own ink."""
    base = torch.arange(20).repeat_interleave(1) % 10 / 100.0
    more = torch.cat([torch.zeros(10), torch.full((10,), 1 / 60)])
    x = (2 * (base + more) - 1)[:, None].expand(20, 64)
    monkeypatch.setattr(ink, "digit_model", lambda steps: handwriting.DigitModel(*(Reads(), x, Reads(), Reads())))
    monkeypatch.setattr(ink, "draw_samples", lambda *arguments: (x, torch.arange(20) % 10))
    ink.target_metrics.cache_clear()
    before, after = ink.target_metrics(TINY)
    ink.target_metrics.cache_clear()
    assert before == pytest.approx(0.045 + 1 / 120)
    assert after == pytest.approx(0.045 + math.e / (1 + math.e) / 60, abs=1e-6)


def test_samples_are_chosen_in_proportion_to_their_weights() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0])
    found = torch.bincount(handwriting.resample(weights, 800, 0), minlength=4)
    assert (found - torch.tensor([0, 100, 200, 500])).abs().max() <= 1  # evenly spaced, not by chance


def test_distances_are_means() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert handwriting.pairwise_distance(x) == pytest.approx(10 / 3)
    assert handwriting.mean_nearest_distance(x, torch.tensor([[0.0, 1.0]])) == pytest.approx(
        (1 + math.hypot(3, 3) + 1) / 3
    )


def test_the_rest_of_a_set_does_not_move_a_sample() -> None:
    """Samples are addressed: more of them begin with the same."""

    class Towards(torch.nn.Module):
        def forward(self, x, t, given):
            return given["label"][:, None] - x

    network = Towards()
    few, _ = handwriting.draw_samples(network, handwriting.each_class, 5, 0)
    many, labels = handwriting.draw_samples(network, handwriting.each_class, 2005, 0)
    assert torch.equal(few, many[:5])
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
