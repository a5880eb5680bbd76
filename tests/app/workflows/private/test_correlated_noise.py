"""Fits with noise that is correlated over steps: plan, groups of rows, sessions, ledger and audit."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.app.config import FitConfig
from feller.app.workflows.private.plan_dp_sgd import calibrate_noise, max_bands
from feller.app.workflows.private.privacy_config import PrivacyConfig, privacy_of
from feller.app.workflows.private.private_split import row_groups
from feller.core.errors import UsageError
from feller.privacy.accounting.calibration import calibrate
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.dp_sgd.correlated_noise import CorrelatedNoise
from feller.privacy.dp_sgd.poisson_sampling import RowGroups
from feller.privacy.noise.banded_matrix import BandedToeplitz, optimal_bands
from feller.privacy.noise.grid_noise import Noise
from feller.training.loop import StepMetrics, TrainState
from feller.training.trainer import Callback
from tests.app.workflows.private.test_private_statistics import guarded, people, planned
from tests.errors import refuses

DELTA = 1e-5


class StopAfterFive(Callback):
    """Stops a training after five steps."""

    def __init__(self) -> None:
        self.step = 0

    @property
    def should_stop(self) -> bool:
        return self.step >= 5

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        self.step = state.step


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"sex": rng.choice(["F", "M"], 300), "age": rng.integers(20, 60, 300)})


def test_plan_with_bands_spends_epsilon_and_no_more() -> None:
    config = PrivacyConfig(epsilon=2.0, bands=4)
    recipe, ledger = planned(config, people(), steps=18, batch_size=60)
    (*others, training) = ledger.events
    assert training.bands == 4
    assert training.per_row == PoissonSubsampledGaussian("training", training.sigma, 4 * 60 / 300, 5)
    assert 2.0 - 2e-3 <= ledger.epsilon() <= 2.0
    assert training.sigma == calibrate(2.0, ledger.available_delta, 0.8, 5, others)
    assert recipe.train.steps == 18


@pytest.mark.slow
def test_automatic_bands_minimise_the_noise_of_sums() -> None:
    """At 16 batches of the rows and epsilon 6, several bands are better; with one batch of the rows, only one fits."""
    ledger, config = Ledger((), DELTA, 20_000), PrivacyConfig(epsilon=6.0, bands=None)
    steps, rate = 100, 1 / 16
    matrix, sigma = calibrate_noise(config, ledger, rate, steps)
    errors = {}
    for bands in (1, matrix.bands // 2, matrix.bands, 2 * matrix.bands):
        other = calibrate(6.0, DELTA, rate, steps, bands=bands)
        errors[bands] = other * optimal_bands(bands, steps).rms_sum_noise(steps)
    assert sigma * matrix.rms_sum_noise(steps) == min(errors.values()) < 0.9 * errors[1]
    assert calibrate_noise(config, ledger, 0.6, 30)[0] == BandedToeplitz()


def test_given_noise_allows_more_steps_with_bands() -> None:
    config = PrivacyConfig(noise=3.0, stop_at_epsilon=1.0, bands=2)
    _, ledger = planned(config, people(), steps=10**6, batch_size=30)
    assert ledger.epsilon() <= 1.0
    last = ledger.events[-1]
    assert ledger.add(replace(last, steps=last.bands)).epsilon() > 1.0


@pytest.mark.parametrize(
    ("bands", "steps", "batch"),
    [(6, 20, 60), (5, 4, 30)],
    ids=["more than batches of the rows", "more than steps"],
)
def test_too_many_bands_are_refused(bands: int, steps: int, batch: int) -> None:
    data = guarded(PrivacyConfig(epsilon=2.0))
    with refuses(UsageError, argument="bands"):
        planned(PrivacyConfig(epsilon=2.0, bands=bands), data.dataset, steps=steps, batch_size=batch)


def test_number_of_bands_is_limited_by_batches_and_steps() -> None:
    assert max_bands(0.25, 100) == 4
    assert max_bands(0.3, 100) == 3
    assert max_bands(1 / 49, 100) == 49  # 1 / (1 / 49) is below 49 in float64
    assert max_bands(0.01, 7) == 7


@pytest.mark.parametrize("bands", ["0", "2.5", "-1", "many"])
def test_bad_bands_are_refused(bands: str) -> None:
    with refuses(UsageError):
        privacy_of(FitConfig(data="people.csv", epsilon=1.0, bands=bands))


def test_tracked_rows_need_independent_noise() -> None:
    for bands in ("2", "auto"):
        with refuses(UsageError, argument="bands"):
            privacy_of(FitConfig(data="people.csv", epsilon=1.0, bands=bands, audit=("fisher=4",)))
    config = privacy_of(FitConfig(data="people.csv", epsilon=1.0, bands="1", audit=("fisher=4",)))
    assert config is not None
    assert config.bands == 1


def test_groups_of_rows_do_not_depend_on_other_rows() -> None:
    data = people(700)
    groups = row_groups(data, 7, "open-1")
    sizes = groups.bincount(minlength=7)
    assert sizes.min() > 60  # mean 100, standard deviation 9.3
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))
    shuffled = row_groups(data.subset(order), 7, "open-1")
    rows = data.values[:, 0] * 3 + data.values[:, 1]
    for kind in rows.unique():  # equal rows have the same multiset of groups, whatever their order
        assert torch.equal(groups[rows == kind].sort().values, shuffled[rows[order] == kind].sort().values)
    fewer = row_groups(data.subset(torch.arange(699)), 7, "open-1")
    assert torch.equal(fewer, groups[:699])
    assert not torch.equal(row_groups(data, 7, "open-2"), groups)
    assert row_groups(data, 1, "open-1").max() == 0
    assert row_groups(data.subset(torch.zeros(0, dtype=torch.long)), 3, "open-1").shape == (0,)


@pytest.mark.slow
def test_sessions_share_one_ledger_and_take_turns(table: pd.DataFrame, here, monkeypatch) -> None:
    """A stopped fit continues the turns of the groups, with the same groups and with noise of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(here / "home"))
    turns, assignments, past = [], [], []
    sample, add = RowGroups.poisson, CorrelatedNoise.add

    def record_turn(groups: RowGroups, step: int, rate: float, noise: Noise) -> torch.Tensor:
        turns.append(step)
        assignments.append(groups.assignment)
        return sample(groups, step, rate, noise)

    def record_past(self, name: str, values: torch.Tensor, scale: float, noise: Noise) -> torch.Tensor:
        past.append(len(self._past.get(name, ())))
        return add(self, name, values, scale, noise)

    monkeypatch.setattr(RowGroups, "poisson", record_turn)
    monkeypatch.setattr(CorrelatedNoise, "add", record_past)
    fields = {"train.batch_size": "40", "objective.marginals_budget": "0"}
    settings = {"out": "run", "size": "tiny", "report": False}

    feller.fit(table, epsilon=8.0, bands=3.0, steps=8, fields=fields, callbacks=(StopAfterFive(),), **settings)
    assert turns == [0, 1, 2, 3, 4]
    assert past[-1] == 2
    record = json.loads((here / "run" / "recipe.json").read_text())
    del past[:]
    run = feller.fit(table, resume=True, **settings)
    assert turns == list(range(8))
    assert past[0] == 0
    assert past[-1] == 2
    assert all(torch.equal(one, assignments[0]) for one in assignments)
    (training,) = [event for event in run.ledger.events if isinstance(event, PoissonSubsampledGaussian)]
    assert (training.steps, training.bands) == (8, 3)
    assert 8.0 - 2e-3 <= run.epsilon <= 8.0
    guarantee = record["provenance"]["private"]
    assert guarantee["correlation"]["column"] == list(optimal_bands(3, 8).column)
