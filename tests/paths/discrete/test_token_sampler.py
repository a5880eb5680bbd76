"""How symbols are drawn from logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.paths import TokenSampler
from tests.oracle import F64, f64

LOGITS = f64(math.log(0.5), math.log(0.3), math.log(0.15), math.log(0.05))


def shares(choice: TokenSampler, logits: torch.Tensor = LOGITS, n: int = 10_000) -> list[float]:
    """Return how often each symbol comes on evenly spread uniform numbers: exact to 1 / n."""
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    return (choice(logits.expand(n, len(logits)), u).bincount(minlength=len(logits)).double() / n).tolist()


def test_the_softmax_by_default() -> None:
    assert shares(TokenSampler()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-4)
    assert shares(TokenSampler(), LOGITS.float() + 100) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-4)


def test_temperature_is_a_power() -> None:
    powers = [p**2 for p in (0.5, 0.3, 0.15, 0.05)]
    assert shares(TokenSampler(0.5)) == pytest.approx([p / sum(powers) for p in powers], abs=1e-4)
    assert shares(TokenSampler(0.0)) == [1.0, 0.0, 0.0, 0.0]


def test_the_likeliest_are_kept() -> None:
    """By number, or by their share: the one that crosses it is in."""
    assert shares(TokenSampler(top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-4)
    assert shares(TokenSampler(top_k=9)) == shares(TokenSampler())
    assert shares(TokenSampler(top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-4)
    assert shares(TokenSampler(top_p=0.81)) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=1e-4)
    assert shares(TokenSampler(top_p=1e-9)) == [1.0, 0.0, 0.0, 0.0]
    assert shares(TokenSampler(top_k=3, top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-4)


def test_a_rare_symbol_can_come() -> None:
    """Its probability of 1e-12 lies beyond the last uniform number of single precision."""
    logits = torch.tensor([[0.0, math.log(1e-12)]])
    assert TokenSampler()(logits, f64(1 - 2**-53)).tolist() == [1]
    assert TokenSampler()(logits, f64(1 - 2**-24)).tolist() == [0]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.integers(1, 6), st.floats(0.05, 1.0), st.floats(0.1, 3))
def test_what_is_cut_never_comes(logits: list[float], k: int, p: float, temperature: float) -> None:
    """And the likeliest always can; half precision is taken too."""
    z = torch.tensor([logits])
    left = TokenSampler(temperature, k, p).filter_logits(z.bfloat16())[0]
    assert left.dtype == torch.float32
    kept = left > -math.inf
    assert kept[left.argmax()]
    seen = shares(TokenSampler(temperature, k, p), z.bfloat16()[0], 200)
    assert all(share == 0 for share, keep in zip(seen, kept.tolist(), strict=True) if not keep)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenSampler(-1.0), "temperature: expected at least 0"),
        (lambda: TokenSampler(top_k=0), "top_k: expected at least 1"),
        (lambda: TokenSampler(top_p=0.0), "top_p: expected above 0"),
        (lambda: TokenSampler(top_p=1.5), "at most 1"),
    ],
)
def test_wrong_use_is_refused(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_damaged_logits_are_told() -> None:
    with pytest.raises(InputError, match="samples are not finite"):
        TokenSampler()(torch.full((1, 3), math.nan), f64(0.5))


@pytest.mark.parametrize("temperature", [1e-300, 1e-40])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float) -> None:
    assert shares(TokenSampler(temperature), LOGITS.float(), 10) == [1, 0, 0, 0]
    assert shares(TokenSampler(temperature), f64(-1e30, 0, 0, -torch.inf).float(), 10) == [0, 0.5, 0.5, 0]


def test_a_temperature_beyond_float32_takes_any_that_may_come() -> None:
    assert shares(TokenSampler(1e300), f64(5, 0, -torch.inf).float(), 10) == [0.5, 0.5, 0]
