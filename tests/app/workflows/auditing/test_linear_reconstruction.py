"""Rows of a linear model, rebuilt by who knows all others."""

import math

import torch

from feller.app.workflows.auditing.linear_reconstruction import rebuilt_rows
from feller.core.rng import Rng
from tests.training.objectives.test_output_perturbation import objective, rows


def test_without_noise_rows_are_read_off():
    found = rebuilt_rows(objective(0.02), rows(200), math.inf, Rng(0))
    assert found.reconstructed.error.max() < 1e-10
    assert found.eta2.isinf().all()
    assert not found.reconstructed.is_below_bound.any()


def test_small_noise_never_brings_an_error_below_its_bound():
    """The rows that the attack is without bias for, in 20 drawings of 1,000 noises each."""
    one, data = objective(0.02), rows(200)
    for seed in range(20):
        found = rebuilt_rows(one, data, 1e9, Rng(seed))
        assert found.reconstructed.is_unbiased.all()
        assert not found.reconstructed.is_below_bound.any()
    ratio = found.reconstructed.error * found.eta2[found.reconstructed.indices]
    assert 1 < ratio.median() < 20


def test_too_small_a_noise_is_found_out():
    """Bounds for ten times the noise: an alarm for rows that are rebuilt better than that allows."""
    one, data = objective(0.02), rows(200)
    found = rebuilt_rows(one, data, 1e9, Rng(0))
    claimed = 100 / found.eta2[found.reconstructed.indices]
    assert (found.reconstructed.error < claimed).any()


def test_much_noise_makes_answers_biased_which_no_bound_is_held_against():
    found = rebuilt_rows(objective(), rows(200), 0.1, Rng(0))
    assert not found.reconstructed.is_unbiased.any()
    assert not found.reconstructed.is_below_bound.any()
    assert found.reconstructed.clipped_error.mean() > found.mean_row_error
    assert torch.equal(
        found.eta2[found.reconstructed.indices], found.eta2[found.reconstructed.indices].sort(descending=True).values
    )
