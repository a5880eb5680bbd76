"""What a private fit may know of its rows, and what it costs, against dp-accounting and plain counting."""

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
from feller.app.workflows.private.plan_dp_sgd import check_private, check_resumable, plan_dp_sgd, with_independent_times
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
from feller.models.recipes.recipe import DocumentAuxNetworks, Recipe
from feller.paths.time_distributions import Stratified
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.training.couplings import MinibatchOT
from feller.training.objective import FlowMatching
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from feller.training.objectives.contrastive import InfoNCE
from feller.training.objectives.distillation import Distillation
from tests.errors import refuses
from tests.records import fit_record

DELTA = 1e-5
SCHEMA = Schema(
    (
        Categorical("sex", ("F", "M")),
        Categorical("job", ("clerk", "nurse", "smith")),
    ),
    "clip",
)


def people(n: int = 300) -> Dataset:
    codes = np.stack([np.arange(n) % 2, np.arange(n) % 7 % 3], 1)
    return Dataset(torch.from_numpy(codes), {}, Table(SCHEMA))


def pictures() -> Dataset:
    values = (torch.arange(40 * 16).reshape(40, 1, 4, 4) % 17).to(torch.uint8)
    return Dataset(values, {"label": torch.arange(40) % 4 % 3}, Images(4, 4, 1, 16, ("a", "b", "c")))


def guarded(wish: PrivacyConfig, data: Dataset | None = None) -> guarding.PrivateStatistics:
    data = data or people()
    return measure_statistics(wish, data, data, SchemaCost())


def planned(wish: PrivacyConfig, data: Dataset, **train: Any) -> tuple[Recipe, Ledger]:
    """Return the recipe, and the ledger after all its steps."""
    found = guarded(wish, data)
    recipe = find_recipe("auto", found.dataset, "tiny")[1]
    recipe, promised = plan_dp_sgd(wish, found, replace(recipe, train=replace(recipe.train, **train)))
    steps = recipe.train.steps
    assert steps == promised.steps
    return recipe, found.ledger.add(replace(promised.step, steps=steps))


def spent(ledger: Ledger) -> float:
    """Return epsilon by dp-accounting, at the grid of its default, straight from what was drawn."""
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for one in ledger.events:
        if isinstance(one, GaussianMechanism):
            accountant.compose(dp.GaussianDpEvent(one.sigma / math.sqrt(one.times)))
        elif isinstance(one, PoissonSubsampledGaussian):
            accountant.compose(dp.PoissonSampledDpEvent(one.rate, dp.GaussianDpEvent(one.sigma)), one.steps)
    return accountant.get_epsilon(ledger.delta)


def test_epsilon_of_the_ledger_on_the_reference_vector() -> None:
    """14 one-way counts and 400 steps of Adult: 0.99951."""
    counts = GaussianMechanism("counts of the values of each column", 47.863 / math.sqrt(14))
    ledger = Ledger((counts, PoissonSubsampledGaussian("training", 2.6282, 1024 / 32561, 400)), DELTA, 32561)
    assert ledger.epsilon() == pytest.approx(0.99951, abs=2e-5)


@pytest.mark.parametrize(("epsilon", "steps"), [(1.0, 8), (2.5, 20)])
def test_planned_steps_spend_what_was_asked_and_no_more(epsilon: float, steps: int) -> None:
    _, ledger = planned(PrivacyConfig(epsilon=epsilon), people(), steps=steps)
    told, truth = ledger.epsilon(), spent(ledger)
    assert truth - 1e-9 <= told <= truth + 1e-3
    assert epsilon - 2e-3 <= told <= epsilon


def test_steps_of_a_given_noise_are_the_most_within_epsilon() -> None:
    _, ledger = planned(PrivacyConfig(noise=3.0, stop_at_epsilon=1.0), people(), steps=10**6, batch_size=30)
    assert spent(ledger) <= 1.0
    more = ledger.add(replace(ledger.events[-1], steps=1))  # pyrefly: ignore
    assert spent(more) > 1.0


def test_a_noise_of_which_no_step_is_within_is_refused() -> None:
    with refuses(UsageError, argument="noise"):
        planned(PrivacyConfig(noise=0.5, stop_at_epsilon=0.5), people(), steps=5)


def test_an_epsilon_that_is_too_small_is_refused_with_the_smallest_that_works() -> None:
    with pytest.raises(UsageError, match=r"epsilon 0\.01 is too small for 300 rows of 2 columns") as refused:
        guarded(PrivacyConfig(epsilon=0.01))
    found = re.search(r"at least ([\d.e-]+)", str(refused.value))
    assert found is not None
    with pytest.warns(UserWarning, match="total variation error"):
        guarded(PrivacyConfig(epsilon=float(found[1])))
    with pytest.raises(UsageError, match="too small"):
        guarded(PrivacyConfig(epsilon=0.9 * float(found[1])))


@pytest.mark.parametrize(
    ("delta", "told"), [(1 / 300, "between 0 and 1 / 300"), (0.5, "between 0 and 1 / 300"), (0.0, "delta: expected")]
)
def test_delta_must_be_below_the_share_of_a_row(delta: float, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        guarded(PrivacyConfig(epsilon=4.0, delta=delta))


@pytest.mark.parametrize(("n", "delta"), [(300, 1e-5), (100_000, 100_000**-1.1)])
def test_delta_by_default(n: int, delta: float) -> None:
    assert guarded(PrivacyConfig(epsilon=4.0), people(n)).ledger.delta == pytest.approx(delta)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"epsilon": 1.0, "noise": 1.0},
        {"epsilon": 1.0, "stop_at_epsilon": 1.0},
        {"noise": 1.0},
        {"delta": 1e-6},
        {"unsafe_seed": 1},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"epsilon": math.inf},
        {"noise": -1.0, "stop_at_epsilon": 1.0},
        {"noise": 1.0, "stop_at_epsilon": 0.0},
    ],
)
def test_wishes_that_mean_nothing_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PrivacyConfig(**asked)


def test_counts_carry_the_noise_that_the_ledger_charges(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,460 noisy counts of known mean: their variance is off by 12 % with a chance of 0.0001."""
    monkeypatch.setattr(guarding, "project_to_simplex", lambda shares: shares)
    monkeypatch.setattr("feller.data.tables.modality.check_probabilities", lambda *_, **__: None)  # as projected
    wide = Schema((SCHEMA.columns[0], Categorical("town", tuple(map(str, range(80))))), "clip")
    data, drawn = replace(people(3000), modality=Table(wide)), []
    exact = [1500, 1500, *torch.bincount(data.values[:, 1], minlength=80).tolist()]
    for seed in range(30):
        found = guarded(PrivacyConfig(epsilon=4.0, unsafe_seed=seed), data)
        assert isinstance(found.dataset.modality, Table)
        counts = [round(3000 * share) for column in found.dataset.modality.marginals for share in column]
        drawn.append([count - truth for count, truth in zip(counts, exact, strict=True)])
    (charged,) = found.ledger.events
    assert isinstance(charged, GaussianMechanism)
    sigma = charged.sigma * math.sqrt(2)  # a row is in a cell of each of two columns
    assert np.var(drawn) == pytest.approx(sigma**2, rel=0.12)
    assert abs(np.mean(drawn)) < 4 * sigma / math.sqrt(len(drawn) * 82)


def test_classes_of_pictures_are_counted_with_noise_and_charged() -> None:
    data = pictures()
    one, other = (guarded(PrivacyConfig(epsilon=8.0, unsafe_seed=seed), data) for seed in (1, 2))
    assert one.frequencies["label"] != other.frequencies["label"]
    assert sum(one.frequencies["label"]) == pytest.approx(1)
    assert [type(cost) for cost in one.ledger.events] == [GaussianMechanism]


def test_noise_is_secret_unless_a_seed_is_asked_for() -> None:
    def shares(seed: int | None) -> Any:
        modality = guarded(PrivacyConfig(epsilon=4.0, unsafe_seed=seed)).dataset.modality
        assert isinstance(modality, Table)
        return modality.marginals

    assert shares(3) == shares(3) != shares(4)
    assert shares(None) != shares(None)


def test_data_with_statistics_of_their_rows_are_refused() -> None:
    for name in ("example:moons", "example:shakespeare"):
        with pytest.raises(UsageError, match="statistics of the rows without noise"):
            guarded(PrivacyConfig(epsilon=4.0), read(name))


def recipe_of(data: Dataset) -> Recipe:
    return with_independent_times(find_recipe("auto", data, "tiny")[1])


def test_times_of_a_private_fit_are_drawn_for_each_row_by_itself() -> None:
    recipe = find_recipe("auto", pictures(), "tiny")[1]
    assert isinstance(recipe.objective, FlowMatching)
    assert isinstance(recipe.objective.time_distribution, Stratified)
    with pytest.raises(UsageError, match="times stratified over the batch"):
        check_private(recipe)
    mine = with_independent_times(recipe)
    check_private(mine)
    assert isinstance(mine.objective, FlowMatching)
    steps = mine.objective.time_distribution(64, Rng(0).stream("time")).diff().abs()
    assert steps.std() > 0.1  # those of a comb are all alike


def test_what_lets_rows_look_at_each_other_is_refused_by_name() -> None:
    recipe = recipe_of(pictures())
    objective: Any = recipe.objective
    wrong = {
        "the coupling MinibatchOT": replace(recipe, objective=replace(objective, coupling=MinibatchOT())),
        "reflow pairs": replace(recipe, reflow_pairs=10),
        "the objective Distillation": replace(recipe, objective=Distillation(objective.path, objective.space)),
        "the objective CausalMaskedLM, whose per-example losses": replace(
            recipe, objective=CausalMaskedLM(objective.space, DocumentVocabulary(3, 3, 1))
        ),
        "the objective InfoNCE, whose per-example losses": replace(
            recipe, objective=InfoNCE(objective.space, DocumentVocabulary(3, 3, 1))
        ),
        "batches reused for several steps": replace(recipe, train=replace(recipe.train, reuse_batches=2)),
        "auxiliary networks": replace(recipe, aux_networks=DocumentAuxNetworks(recipe.train, recipe.train)),
    }
    for told, one in wrong.items():
        with pytest.raises(UsageError, match=told):
            check_private(one)


def test_a_resumed_run_keeps_what_its_noise_was_planned_for() -> None:
    found = guarded(PrivacyConfig(epsilon=4.0))
    recipe = find_recipe("auto", found.dataset, "tiny")[1]
    recipe, promised = plan_dp_sgd(
        PrivacyConfig(epsilon=4.0), found, replace(recipe, train=replace(recipe.train, steps=8))
    )
    check_resumable(promised, recipe)
    check_resumable(promised, replace(recipe, train=replace(recipe.train, steps=3, lr=1e-4)))
    wrong = {
        "batch size of 75; found 80": {"batch_size": 80},
        "planned for 8 steps": {"steps": 9},
        "planned for 8 steps; more": {"steps": None, "minutes": 1.0},
        "batches reused for several steps": {"reuse_batches": 4},
    }
    for told, train in wrong.items():
        with pytest.raises(UsageError, match=told):
            check_resumable(promised, replace(recipe, train=replace(recipe.train, **train)))


def test_a_batch_of_more_than_all_rows_is_refused() -> None:
    with refuses(UsageError, argument="train.batch_size", found="301"):
        planned(PrivacyConfig(epsilon=4.0), people(), steps=5, batch_size=301)


def test_minutes_say_nothing_about_how_much_is_spent() -> None:
    with refuses(UsageError, argument="minutes"):
        planned(PrivacyConfig(epsilon=4.0), people(), steps=None, minutes=1.0)
    with refuses(UsageError, argument="minutes"):
        planned(PrivacyConfig(noise=3.0, stop_at_epsilon=1.0), people(), steps=None, minutes=1.0)


@pytest.mark.parametrize("expense", [GaussianMechanism("counts", 10.0), ZCdp("counts", 700.0)])
def test_the_sentence_rounds_up_and_bears_any_epsilon(expense: DpEvent) -> None:
    ledger = Ledger((expense,), DELTA, 300)
    told = sentence(
        ledger, fit_record(data="p.csv", recipe="table", size="tiny", seed=0, start_from="runs/a"), Table(SCHEMA)
    )
    value = re.search(r"satisfy \(([\d.]+), 1e-05\)", told)
    factor = re.search(r"at most ([\d.]+|10\^\d+) times as likely", told)
    assert value is not None
    assert factor is not None
    assert ledger.epsilon() <= float(value[1]) <= 1.01 * ledger.epsilon()
    base, _, power = factor[1].partition("^")
    told_power = float(power) if power else math.log10(float(base))  # e^epsilon itself may be no number
    assert ledger.epsilon() / math.log(10) <= told_power + 1e-12
    assert "the model runs/a" in told
