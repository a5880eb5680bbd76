"""Claims about private tables: what they measure, on which tables, and that small runs tell them."""

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
    Measured,
    _trained,
    allowed_share,
    fitted,
    measured,
    surprise_of,
    table_of,
)
from feller_papers.private_tables.methods import AIM, ALONE, LOOSE, MST, ROWS, SHUFFLED, TRIPLES, UNTOLD, Way
from feller_papers.private_tables.setting import NONE, PAPER, STRONG, WEAK, Budget, Setting
from feller_papers.private_tables.tables import ADULT, GERMAN, posed, there

TINY = Setting(seeds=(0,), budgets=(STRONG, NONE), rows=2000, size="tiny", steps=2, batch=64)
WHOLE = Setting(seeds=(0, 1))
HELD = {
    "Bank marketing": {
        "age": "56", "job": "housemaid", "pdays": "999", "duration": "261", "euribor3m": "4.857", "y": "no",
    },
    "Telco churn": {"tenure": "0", "MonthlyCharges": "29.85", "TotalCharges": "", "Churn": "Yes"},
    "California housing": {"longitude": "-122.23", "median_income": "8.3252", "median_house_value": "500001.0"},
    "German credit": {"status": "A11", "purpose": "A410", "credit_amount": "1169", "credit": "2"},
}  # fmt: skip
"""Some cells of a row of each."""


def words_of(name: str) -> dict[str, str]:
    """Return a row of a table: what is said above, and the first word or the least number elsewhere."""
    schema = schemas.TABLES[name][1](FOLDER_OF_EXAMPLES)
    zeros = torch.zeros(1, len(schema.modelled), dtype=torch.long)
    cells = Table(schema).cells(zeros, torch.zeros(1, len(schema.modelled), dtype=torch.float64))
    return {**{column: str(cells.column(column)[0]) for column in cells.columns}, **HELD[name]}


@pytest.mark.parametrize("name", HELD)
def test_public_schemas_take_the_cells_of_their_tables(name: str) -> None:
    row, schema = words_of(name), schemas.TABLES[name][1](FOLDER_OF_EXAMPLES)
    found = RawTable(np.array([[*row.values()]], dtype=object), columns=tuple(row))
    coded = encode(found, schema)
    assert coded.outside.sum() == 0  # nothing was clipped
    told = dict(zip((column.name for column in schema.modelled), coded.codes[0].tolist(), strict=True))
    if name == "Bank marketing":
        assert schema.modelled[schema.place("pdays")].names[told["pdays"]] == "999"
        assert schema.modelled[schema.place("age")].names[told["age"]] == "55 to 59"
    if name == "Telco churn":
        assert told["TotalCharges"] == schema.modelled[schema.place("TotalCharges")].num_values
        assert told["tenure"] == 0
    assert schema.modelled[-1].name in ("y", "Churn", "median_house_value", "credit")


def test_descriptions_beside_a_table(tmp_path) -> None:
    (tmp_path / "adult_pgm-domain.json").write_text(json.dumps({"age": 85, "sex": 2, "income>50K": 2}))
    adult = schemas.adult_codes(tmp_path)
    assert adult.counts == (85, 2, 2)
    told = {
        "OWN_RENT": {"dtype": "int64", "values": [0, 1, 2]},
        "PINCP": {"dtype": "object", "has_null": True, "null_value": "N", "min": -9000, "max": 1327000},
        "AGEP": {"dtype": "int64", "min": 0, "max": 95},
    }
    (tmp_path / "nist_national2019-schema.json").write_text(json.dumps({"schema": told}))
    census = schemas.census(tmp_path)
    assert census.names == ("PINCP", "AGEP", "OWN_RENT")
    income = census.modelled[0]
    assert income.code("N") == income.num_values
    assert income.code("-9000.0") == 0
    assert income.code("0.0") == 1  # no income is apart from a loss


@pytest.mark.slow
def test_tables_are_split_once_for_all(tmp_path) -> None:
    assert list(there(TINY)) == [ADULT]
    assert posed(GERMAN, None) is None
    row = words_of(GERMAN)
    lines = [",".join(row)] + [",".join({**row, "month": str(4 + i % 60)}.values()) for i in range(50)]
    with gzip.open(tmp_path / "german_credit.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    setting = replace(TINY, data=tmp_path, rows=None)
    assert list(there(setting)) == [ADULT, GERMAN]
    table = table_of(setting, GERMAN)
    assert (len(table.learned), len(table.held_out)) == (40, 10)
    few = table_of(TINY, ADULT)
    assert (len(few.learned), len(few.held_out)) == (2000, 1000)
    assert few.learned.values.tolist() == posed(ADULT, None, 2000).learned.values.tolist()
    whole = read("example:adult")
    assert {*map(tuple, few.learned.values.tolist())} <= {*map(tuple, whole.values.tolist())}


def test_a_model_without_a_grammar_spends_nats_on_it() -> None:
    """Before training every word of the table is as likely in every column: 14 log 172 nats, 1.3e-13 of the rows."""
    rows = read("example:adult").subset(torch.arange(64))
    counts = rows.modality.space().vocab_sizes
    for way, expected in ((LOOSE, 14 * math.log(sum(counts))), (UNTOLD, sum(map(math.log, counts)))):
        recipe = way.of(rows, TINY)
        about = recipe.model_spec(rows)
        with torch.no_grad():
            example = recipe.objective.draw({"x_1": rows.values}, Rng(0))
            loss = recipe.objective.loss(about.build(Rng(0)), example)
        assert loss.tolist() == pytest.approx([expected] * 64, rel=1e-5)


def test_share_of_rows_that_a_table_may_have() -> None:
    """Of two columns of 2 and 3 words, 6 of the 25 rows over all 5 words are of the table."""
    found = RawTable(np.array([["x", "u"], ["y", "v"]], dtype=object), columns=("a", "b"))
    schema = schemas.public({"a": schemas.words("x", "y"), "b": schemas.words("u", "v", "w")})
    kind = Table(schema)
    rows = replace(read("example:adult"), values=encode(found, schema).codes, modality=kind)
    recipe = LOOSE.of(rows, TINY)
    about = recipe.model_spec(rows)
    share = allowed_share(Model.from_spec(about, about.build(Rng(0)).eval()), 20_000, Rng(0))
    assert share == pytest.approx(6 / 25, abs=0.015)  # five standard errors


def test_ways_change_what_they_say() -> None:
    rows = read("example:adult").subset(torch.arange(64))
    assert isinstance(AIM.of(rows, TINY).objective, MarginalFitting)
    assert MST.of(rows, TINY).objective.method == "mst"
    assert ALONE.of(rows, TINY).objective.method == "independent"
    triples = TRIPLES.of(rows, TINY).objective
    assert (triples.method, triples.degree, triples.max_model_size) == ("aim", 3, 8.0)
    assert ROWS.of(rows, TINY).objective.shuffle_prob == 0
    assert SHUFFLED.of(rows, TINY).objective.shuffle_prob == 1
    counted = rows.with_modality(rows.modality.with_marginals_of(rows.values))
    untold = UNTOLD.of(counted, TINY)
    assert isinstance(untold.architecture, RowTransformer)
    assert ROWS.of(counted, TINY).architecture.space.value_probs
    assert not untold.architecture.space.value_probs
    assert (ROWS.of(rows, TINY).train.steps, ROWS.of(rows, TINY).train.batch_size) == (2, 16)
    assert ROWS.of(rows, WHOLE).train.steps == 400


@pytest.mark.slow
@pytest.mark.parametrize(("way", "kind"), [(ROWS, PoissonSubsampledGaussian), (MST, ZCdp)])
def test_budgets_are_spent_and_not_more(way: Way, kind: type) -> None:
    for budget in (STRONG, PAPER):
        ledger = fitted(TINY, ADULT, way, budget, 0).ledger
        assert ledger is not None
        assert (ledger.n, ledger.delta) == (2000, budget.delta)
        assert any(isinstance(expense, kind) for expense in ledger.events)
        assert budget.epsilon - 2e-3 <= ledger.epsilon() <= budget.epsilon
    assert fitted(TINY, ADULT, way, NONE, 0).ledger is None


@pytest.mark.slow
def test_private_models_are_those_of_fit(tmp_path) -> None:
    """What is measured is what people get: bit for bit the model of `fit` with that seed of the noise."""
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
    wish = budget.wish(0)
    config = config_of(
        FitConfig,
        data=str(tmp_path / "rows.csv"),
        recipe="table",
        out=str(tmp_path / "run"),
        size="tiny",
        epsilon=wish.epsilon,
        data_loading=DataLoadingOptions(schema=schema),
        privacy=PrivacyOptions(delta=wish.delta, noise=wish.noise, clip=wish.clip, unsafe_seed=wish.unsafe_seed),
    )
    run, _ = fit(config, change=change)
    rows = read(str(tmp_path / "rows.csv"), schema=schema)
    setting = replace(TINY, rows=None)
    model, ledger = _trained(rows, ROWS, setting, budget.wish(0), 0)
    theirs = load_model(run).network.state_dict()
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, theirs[name]), name
    assert ledger.epsilon() <= 10


@pytest.mark.slow
def test_surprise_of_independent_columns_is_the_sum_of_their_entropies() -> None:
    model = fitted(TINY, ADULT, ALONE, NONE, 0).model
    rows = table_of(TINY, ADULT).learned
    shares = rows.modality.with_marginals_of(rows.values).marginals
    entropy = -sum(share * math.log(share) for column in shares for share in column if share)
    mean, error = surprise_of(model, rows)
    assert mean == pytest.approx(entropy, abs=0.02)  # exact counts are smoothed by a grain of one row
    assert 0.01 < error < 0.3


@pytest.mark.slow
def test_what_is_measured_again_is_the_same() -> None:
    one = measured(TINY, ADULT, ROWS, STRONG, 0)
    measured.cache_clear()
    fitted.cache_clear()
    again = measured(TINY, ADULT, ROWS, STRONG, 0)
    assert one.numbers == again.numbers
    assert one.nll == again.nll


def fake(monkeypatch, tell) -> None:
    """Let measurements be what a function of (way, budget, seed, raked) says."""

    def found(setting, name, way, budget, seed, *, raked=True):
        numbers, nll = tell(way, budget, seed, raked)
        return Measured(numbers, nll, 0.1, budget.epsilon, 1.0)

    def surprised(setting, name, way, budget, seed):
        return tell(way, budget, seed, True)[1], 0.1

    monkeypatch.setattr(figures, "measured", found)
    monkeypatch.setattr(figures, "surprised", surprised)


def test_competitive_is_near_in_both(monkeypatch) -> None:
    def told(worth: float, nats: float):
        return lambda way, budget, seed, raked: (
            {"auc_boosted": worth if way is ROWS else 0.9, "tv2": 0.03},
            nats if way is ROWS else 16.0,
        )

    for worth, nats, expected in ((0.895, 16.04, HOLDS), (0.885, 16.0, FAILS), (0.9, 16.1, FAILS), (0.95, 15.0, HOLDS)):
        fake(monkeypatch, told(worth, nats))
        claims = list(against.competitive(WHOLE))
        assert [claim.verdict for claim in claims] == [expected] * 4
        assert "2 seeds" in claims[0].spread
        assert "AUC lower by" in claims[0].ours


def test_goals_hold_at_their_bounds_for_every_seed(monkeypatch) -> None:
    exact = {"tv1": 0.010, "tv2": 0.036, "tv3": 0.078, "auc_boosted": 0.870, "auc_linear": 0.880}
    goal = goals.LANGUAGE[0]
    fake(monkeypatch, lambda way, budget, seed, raked: (exact, 16.0))
    assert goal.test(WHOLE).verdict == HOLDS
    for name, worse in (("tv1", 0.011), ("tv3", 0.079), ("auc_boosted", 0.869), ("auc_linear", 0.87)):
        fake(monkeypatch, lambda way, budget, seed, raked, n=name, w=worse: ({**exact, n: w} if seed else exact, 16.0))
        assert goal.test(WHOLE).verdict == FAILS
    asked = []
    fake(monkeypatch, lambda way, budget, seed, raked: (asked.append((way, budget, raked)), (exact, 16.0))[1])
    assert goals.LANGUAGE[2].test(WHOLE).verdict == HOLDS
    assert {*asked} == {(ROWS, STRONG, False)}
    assert all(claim.verdict == UNTESTABLE for claim in goals.marginals(TINY))


def test_more_budget_must_show(monkeypatch) -> None:
    order = {STRONG: 0, PAPER: 1, WEAK: 2, NONE: 3}
    for bump, expected in ((0.0015, HOLDS), (0.0025, FAILS)):
        tv = [0.03, 0.02, 0.02 + bump, 0.016]
        fake(
            monkeypatch, lambda way, budget, seed, raked, tv=tv: ({"tv2": tv[order[budget]], "auc_boosted": 0.9}, 16.0)
        )
        (claim,) = goals.more_budget(WHOLE)
        assert claim.verdict == expected
        (claim,) = goals.all_methods(WHOLE)
        assert claim.verdict == expected
        assert "AIM: TV2 0.03, 0.02," in claim.ours


def test_a_small_table_favours_marginals_in_both(monkeypatch) -> None:
    for rows_tv, rows_worth, expected in ((0.2, 0.5, HOLDS), (0.05, 0.5, FAILS), (0.2, 0.95, FAILS)):
        fake(
            monkeypatch,
            lambda way, budget, seed, raked, tv=rows_tv, w=rows_worth: (
                {"tv2": tv if way is ROWS else 0.1, "auc_boosted": w if way is ROWS else 0.9},
                16.0,
            ),
        )
        small, german = against.few_rows(WHOLE)
        assert small.verdict == expected
        assert german.verdict == UNTESTABLE


def test_raking_must_lower_tv2_by_half_of_what_it_did(monkeypatch) -> None:
    for gain, expected in ((0.0081, HOLDS), (0.0079, FAILS)):
        fake(
            monkeypatch,
            lambda way, budget, seed, raked, g=gain: ({"tv2": 0.03 if raked else 0.03 + g, "auc_boosted": 0.9}, 16.0),
        )
        assert [claim.verdict for claim in ablations.raking(WHOLE)] == [expected] * 2


def test_audits(monkeypatch) -> None:
    def told(share: float, dcr: float, again: float):
        return lambda way, budget, seed, raked: (
            {
                "copies": share,
                "copies_held_out": 0.1,
                "dcr_share": dcr,
                "dcr_share_copied": again,
                "membership_auc": 0.51,
                "membership_auc_copied": again,
            },
            16.0,
        )

    for share, dcr, again, expected in (
        (0.1, 0.505, 0.75, (HOLDS, HOLDS)),
        (0.12, 0.505, 0.75, (FAILS, HOLDS)),
        (0.1, 0.53, 0.75, (HOLDS, FAILS)),
        (0.1, 0.505, 0.55, (HOLDS, FAILS)),
    ):
        fake(monkeypatch, told(share, dcr, again))
        assert (*(claim.verdict for test in (audits.copies, audits.distances) for claim in test(WHOLE)),) == expected


def test_the_protocol_needs_its_tables() -> None:
    (protocol,) = against.protocol(TINY)
    assert protocol.verdict == UNTESTABLE


@pytest.mark.slow
def test_small_runs_tell_all_claims() -> None:
    claims = [
        claim
        for test in (against.competitive, ablations.raking, ablations.grammar, ablations.any_order, audits.copies)
        for claim in test(TINY)
    ]
    assert all(isinstance(claim, Claim) and claim.verdict in (HOLDS, FAILS) for claim in claims)
    assert len(claims) == 2 + 1 + 1 + 1 + 1
    assert "too few for the claim" in claims[0].ours
