"""Noisy statistics and planned steps of private fits, against dp-accounting and exact counts."""

import math
import re
from dataclasses import replace
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
import torch
from dp_accounting.pld import PLDAccountant

from feller.app.modalities.registration import find_recipe
from feller.app.workflows.private import private_statistics as guarding
from feller.app.workflows.private.guarantee_text import sentence
from feller.app.workflows.private.plan_dp_sgd import check_private, plan_dp_sgd, with_independent_rows
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_statistics import measure_statistics
from feller.app.workflows.private.table_schema import SchemaCost
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.models.recipes.recipe import DocumentAuxNetworks
from feller.paths.time_distributions import Stratified
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.training.couplings import MinibatchOT
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from feller.training.objectives.contrastive import InfoNCE
from feller.training.objectives.distillation import Distillation
from tests.errors import refuses
from tests.records import fit_record

DELTA = 1e-5
SCHEMA = Schema((Categorical("sex", ("F", "M")), Categorical("job", ("clerk", "nurse", "smith"))), "clip")


def people(n=300):
    codes = np.stack([np.arange(n) % 2, np.arange(n) % 7 % 3], 1)
    return Dataset(torch.from_numpy(codes), {}, Table(SCHEMA))


def pictures():
    values = (torch.arange(40 * 16).reshape(40, 1, 4, 4) % 17).to(torch.uint8)
    return Dataset(values, {"label": torch.arange(40) % 4 % 3}, Images(4, 4, 1, 16, ("a", "b", "c")))


def guarded(wish, data=None):
    data = data or people()
    return measure_statistics(wish, data, data, SchemaCost())


def planned(wish, data, **train):
    """Return the recipe, and the ledger after all steps."""
    found = guarded(wish, data)
    recipe = find_recipe("auto", found.dataset, "tiny")[1]
    recipe, promised = plan_dp_sgd(wish, found, replace(recipe, train=replace(recipe.train, **train)))
    steps = recipe.train.steps
    assert steps == promised.steps
    return recipe, found.ledger.add(replace(promised.step, steps=steps))


def spent(ledger):
    """Return epsilon by dp-accounting, with the default grid."""
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for one in ledger.events:
        if isinstance(one, GaussianMechanism):
            accountant.compose(dp.GaussianDpEvent(one.sigma / math.sqrt(one.times)))
        elif isinstance(one, PoissonSubsampledGaussian):
            accountant.compose(dp.PoissonSampledDpEvent(one.rate, dp.GaussianDpEvent(one.sigma)), one.steps)
    return accountant.get_epsilon(ledger.delta)


@pytest.mark.parametrize(("epsilon", "steps"), [(1.0, 8), (2.5, 20)])
def test_planned_steps_spend_epsilon_and_no_more(epsilon, steps):
    _, ledger = planned(PrivacyConfig(epsilon=epsilon), people(), steps=steps)
    told, truth = ledger.epsilon(), spent(ledger)
    assert truth - 1e-9 <= told <= truth + 1e-3
    assert epsilon - 2e-3 <= told <= epsilon


def test_number_of_steps_for_a_given_noise_is_maximal():
    _, ledger = planned(PrivacyConfig(noise=3.0, stop_at_epsilon=1.0), people(), steps=10**6, batch_size=30)
    assert spent(ledger) <= 1.0
    more = ledger.add(replace(ledger.events[-1], steps=1))  # pyrefly: ignore
    assert spent(more) > 1.0


def test_delta_is_below_the_inverse_of_the_number_of_rows():
    for delta in (1 / 300, 0.5, 0.0):
        with refuses(UsageError, argument="delta"):
            guarded(PrivacyConfig(epsilon=4.0, delta=delta))


def test_smallest_epsilon():
    with refuses(UsageError) as caught:
        guarded(PrivacyConfig(epsilon=0.01))
    epsilon = float(re.search(r"at least ([\d.e-]+)", caught.value.remedy)[1])
    with pytest.warns(UserWarning, match="total variation error"):
        guarded(PrivacyConfig(epsilon=epsilon))
    with refuses(UsageError):
        guarded(PrivacyConfig(epsilon=0.9 * epsilon))


@pytest.mark.parametrize(("n", "delta"), [(300, 1e-5), (100_000, 100_000**-1.1)])
def test_default_delta(n, delta):
    assert guarded(PrivacyConfig(epsilon=4.0), people(n)).ledger.delta == pytest.approx(delta)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({}, "epsilon"),
        ({"epsilon": 1.0, "noise": 1.0}, "epsilon"),
        ({"epsilon": 1.0, "stop_at_epsilon": 1.0}, "stop_at_epsilon"),
        ({"noise": 1.0}, "noise"),
        ({"delta": 1e-6}, "epsilon"),
        ({"unsafe_seed": 1}, "epsilon"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"noise": -1.0, "stop_at_epsilon": 1.0}, "noise"),
        ({"noise": 1.0, "stop_at_epsilon": 0.0}, "stop_at_epsilon"),
    ],
)
def test_refused_options(options, argument):
    with refuses(UsageError, argument=argument):
        PrivacyConfig(**options)


def test_noise_of_counts_is_that_of_the_ledger(monkeypatch):
    """2,460 noisy counts of known mean: their variance is off by 12 % with a chance of 0.0001."""
    monkeypatch.setattr(guarding, "project_to_simplex", lambda shares: shares)
    monkeypatch.setattr("feller.data.tables.modality.check_probabilities", lambda *_, **__: None)  # as projected
    wide = Schema((SCHEMA.columns[0], Categorical("town", tuple(map(str, range(80))))), "clip")
    data, drawn = replace(people(3000), modality=Table(wide)), []
    exact = [1500, 1500, *torch.bincount(data.values[:, 1], minlength=80).tolist()]
    for seed in range(30):
        found = guarded(PrivacyConfig(epsilon=4.0, unsafe_seed=seed), data)
        counts = [round(3000 * share) for column in found.dataset.modality.marginals for share in column]
        drawn.append([count - truth for count, truth in zip(counts, exact, strict=True)])
    (charged,) = found.ledger.events
    sigma = charged.sigma * math.sqrt(2)  # a row is in a cell of each of two columns
    assert np.var(drawn) == pytest.approx(sigma**2, rel=0.12)
    assert abs(np.mean(drawn)) < 4 * sigma / math.sqrt(len(drawn) * 82)


def test_class_frequencies_are_noisy():
    data = pictures()
    one, other = (guarded(PrivacyConfig(epsilon=8.0, unsafe_seed=seed), data) for seed in (1, 2))
    assert one.frequencies["label"] != other.frequencies["label"]
    assert sum(one.frequencies["label"]) == pytest.approx(1)
    assert [type(cost) for cost in one.ledger.events] == [GaussianMechanism]


def test_only_seeded_noise_is_repeatable():
    def shares(seed):
        modality = guarded(PrivacyConfig(epsilon=4.0, unsafe_seed=seed)).dataset.modality
        return modality.marginals

    assert shares(3) == shares(3) != shares(4)
    assert shares(None) != shares(None)


def test_modalities_with_exact_statistics_are_refused():
    for name in ("example:moons", "example:shakespeare"):
        with refuses(UsageError):
            guarded(PrivacyConfig(epsilon=4.0), read(name))


def recipe_of(data):
    return with_independent_rows(find_recipe("auto", data, "tiny")[1])


def test_times_are_drawn_independently():
    recipe = find_recipe("auto", pictures(), "tiny")[1]
    assert isinstance(recipe.objective.time_distribution, Stratified)
    with refuses(UsageError):
        check_private(recipe)
    mine = with_independent_rows(recipe)
    check_private(mine)
    steps = mine.objective.time_distribution(64, Rng(0).stream("time")).diff().abs()
    assert steps.std() > 0.1  # those of a comb are all alike


def test_losses_that_depend_on_other_rows_are_refused():
    recipe = recipe_of(pictures())
    objective: Any = recipe.objective
    vocabulary = DocumentVocabulary(3, 3, 1)
    for changes in (
        {"objective": replace(objective, coupling=MinibatchOT())},
        {"reflow_pairs": 10},
        {"objective": Distillation(objective.path, objective.space)},
        {"objective": CausalMaskedLM(objective.space, vocabulary)},
        {"objective": InfoNCE(objective.space, vocabulary)},
        {"train": replace(recipe.train, reuse_batches=2)},
        {"aux_networks": DocumentAuxNetworks(recipe.train, recipe.train)},
    ):
        with refuses(UsageError, remedy="Use another recipe"):
            check_private(replace(recipe, **changes))


@pytest.mark.parametrize("expense", [GaussianMechanism("counts", 10.0), ZCdp("counts", 700.0)])
def test_guarantee_rounds_up(expense):
    """Also of an epsilon whose exponential is no number."""
    ledger = Ledger((expense,), DELTA, 300)
    record = fit_record(data="p.csv", recipe="table", size="tiny", seed=0, start_from="runs/a")
    text = sentence(ledger, record, Table(SCHEMA))
    value = re.search(r"\(([\d.]+), 1e-05\)", text)[1]
    base, _, power = re.search(r"at most ([\d.]+|10\^\d+) times", text)[1].partition("^")
    assert ledger.epsilon() <= float(value) <= 1.01 * ledger.epsilon()
    assert ledger.epsilon() / math.log(10) <= (float(power) if power else math.log10(float(base))) + 1e-12
    assert "runs/a" in text
