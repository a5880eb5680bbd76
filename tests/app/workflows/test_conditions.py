"""Fit and sample with selected conditions: one value for all samples, or one per sample."""

import numpy as np
import pandas as pd
import pytest

import feller
from feller.core.errors import UsageError
from tests.errors import refuses


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run that is conditioned on a number and a category."""
    rng = np.random.default_rng(0)
    x, colour = rng.normal(size=200), rng.choice(["red", "blue"], 200)
    rows = pd.DataFrame({"y": x + (colour == "red") + 0.1 * rng.normal(size=200), "x": x, "colour": colour})
    out = str(tmp_path_factory.mktemp("runs") / "run")
    return feller.fit(rows, condition=["x", "colour"], steps=3, size="tiny", report=False, out=out)


def test_one_value_for_all_samples_or_one_per_sample(run):
    samples = run.sample(3, given={"x": [0.0, 0.5, 1.0], "colour": "red"}, nfe=4)
    assert list(samples["x"]) == [0.0, 0.5, 1.0]
    assert set(samples["colour"]) == {"red"}
    with refuses(UsageError, argument="x"):
        run.sample(4, given={"x": [0.0, 0.5, 1.0]}, nfe=4)


def test_conditions_that_are_not_given_are_open(run):
    assert list(run.sample(2, given={"x": 0.5}, nfe=4)) == ["y", "x"]


def test_a_value_outside_of_the_training_range_is_warned_of(run):
    with pytest.warns(UserWarning, match="x is outside"):
        run.sample(1, given={"x": 1e3}, nfe=4)


def test_guidance_per_condition(run):
    run.sample(2, given={"x": 0.5, "colour": "red"}, guidance={"x": 2.0, "colour": 1.0}, nfe=4)
    with refuses(UsageError, argument="guidance"):
        run.sample(2, given={"x": 0.5}, guidance={"size": 2.0}, nfe=4)


def test_log_prob_is_conditional(run):
    """Rows that differ only in a condition have different densities."""
    rows = pd.DataFrame({"y": [0.0, 0.0], "x": [0.0, 2.0], "colour": ["red", "red"]})
    assert np.isfinite(run.log_prob(rows)).all()


def test_private_fits_take_no_condition(run, tmp_path):
    with refuses(UsageError, argument="condition"):
        feller.fit(
            pd.DataFrame({"y": [1.0, 2.0], "x": [0.0, 1.0]}), condition="x", epsilon=1.0, out=str(tmp_path / "r")
        )
