"""Metrics of durations, by hand."""

import math

import pytest
import torch

from feller.evaluation.speech.duration_metrics import (
    NUM_SAMPLES,
    PhoneDurations,
    duration_distance,
    durations_quality,
    masked_correlation,
    masked_error,
)

X, O = True, False  # noqa: E741
ABOUT = PhoneDurations(
    torch.tensor([[0, 5, 6, 0, -1], [0, 7, 0, -1, -1], [0, 3, 3, 3, 0]]),
    torch.tensor([[2, 4, 8, 0, 0], [1, 6, 3, 0, 0], [5, 2, 4, 6, 7]]),
    torch.tensor([[O, O, X, X, O], [X, X, O, O, O], [O, O, X, X, X]]),
)


def test_masked_error() -> None:
    true = torch.tensor([[4, 8, 100], [3, 5, 7]])
    guessed = torch.tensor([[1.0, 6.5, 0.0], [3.0, 9.0, 7.0]])
    hidden = torch.tensor([[X, X, O], [O, X, O]])
    assert masked_error(true, guessed, hidden) == pytest.approx((3 + 1.5 + 4) / 3)
    assert masked_error(true, guessed, torch.zeros(2, 3, dtype=torch.bool)) is None


def test_masked_correlation() -> None:
    """Known means 1, 2, 6 and guessed means 4, 2, 9; a fourth utterance has nothing known, a fifth nothing hidden."""
    true = torch.tensor([[1, 1, 50, 50], [1, 3, 50, 0], [6, 50, 50, 50], [9, 9, 9, 9], [70, 1, 1, 1]])
    guessed = torch.tensor([[70, 70, 3, 5], [70, 70, 2, 70], [70, 8, 9, 10], [1, 1, 1, 1], [1, 1, 1, 1]])
    hidden = torch.tensor([[O, O, X, X], [O, O, X, O], [O, X, X, X], [X, X, X, X], [O, O, O, O]])
    valid = torch.ones(5, 4, dtype=torch.bool)
    valid[1, 3] = False
    a, b = (-2.0, -1.0, 3.0), (-1.0, -3.0, 4.0)  # less their means 3 and 5
    right = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    assert masked_correlation(true, guessed, hidden, valid) == pytest.approx(right)


def test_masked_correlation_is_undefined() -> None:
    true = torch.tensor([[1, 2], [2, 3], [3, 9]])
    hidden = torch.tensor([[O, X]]).expand(3, 2)
    valid = torch.ones(3, 2, dtype=torch.bool)
    assert masked_correlation(true, true, hidden, valid) is not None
    assert masked_correlation(true[:2], true[:2], hidden[:2], valid[:2]) is None
    assert masked_correlation(true, torch.full((3, 2), 4), hidden, valid) is None
    assert masked_correlation(true.clamp(max=1), true, hidden, valid) is None


def test_duration_distance() -> None:
    """(mu - mu')^2 + s + s' - 2 sqrt(s s'), of variances s."""
    a, b = torch.tensor([1, 3, 5]), torch.tensor([10.0, 12.0, 20.0, 6.0])
    s, t = 4.0, 104 / 3
    assert duration_distance(a, b) == pytest.approx(81 + s + t - 2 * math.sqrt(s * t))
    assert duration_distance(a, a) == 0
    assert duration_distance(a[:1], b) is None


def test_phone_and_silence_mae() -> None:
    guessed = ABOUT.true.clone()
    guessed[0, 2] += 3  # a phone
    guessed[2, 2] -= 1  # a phone
    guessed[0, 3] += 2  # a silence
    guessed[0, 1] += 50  # known
    guessed[1, 4] += 50  # behind the end
    found = durations_quality(guessed[None], ABOUT)
    assert found["phone_mae"] == pytest.approx(4 / 4)  # 8, 6, 4 and 6 frames are hidden
    assert found["silence_mae"] == pytest.approx(2 / 3)
    assert found.keys() == {"phone_mae", "silence_mae", "duration_correlation"}


def test_phone_and_silence_fdd() -> None:
    trained = PhoneDurations(
        torch.tensor([[0, 8, 9, 0], [0, 8, -1, -1]]),
        torch.tensor([[3, 5, 9, 1], [2, 7, 0, 0]]),
        torch.zeros(2, 4, dtype=torch.bool),
    )
    found = durations_quality(ABOUT.true[None], ABOUT, trained)
    assert found["phone_fdd"] == pytest.approx(duration_distance(torch.tensor([8, 6, 4, 6]), torch.tensor([5, 9, 7])))
    assert found["silence_fdd"] == pytest.approx(duration_distance(torch.tensor([0, 1, 7]), torch.tensor([3, 1, 2])))


def test_metrics_of_several_samples() -> None:
    """Its error is that of the mean, its distance that of the draws, which the mean would make too narrow."""
    draw = torch.Generator().manual_seed(0)
    away = torch.randint(1, 4, (NUM_SAMPLES // 2, *ABOUT.true.shape), generator=draw)
    guessed = torch.cat([ABOUT.true + away, ABOUT.true - away])
    trained = PhoneDurations(ABOUT.phone, ABOUT.true, ABOUT.filled_mask)
    found = durations_quality(guessed, ABOUT, trained)
    assert found["phone_mae"] == pytest.approx(0)
    assert found["silence_mae"] == pytest.approx(0)
    phones = guessed[:, torch.tensor([[O, O, X, O, O], [O, X, O, O, O], [O, O, X, X, O]])].flatten()
    assert len(phones) == 4 * NUM_SAMPLES
    assert found["phone_fdd"] == pytest.approx(duration_distance(phones, torch.tensor([4, 8, 6, 2, 4, 6])))


def test_nothing_masked() -> None:
    about = PhoneDurations(ABOUT.phone, ABOUT.true, torch.zeros_like(ABOUT.filled_mask))
    assert set(durations_quality(ABOUT.true[None], about, ABOUT).values()) == {None}
