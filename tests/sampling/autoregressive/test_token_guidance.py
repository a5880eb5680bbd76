"""Guidance of logits: numbers of the reference, special cases."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.token_guidance import (
    ClassifierFreeGuidance,
    ContrastiveDecoding,
    DualGuidance,
    NoGuidance,
    TokenGuidance,
)
from tests.errors import refuses

VECTOR = torch.tensor([[0.85, 0.05, 0.03, 0.03, 0.02, 0.02]], dtype=torch.float64)
GUIDES = {
    "plain": NoGuidance(),
    "guided": ClassifierFreeGuidance(3.0),
    "guided among the likely": ClassifierFreeGuidance(3.0, 0.2),
    "two ways": DualGuidance(1.5, 7.5),
    "two ways among the likely": DualGuidance(1.5, 7.5, 0.2),
    "contrast": ContrastiveDecoding(4, 0.3),
}
every = pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)


def some(streams: int, symbols: int = 7, b: int = 5, seed: int = 0) -> Tensor:
    return 2 * Rng(seed).stream("logits").normal((streams, b, symbols), torch.float64)


@pytest.mark.parametrize(("k", "left"), [(1, 1), (2, 6), (6, 6), (100, 6)])
def test_number_of_tokens_kept_by_contrastive_decoding(k: int, left: int) -> None:
    """alpha = 0.1: above 0.085 lies one, above 0.005 lie all six."""
    without = torch.full((1, 6), 1 / 6, dtype=torch.float64).log()
    scores = ContrastiveDecoding(k, 0.1).combine(torch.stack([VECTOR.log() + 3, without]))
    assert int((scores > -torch.inf).sum()) == left
    assert (scores > -torch.inf)[0, 0]


def test_contrast_is_the_log_ratio() -> None:
    logits = some(2)
    ratio = logits[0].log_softmax(1) - logits[1].log_softmax(1)
    torch.testing.assert_close(ContrastiveDecoding(7, 0.0).combine(logits), ratio)
    torch.testing.assert_close(ContrastiveDecoding(1, 0.0).combine(logits), ratio)
    for k, alpha in ((1, 0.3), (3, 0.3), (5, 1.0)):
        scores, p = ContrastiveDecoding(k, alpha).combine(logits), logits[0].softmax(1)
        kept = p >= alpha * p.sort(1, descending=True).values[:, k - 1 : k]
        assert torch.equal(scores > -torch.inf, kept)
        torch.testing.assert_close(scores[kept], ratio[kept])
        assert 0 < kept.sum() < kept.numel()


def test_contrast_with_one_token_is_greedy() -> None:
    logits = some(2, b=40)
    scores = ContrastiveDecoding(1, 1.0).combine(logits)
    assert ((scores > -torch.inf).sum(1) == 1).all()
    u = Rng(1).stream("u").uniform((40,), torch.float64)
    assert torch.equal(TokenSampler()(scores, u), logits[0].argmax(1))


def test_contrast_without_truncation_is_strong_guidance() -> None:
    logits = some(2, b=40)
    assert torch.equal(
        ContrastiveDecoding(7, 0.0).combine(logits).argmax(1), ClassifierFreeGuidance(1e9).combine(logits).argmax(1)
    )


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0, -1.0])
def test_guidance_is_linear_in_log_probabilities(w: float) -> None:
    logits = some(2)
    conditional, unconditional = logits.log_softmax(2)
    expected = (unconditional + w * (conditional - unconditional)).log_softmax(1)
    torch.testing.assert_close(ClassifierFreeGuidance(w).combine(logits).log_softmax(1), expected)
    assert w not in (0.0, 1.0) or torch.equal(ClassifierFreeGuidance(w).combine(logits), logits[1 - int(w)])


@settings(deadline=None, max_examples=20)
@given(a=st.floats(-2, 9))
def test_dual_guidance_with_equal_weights_is_cfg(a: float) -> None:
    logits = some(3)
    expected = ClassifierFreeGuidance(a).combine(logits[[0, 2]])
    torch.testing.assert_close(DualGuidance(a, a).combine(logits), expected, rtol=1e-9, atol=1e-9)


def test_dual_guidance_by_hand() -> None:
    """l = l_0 + 1.5 (l_I - l_0) + 7.5 (l_IT - l_I)."""
    logits = torch.tensor([[[4.0, 1.0]], [[2.0, 3.0]], [[1.0, -1.0]]])
    assert DualGuidance().combine(logits).tolist() == [[1 + 1.5 * 1 + 7.5 * 2, -1 + 1.5 * 4 + 7.5 * -2]]


@pytest.mark.parametrize(
    ("guide", "plain"),
    [
        (ClassifierFreeGuidance(5.0, 0.3), ClassifierFreeGuidance(5.0)),
        (DualGuidance(2.0, 3.0, 0.3), DualGuidance(2.0, 3.0)),
    ],
)
def test_guidance_truncates_by_the_conditional_probability(guide: TokenGuidance, plain: TokenGuidance) -> None:
    """Symbols with a third of the largest probability keep their scores; with alpha = 1 the likeliest alone is left."""
    logits = some(guide.num_streams, b=40)
    p = logits[0].softmax(1)
    kept = p >= 0.3 * p.amax(1, keepdim=True)
    scores = guide.combine(logits)
    assert torch.equal(scores > -torch.inf, kept)
    assert torch.equal(scores[kept], plain.combine(logits)[kept])
    assert 40 < kept.sum() < kept.numel()
    alone = replace(guide, alpha=1.0).combine(logits)
    assert torch.equal((alone > -torch.inf).nonzero()[:, 1], logits[0].argmax(1))


@every
def test_guidance_is_invariant_to_constants_in_logits(guide: TokenGuidance) -> None:
    logits = some(guide.num_streams)
    moved = logits + 5 * Rng(1).stream("constants").normal((guide.num_streams, 5), torch.float64)[..., None]
    torch.testing.assert_close(guide.combine(moved).softmax(1), guide.combine(logits).softmax(1))


@every
def test_masked_tokens_do_not_change_the_others(guide: TokenGuidance) -> None:
    logits, may = some(guide.num_streams, b=60), Rng(2).stream("may").uniform((60, 7)) < 0.3
    may[:, 3] |= ~may.any(1)
    scores = guide.combine(logits.masked_fill(~may, -torch.inf))
    assert not scores.isnan().any()
    assert not (scores > -torch.inf)[~may].any()
    for row in range(60):
        alone = guide.combine(logits[:, row : row + 1, may[row]])
        torch.testing.assert_close(scores[row, may[row]], alone[0])
    assert (scores > -torch.inf).any(1).all()


@every
def test_float32_is_kept(guide: TokenGuidance) -> None:
    logits = some(guide.num_streams).float()
    scores = guide.combine(logits)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, guide.combine(logits.double()).float())


def test_scores_of_distant_distributions_are_finite() -> None:
    logits = torch.tensor([[[0.0, -900.0, -2000.0]], [[-3000.0, 0.0, 10.0]]])
    assert ContrastiveDecoding(2, 0.0).combine(logits).isfinite().all()
    assert ContrastiveDecoding(2, 1.0).combine(logits).isfinite().sum() == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: ContrastiveDecoding(0),
        lambda: ContrastiveDecoding(1, 1.5),
        lambda: ContrastiveDecoding(1, math.nan),
        lambda: ClassifierFreeGuidance(math.inf),
        lambda: ClassifierFreeGuidance(1e39),
        lambda: ClassifierFreeGuidance(3.0, -0.1),
        lambda: DualGuidance(1.5, 7.5, 2.0),
        lambda: DualGuidance(math.nan, 1.0),
        lambda: DualGuidance(1.0, -1e300),
    ],
)
def test_settings_out_of_range_are_refused(make) -> None:
    with refuses(UsageError):
        make()
