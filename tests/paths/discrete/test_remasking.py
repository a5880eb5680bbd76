"""Re-masking corrector: probabilities of a step, marginals of the path, renoising corrector as a special case."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    CappedRemasking,
    ConfidenceRemasking,
    EntropyOrder,
    Mixture,
    RemaskingCorrector,
    RemaskingProbability,
    RenoiseCorrector,
    RescaledRemasking,
)
from feller.paths.discrete.token_schedules import KineticOptimalPerToken
from feller.paths.processes import clamp
from feller.paths.schedules import Linear, Polynomial
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, trajectory
from feller.spaces import MaskSource, UniformSource
from tests.errors import refuses
from tests.oracle import f64

K = 3


def change_probability(path: Mixture, x: Tensor, t: float, s: float, logits: Tensor | None = None) -> Tensor:
    logits = torch.zeros(*x.shape, K).double() if logits is None else logits
    hazard = path.characteristics(logits, x, torch.full((len(x),), t, dtype=torch.float64)).jumps.hazard(s)
    return -torch.expm1(-hazard)


def remasking(probability: RemaskingProbability, schedule=None) -> Mixture:
    return Mixture(schedule or Linear(), MaskSource(), corrector=RemaskingCorrector(probability))


STATE = torch.tensor([[K, 0, 1, K, 2]])


@pytest.mark.parametrize(("t", "s"), [(0.0, 0.1), (0.3, 0.4), (0.9, 0.99), (0.5, 1.0)])
@pytest.mark.parametrize("eta", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0)], ids=repr)
def test_step_has_the_probabilities_of_the_paper(t: float, s: float, eta: float, schedule) -> None:
    alpha_t, alpha_s = (float(schedule(f64(time)[0]).alpha) for time in (t, s))
    largest = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t else 1.0
    for probability, sigma in ((CappedRemasking(eta), min(eta, largest)), (RescaledRemasking(eta), eta * largest)):
        actual = change_probability(remasking(probability, schedule), STATE, t, s)[0]
        reveal = (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)
        expected = torch.tensor([reveal, sigma, sigma, reveal, sigma]).double()
        assert torch.allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("probability", [CappedRemasking(0.3), RescaledRemasking(1.0), CappedRemasking(1.0)], ids=repr)
def test_marginals_are_kept_exactly(probability: RemaskingProbability) -> None:
    """The chain of one token, given its data, has the share 1 - alpha of masks at each time."""
    masked = 1.0
    grid = [i / 7 for i in range(7)] + [1.0]
    for t, s in itertools.pairwise(grid):
        reveal, mask = change_probability(remasking(probability), torch.tensor([[K, 0]]), t, s)[0].tolist()
        masked = masked * (1 - reveal) + (1 - masked) * mask
        assert abs(masked - (1 - s)) < 1e-12


@pytest.mark.parametrize("rate", [0.5, 3.0])
def test_renoising_is_a_special_case(rate: float) -> None:
    """Renoising with probability r is re-masking with sigma = r (1 - alpha_s), for masked tokens too."""
    t, s = 0.4, 0.5
    r = -math.expm1(-rate * (s - t))
    corrector = RemaskingCorrector(CappedRemasking(r * (1 - s)))
    actual = change_probability(Mixture(source=MaskSource(), corrector=corrector), STATE, t, s)[0]
    jump = 1 - (1 - s) / (1 - t)
    expected = {True: r * s + (1 - r) * jump, False: r * (1 - s)}  # of masked and of revealed tokens
    assert torch.allclose(actual, torch.tensor([expected[token == K] for token in STATE[0].tolist()]).double())
    number = corrector.expected_renoisings(Mixture(source=MaskSource()), torch.tensor([0]), f64(t), s)
    renoised = RenoiseCorrector(rate).expected_renoisings(Mixture(), torch.tensor([0]), f64(t), s)
    assert abs(float(number) - float(renoised)) < 1e-12


def test_confidence_divides_the_probability_among_revealed_tokens() -> None:
    logits = torch.randn(1, 5, K, generator=torch.Generator().manual_seed(0)).double()
    actual = change_probability(remasking(ConfidenceRemasking(CappedRemasking(0.1))), STATE, 0.4, 0.5, logits)[0]
    p = logits[0].softmax(1)
    weights = {i: math.exp(-p[i, STATE[0, i]].item()) for i in (1, 2, 4)}
    plain = 0.1 / 0.6
    for i in range(5):
        expected = 0.1 * weights[i] / sum(weights.values()) if i in weights else plain
        assert abs(actual[i].item() - expected) < 1e-12


@pytest.mark.parametrize(
    "probability", [CappedRemasking(0.3), RescaledRemasking(0.5), ConfidenceRemasking(CappedRemasking(0.9))], ids=repr
)
def test_steps_have_these_frequencies_and_observed_tokens_stay(probability: RemaskingProbability) -> None:
    """Over 20,000 examples within 5 standard errors: false alarm 1e-5 for the seven numbers of three cases."""
    n, known = 20_000, torch.tensor([False, False, False, False, True])
    x, path = STATE.expand(n, 5), remasking(probability)
    logits = torch.tensor([[0.0, 1.0, 2.0]]).double().expand(n, 5, K)
    process = clamp(path.process(lambda x, t, cond: logits, {}), known.expand(n, 5))
    y = process(x, torch.full((n,), 0.4, dtype=torch.float64)).jumps.apply(x, 0.5, Rng(0).stream("step"))
    assert (y[:, 4] == 2).all()
    p = change_probability(path, STATE[:, :4], 0.4, 0.5, logits[:1, :4])[0]
    shares = (y != x)[:, :4].double().mean(0)
    assert ((shares - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    revealed = y[:, [0, 3]].flatten()
    revealed = torch.bincount(revealed[revealed != K], minlength=K).double()
    law = logits[0, 0].softmax(0)
    assert ((revealed / revealed.sum() - law).abs() < 5 * (law * (1 - law) / revealed.sum()).sqrt()).all()
    assert set(y[:, 1].unique().tolist()) == {0, K}


def test_all_tokens_are_revealed_in_the_end_and_batches_do_not_matter() -> None:
    path = remasking(RescaledRemasking(0.8))

    def run(first: int, n: int) -> list[Tensor]:
        process = path.process(lambda x, t, cond: torch.zeros(*x.shape, K), {})
        x = torch.full((n, 6), K)
        return list(trajectory(process, x, linear_grid(12), Euler(), Rng(0, first_example=first)))

    whole, part = run(0, 8), run(5, 3)
    assert (whole[-1] != K).all()
    assert any(((a != K) & (b == K)).any() for a, b in itertools.pairwise(whole))
    assert all(torch.equal(a[5:], b) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("make", [CappedRemasking, RescaledRemasking])
@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_wrong_eta(make, eta: float) -> None:
    with refuses(UsageError, argument="eta"):
        make(eta)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture(corrector=RemaskingCorrector()),
        lambda: Mixture(source=UniformSource(), corrector=RemaskingCorrector()),
        lambda: Mixture(KineticOptimalPerToken((0.5, 0.5)), MaskSource(), corrector=RemaskingCorrector()),
        lambda: Mixture(source=MaskSource(), corrector=RemaskingCorrector(), unmasking_order=EntropyOrder()),
    ],
)
def test_remasking_needs_a_mask_source(make) -> None:
    with refuses(UsageError):
        make()
