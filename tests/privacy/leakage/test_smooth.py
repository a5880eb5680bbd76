"""Clipping without a kink: how far it overshoots, and that it is smooth."""

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import gelu

from feller.privacy.dp_sgd.per_example_clipping import clip_factors
from feller.privacy.leakage.leakage_tracking import SMOOTH_CLIP_OVERSHOOT, hard_clip, smooth_clip
from tests.oracle import F64, f64


def test_longest() -> None:
    """1.11522 clip norms, at a length of 1.5487, rounded up."""
    found = minimize_scalar(lambda r: -r / (1 + gelu(f64(r - 1)).item()), bounds=(1.0, 3.0), method="bounded")
    assert found.x == pytest.approx(1.5487, abs=1e-4)
    assert -found.fun <= SMOOTH_CLIP_OVERSHOOT <= -found.fun + 1e-5
    assert round(SMOOTH_CLIP_OVERSHOOT, 5) == 1.11522
    lengths = torch.linspace(0, 200, 400_001, dtype=F64)
    assert (lengths * smooth_clip(lengths, 2.0)).max() <= 2 * SMOOTH_CLIP_OVERSHOOT


@pytest.mark.parametrize("way", [hard_clip, smooth_clip])
def test_slopes_are_finite_also_at_zero(way) -> None:
    norms = f64(0.0, 1e-300, 1e-3, 2.0, 5.0, 1e9).requires_grad_()
    found = way(norms, 2.0)
    (slopes,) = torch.autograd.grad(found.sum(), norms)
    assert slopes.isfinite().all()
    assert torch.autograd.gradcheck(lambda x: way(x, 2.0), f64(0.5, 1.9, 2.3, 7.0).requires_grad_())


def test_hard_is_what_training_does() -> None:
    norms = f64(0.0, 0.5, 2.0, 2.1, 1e4)
    assert torch.equal(hard_clip(norms, 2.0), clip_factors(norms, 2.0))
