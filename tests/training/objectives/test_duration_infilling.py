"""Log durations."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.speech.durations import log_durations, spread_durations, whole_durations
from feller.spaces import Euclidean
from feller.training.objectives.duration_infilling import DurationInfilling
from tests.errors import refuses


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 300), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_log_durations_round_trip(lengths: list[int], seed: int) -> None:
    wanted = torch.tensor([lengths])
    assert torch.equal(whole_durations(log_durations(wanted)), wanted)
    spread = spread_durations(wanted, Rng(seed))
    assert torch.isfinite(spread).all()
    assert torch.equal(whole_durations(spread), wanted)


def test_dequantised_durations_are_uniform() -> None:
    """Of 20,000 draws the mean of expm1 is within 5 deviations, 5 * 0.2887 / sqrt(20000) = 0.0102, but for 6e-7."""
    spread = spread_durations(torch.full((20_000, 1), 3), Rng(0)).double().expm1()
    assert abs(float(spread.mean()) - 3) < 0.0102
    assert 2.499 <= float(spread.min()) < 2.51
    assert 3.49 < float(spread.max()) < 3.501


def test_log_durations_and_rounding() -> None:
    logs = log_durations(torch.tensor([[0, 1, 9]]))
    torch.testing.assert_close(logs[:, :, 0], torch.tensor([[1.0, 2.0, 10.0]]).log())
    assert whole_durations(torch.tensor([[[-3.0], [-0.1], [0.3], [0.5], [1.0]]])).tolist() == [[0, 0, 0, 1, 2]]
    assert whole_durations(torch.tensor([[[40.0], [1000.0]]])).tolist() == [[99_999, 99_999]]


@pytest.mark.parametrize(("mean", "std"), [(float("nan"), 1.0), (0.0, float("nan")), (0.0, 0.0), (0.0, float("inf"))])
def test_invalid_statistics_are_refused(mean: float, std: float) -> None:
    with refuses(UsageError):
        replace(DurationInfilling.deterministic(Euclidean()), mean=mean, std=std)
