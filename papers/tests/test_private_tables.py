"""Claims about private tables: schemas, splits, methods, thresholds and verdicts."""

import gzip
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.app.config import FitConfig
from feller.app.option_groups import DataLoadingOptions, PrivacyOptions
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.core.rng import Rng
from feller.data.examples.loaders import FOLDER_OF_EXAMPLES, adult_cells
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawTable
from feller.data.tables.encoding import encode
from feller.data.tables.modality import Table
from feller.models.model import Model, load_model
from feller.networks.sequence.row_transformer import RowTransformer
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian, ZCdp
from feller.training.objectives.marginal_fitting import MarginalFitting
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE, Claim
from feller_papers.private_tables import ablations, against, audits, figures, goals, schemas
from feller_papers.private_tables.measured import (
    Evaluation,
    _fit_dp_sgd,
    evaluate_method,
    fit_method,
    get_split,
    mean_nll,
    valid_fraction,
)
from feller_papers.private_tables.methods import (
    AIM,
    AIM_TRIPLES,
    INDEPENDENT,
    MST,
    ONE_WAY,
    ROW_MODEL,
    SHUFFLED,
    TINY_NO_MARGINALS,
    TINY_NO_MASK,
    Method,
)
from feller_papers.private_tables.setting import NONE, PAPER, STRONG, WEAK, Budget, Setting
from feller_papers.private_tables.tables import ADULT, GERMAN, available_tables, load_split

TINY = Setting(seeds=(0,), budgets=(STRONG, NONE), rows=2000, size="tiny", steps=2, batch=64)
FULL = Setting(seeds=(0, 1))
EXAMPLE_CELLS = {
    "Bank marketing": {
        "age": "56", "job": "housemaid", "pdays": "999", "duration": "261", "euribor3m": "4.857", "y": "no",
    },
    "Telco churn": {"tenure": "0", "MonthlyCharges": "29.85", "TotalCharges": "", "Churn": "Yes"},
    "California housing": {"longitude": "-122.23", "median_income": "8.3252", "median_house_value": "500001.0"},
    "German credit": {"status": "A11", "purpose": "A410", "credit_amount": "1169", "credit": "2"},
}  # fmt: skip
"""Some cells of a row of each table."""


def example_row(name: str) -> dict[str, str]:
    """Return a row of a table: the cells above, and the first category or smallest number in other columns."""
    schema = schemas.TABLES[name][1](FOLDER_OF_EXAMPLES)
    zeros = torch.zeros(1, len(schema.modelled), dtype=torch.long)
    cells = Table(schema).cells(zeros, torch.zeros(1, len(schema.modelled), dtype=torch.float64))
    return {**{column: str(cells.column(column)[0]) for column in cells.columns}, **EXAMPLE_CELLS[name]}


@pytest.mark.parametrize("name", EXAMPLE_CELLS)
def test_public_schemas_encode_rows_of_their_tables(name: str) -> None:
    row, schema = example_row(name), schemas.TABLES[name][1](FOLDER_OF_EXAMPLES)
    table = RawTable(np.array([[*row.values()]], dtype=object), columns=tuple(row))
    encoded = encode(table, schema)
    assert encoded.outside.sum() == 0  # nothing was clipped
    codes = dict(zip((column.name for column in schema.modelled), encoded.codes[0].tolist(), strict=True))
    if name == "Bank marketing":
        assert schema.modelled[schema.place("pdays")].names[codes["pdays"]] == "999"
        assert schema.modelled[schema.place("age")].names[codes["age"]] == "55 to 59"
    if name == "Telco churn":
        assert codes["TotalCharges"] == schema.modelled[schema.place("TotalCharges")].num_values
        assert codes["tenure"] == 0
    assert schema.modelled[-1].name in ("y", "Churn", "median_house_value", "credit")


def test_schemas_from_files(tmp_path) -> None:
    (tmp_path / "adult_pgm-domain.json").write_text(json.dumps({"age": 85, "sex": 2, "income>50K": 2}))
    adult = schemas.adult_codes_schema(tmp_path)
    assert adult.counts == (85, 2, 2)
    columns = {
        "OWN_RENT": {"dtype": "int64", "values": [0, 1, 2]},
        "PINCP": {"dtype": "object", "has_null": True, "null_value": "N", "min": -9000, "max": 1327000},
        "AGEP": {"dtype": "int64", "min": 0, "max": 95},
    }
    (tmp_path / "nist_national2019-schema.json").write_text(json.dumps({"schema": columns}))
    census = schemas.census_schema(tmp_path)
    assert census.names == ("PINCP", "AGEP", "OWN_RENT")
    income = census.modelled[0]
    assert income.code("N") == income.num_values
    assert income.code("-9000.0") == 0
    assert income.code("0.0") == 1  # no income is apart from a loss


@pytest.mark.slow
def test_splits_are_deterministic(tmp_path) -> None:
    assert list(available_tables(TINY)) == [ADULT]
    assert load_split(GERMAN, None) is None
    row = example_row(GERMAN)
    lines = [",".join(row)] + [",".join({**row, "month": str(4 + i % 60)}.values()) for i in range(50)]
    with gzip.open(tmp_path / "german_credit.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    setting = replace(TINY, data=tmp_path, rows=None)
    assert list(available_tables(setting)) == [ADULT, GERMAN]
    table = get_split(setting, GERMAN)
    assert (len(table.train), len(table.held_out)) == (40, 10)
    few = get_split(TINY, ADULT)
    assert (len(few.train), len(few.held_out)) == (2000, 1000)
    assert few.train.values.tolist() == load_split(ADULT, None, 2000).train.values.tolist()
    adult = read("example:adult")
    assert {*map(tuple, few.train.values.tolist())} <= {*map(tuple, adult.values.tolist())}


def test_initial_nll_with_and_without_mask() -> None:
    """Without the mask, all tokens of the table are equally likely in each column before training: 14 log 172 nats."""
    rows = read("example:adult").subset(torch.arange(64))
    counts = rows.modality.space().vocab_sizes
    masked, unmasked = sum(map(math.log, counts)), 14 * math.log(sum(counts))
    for method, expected in ((TINY_NO_MASK, unmasked), (TINY_NO_MARGINALS, masked)):
        recipe = method.build_recipe(rows, TINY)
        spec = recipe.model_spec(rows)
        with torch.no_grad():
            example = recipe.objective.draw({"x_1": rows.values}, Rng(0))
            loss = recipe.objective.loss(spec.build(Rng(0)), example)
        assert loss.tolist() == pytest.approx([expected] * 64, rel=1e-5)


def test_valid_fraction() -> None:
    """For two columns of 2 and 3 categories, 6 of the 25 rows of all 5 tokens are valid."""
    table = RawTable(np.array([["x", "u"], ["y", "v"]], dtype=object), columns=("a", "b"))
    schema = schemas.public_schema({"a": schemas.categorical("x", "y"), "b": schemas.categorical("u", "v", "w")})
    rows = replace(read("example:adult"), values=encode(table, schema).codes, modality=Table(schema))
    recipe = TINY_NO_MASK.build_recipe(rows, TINY)
    spec = recipe.model_spec(rows)
    fraction = valid_fraction(Model.from_spec(spec, spec.build(Rng(0)).eval()), 20_000, Rng(0))
    assert fraction == pytest.approx(6 / 25, abs=0.015)  # five standard errors


def test_recipes_of_methods() -> None:
    rows = read("example:adult").subset(torch.arange(64))
    assert isinstance(AIM.build_recipe(rows, TINY).objective, MarginalFitting)
    assert MST.build_recipe(rows, TINY).objective.method == "mst"
    assert INDEPENDENT.build_recipe(rows, TINY).objective.method == "independent"
    triples = AIM_TRIPLES.build_recipe(rows, TINY).objective
    assert (triples.method, triples.degree, triples.max_model_size) == ("aim", 3, 8.0)
    assert ONE_WAY.build_recipe(rows, TINY).objective.shuffle_prob == 0
    assert SHUFFLED.build_recipe(rows, TINY).objective.shuffle_prob == 1
    measured = rows.with_modality(rows.modality.with_marginals_of(rows.values))
    uniform = TINY_NO_MARGINALS.build_recipe(measured, TINY)
    assert isinstance(uniform.architecture, RowTransformer)
    assert ROW_MODEL.build_recipe(measured, TINY).architecture.space.value_probs
    assert not uniform.architecture.space.value_probs
    train = ROW_MODEL.build_recipe(rows, TINY).train
    assert (train.steps, train.batch_size) == (2, 16)
    assert ROW_MODEL.build_recipe(rows, FULL).train.steps == 400


@pytest.mark.slow
@pytest.mark.parametrize(("method", "event_type"), [(ROW_MODEL, PoissonSubsampledGaussian), (MST, ZCdp)])
def test_ledgers_spend_the_budget(method: Method, event_type: type) -> None:
    for budget in (STRONG, PAPER):
        ledger = fit_method(TINY, ADULT, method, budget, 0).ledger
        assert ledger is not None
        assert (ledger.n, ledger.delta) == (2000, budget.delta)
        assert any(isinstance(event, event_type) for event in ledger.events)
        assert budget.epsilon - 2e-3 <= ledger.epsilon() <= budget.epsilon
    assert fit_method(TINY, ADULT, method, NONE, 0).ledger is None


@pytest.mark.slow
def test_private_models_equal_those_of_fit(tmp_path) -> None:
    """The weights are equal to those of `feller fit` with the same seed of the noise."""
    cells = adult_cells("train")
    lines = [
        ",".join(cells.columns),
        *map(",".join, zip(*(cells.column(name)[:600] for name in cells.columns), strict=True)),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "schema.json").write_text((FOLDER_OF_EXAMPLES / "adult.schema.json").read_text())
    budget = Budget(10.0)

    def change(recipe):
        return replace(recipe, held_out=0.0, train=replace(recipe.train, steps=2, batch_size=64))

    schema = str(tmp_path / "schema.json")
    privacy = budget.privacy_config(0)
    config = config_of(
        FitConfig,
        data=str(tmp_path / "rows.csv"),
        recipe="table",
        out=str(tmp_path / "run"),
        size="tiny",
        epsilon=privacy.epsilon,
        data_loading=DataLoadingOptions(schema=schema),
        privacy=PrivacyOptions(
            delta=privacy.delta, noise=privacy.noise, clip=privacy.clip, unsafe_seed=privacy.unsafe_seed
        ),
    )
    run, _ = fit(config, change=change)
    rows = read(str(tmp_path / "rows.csv"), schema=schema)
    setting = replace(TINY, rows=None)
    model, ledger = _fit_dp_sgd(rows, ROW_MODEL, setting, privacy, 0)
    expected = load_model(run).network.state_dict()
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    assert ledger.epsilon() <= 10


@pytest.mark.slow
def test_nll_of_independent_columns_is_the_sum_of_entropies() -> None:
    model = fit_method(TINY, ADULT, INDEPENDENT, NONE, 0).model
    rows = get_split(TINY, ADULT).train
    shares = rows.modality.with_marginals_of(rows.values).marginals
    entropy = -sum(share * math.log(share) for column in shares for share in column if share)
    mean, error = mean_nll(model, rows)
    assert mean == pytest.approx(entropy, abs=0.02)  # exact counts are smoothed by one row
    assert 0.01 < error < 0.3


@pytest.mark.slow
def test_evaluations_are_reproducible() -> None:
    first = evaluate_method(TINY, ADULT, ROW_MODEL, STRONG, 0)
    evaluate_method.cache_clear()
    fit_method.cache_clear()
    again = evaluate_method(TINY, ADULT, ROW_MODEL, STRONG, 0)
    assert first.metrics == again.metrics
    assert first.nll == again.nll


def fake(monkeypatch, metrics_of) -> None:
    """Replace evaluations by a function (method, budget, seed, raked) -> (metrics, nll)."""

    def evaluate_method(setting, name, method, budget, seed, *, raked=True):
        metrics, nll = metrics_of(method, budget, seed, raked)
        return Evaluation(metrics, nll, 0.1, budget.epsilon, 1.0)

    def evaluate_nll(setting, name, method, budget, seed):
        return metrics_of(method, budget, seed, True)[1], 0.1

    monkeypatch.setattr(figures, "evaluate_method", evaluate_method)
    monkeypatch.setattr(figures, "evaluate_nll", evaluate_nll)


def test_competitive_needs_auc_and_nll(monkeypatch) -> None:
    def metrics_of(auc: float, nll: float):
        return lambda method, budget, seed, raked: (
            {"auc_boosted": auc if method is ROW_MODEL else 0.9, "tv2": 0.03},
            nll if method is ROW_MODEL else 16.0,
        )

    for auc, nll, expected in ((0.895, 16.04, HOLDS), (0.885, 16.0, FAILS), (0.9, 16.1, FAILS), (0.95, 15.0, HOLDS)):
        fake(monkeypatch, metrics_of(auc, nll))
        claims = list(against.competitive(FULL))
        assert [claim.verdict for claim in claims] == [expected] * 4
        assert "2 seeds" in claims[0].spread
        assert "AUC lower by" in claims[0].ours


def test_goals_include_their_thresholds_and_need_all_seeds(monkeypatch) -> None:
    exact = {"tv1": 0.010, "tv2": 0.036, "tv3": 0.078, "auc_boosted": 0.870, "auc_linear": 0.880}
    goal = goals.ROW_MODEL_GOALS[0]
    fake(monkeypatch, lambda method, budget, seed, raked: (exact, 16.0))
    assert goal.test(FULL).verdict == HOLDS
    for name, worse in (("tv1", 0.011), ("tv3", 0.079), ("auc_boosted", 0.869), ("auc_linear", 0.87)):
        metrics = {**exact, name: worse}
        fake(monkeypatch, lambda method, budget, seed, raked, m=metrics: (m if seed else exact, 16.0))
        assert goal.test(FULL).verdict == FAILS
    calls = []
    fake(monkeypatch, lambda method, budget, seed, raked: (calls.append((method, budget, raked)), (exact, 16.0))[1])
    assert goals.ROW_MODEL_GOALS[2].test(FULL).verdict == HOLDS
    assert {*calls} == {(ROW_MODEL, STRONG, False)}
    assert all(claim.verdict == UNTESTABLE for claim in goals.marginals(TINY))


def test_metrics_must_decrease_with_budget(monkeypatch) -> None:
    order = {STRONG: 0, PAPER: 1, WEAK: 2, NONE: 3}
    for increase, expected in ((0.0015, HOLDS), (0.0025, FAILS)):
        tv2 = [0.03, 0.02, 0.02 + increase, 0.016]
        fake(
            monkeypatch,
            lambda method, budget, seed, raked, tv2=tv2: ({"tv2": tv2[order[budget]], "auc_boosted": 0.9}, 16.0),
        )
        (claim,) = goals.more_budget(FULL)
        assert claim.verdict == expected
        (claim,) = goals.all_methods(FULL)
        assert claim.verdict == expected
        assert "AIM: TV2 0.03, 0.02," in claim.ours


def test_few_rows_compares_tv2_and_utility(monkeypatch) -> None:
    for tv2, auc, expected in ((0.2, 0.5, HOLDS), (0.05, 0.5, FAILS), (0.2, 0.95, FAILS)):
        fake(
            monkeypatch,
            lambda method, budget, seed, raked, tv2=tv2, auc=auc: (
                {"tv2": tv2 if method is ROW_MODEL else 0.1, "auc_boosted": auc if method is ROW_MODEL else 0.9},
                16.0,
            ),
        )
        small, german = against.few_rows(FULL)
        assert small.verdict == expected
        assert german.verdict == UNTESTABLE


def test_raking_needs_the_minimum_gain(monkeypatch) -> None:
    for gain, expected in ((0.0081, HOLDS), (0.0079, FAILS)):
        fake(
            monkeypatch,
            lambda method, budget, seed, raked, g=gain: (
                {"tv2": 0.03 if raked else 0.03 + g, "auc_boosted": 0.9},
                16.0,
            ),
        )
        assert [claim.verdict for claim in ablations.raking(FULL)] == [expected] * 2


def test_audits(monkeypatch) -> None:
    def metrics_of(copies: float, dcr: float, copied: float):
        return lambda method, budget, seed, raked: (
            {
                "copies": copies,
                "copies_held_out": 0.1,
                "dcr_share": dcr,
                "dcr_share_copied": copied,
                "membership_auc": 0.51,
                "membership_auc_copied": copied,
            },
            16.0,
        )

    for copies, dcr, copied, expected in (
        (0.1, 0.505, 0.75, (HOLDS, HOLDS)),
        (0.12, 0.505, 0.75, (FAILS, HOLDS)),
        (0.1, 0.53, 0.75, (HOLDS, FAILS)),
        (0.1, 0.505, 0.55, (HOLDS, FAILS)),
    ):
        fake(monkeypatch, metrics_of(copies, dcr, copied))
        assert (*(claim.verdict for test in (audits.copies, audits.distances) for claim in test(FULL)),) == expected


def test_protocol_needs_a_full_run() -> None:
    (protocol,) = against.protocol(TINY)
    assert protocol.verdict == UNTESTABLE


@pytest.mark.slow
def test_small_runs_yield_all_claims() -> None:
    claims = [
        claim
        for test in (against.competitive, ablations.raking, ablations.grammar, ablations.any_order, audits.copies)
        for claim in test(TINY)
    ]
    assert all(isinstance(claim, Claim) and claim.verdict in (HOLDS, FAILS) for claim in claims)
    assert len(claims) == 2 + 1 + 1 + 1 + 1
    assert "too few for the claim" in claims[0].ours
