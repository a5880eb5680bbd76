"""Sampling of tokens from logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.paths import TokenSampler
from tests.errors import refuses
from tests.oracle import F64, f64

LOGITS = f64(math.log(0.5), math.log(0.3), math.log(0.15), math.log(0.05))


def shares(choice: TokenSampler, logits: torch.Tensor = LOGITS, n: int = 10_000) -> list[float]:
    """Return the frequency of each symbol over evenly spread uniform numbers: exact to 1 / n."""
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    return (choice(logits.expand(n, len(logits)), u).bincount(minlength=len(logits)).double() / n).tolist()


def test_softmax_by_default() -> None:
    assert shares(TokenSampler()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-4)
    assert shares(TokenSampler(), LOGITS.float() + 100) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-4)


def test_temperature() -> None:
    powers = [p**2 for p in (0.5, 0.3, 0.15, 0.05)]
    assert shares(TokenSampler(0.5)) == pytest.approx([p / sum(powers) for p in powers], abs=1e-4)
    assert shares(TokenSampler(0.0)) == [1.0, 0.0, 0.0, 0.0]


def test_top_k_and_top_p() -> None:
    assert shares(TokenSampler(top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-4)
    assert shares(TokenSampler(top_k=9)) == shares(TokenSampler())
    assert shares(TokenSampler(top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-4)
    assert shares(TokenSampler(top_p=0.81)) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=1e-4)
    assert shares(TokenSampler(top_p=1e-9)) == [1.0, 0.0, 0.0, 0.0]
    assert shares(TokenSampler(top_k=3, top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-4)


def test_tokens_of_probability_1e_12_can_be_sampled() -> None:
    """Its probability of 1e-12 lies beyond the last uniform number of single precision."""
    logits = torch.tensor([[0.0, math.log(1e-12)]])
    assert TokenSampler()(logits, f64(1 - 2**-53)).tolist() == [1]
    assert TokenSampler()(logits, f64(1 - 2**-24)).tolist() == [0]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.integers(1, 6), st.floats(0.05, 1.0), st.floats(0.1, 3))
def test_filtered_tokens_are_never_sampled(logits: list[float], k: int, p: float, temperature: float) -> None:
    z = torch.tensor([logits])
    left = TokenSampler(temperature, k, p).filter_logits(z.bfloat16())[0]
    assert left.dtype == torch.float32
    kept = left > -math.inf
    assert kept[left.argmax()]
    seen = shares(TokenSampler(temperature, k, p), z.bfloat16()[0], 200)
    assert all(share == 0 for share, keep in zip(seen, kept.tolist(), strict=True) if not keep)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_settings_out_of_range_are_refused(wrong) -> None:
    with refuses(UsageError, argument=next(iter(wrong))):
        TokenSampler(**wrong)


def test_logits_that_are_nan_are_refused() -> None:
    with refuses(InputError):
        TokenSampler()(torch.full((1, 3), math.nan), f64(0.5))


@pytest.mark.parametrize("temperature", [1e-300, 1e-40])
def test_temperatures_near_zero_take_the_argmax(temperature: float) -> None:
    assert shares(TokenSampler(temperature), LOGITS.float(), 10) == [1, 0, 0, 0]
    assert shares(TokenSampler(temperature), f64(-1e30, 0, 0, -torch.inf).float(), 10) == [0, 0.5, 0.5, 0]


def test_infinite_temperature_is_uniform() -> None:
    assert shares(TokenSampler(1e300), f64(5, 0, -torch.inf).float(), 10) == [0.5, 0.5, 0]
