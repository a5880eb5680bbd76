"""Private fit of a table without a schema: relations hold in its samples, and the ledger lists their cost."""

import pathlib

import pandas as pd
import pytest

import feller
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.table_schema import RELATIONS_BUDGET_FRACTION
from feller.core.run_folder import Run
from feller.privacy.accounting.zcdp import rho_from_epsilon
from tests.data.tables.test_private_relations import stays


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_relations_hold_in_a_private_fit_without_a_schema() -> None:
    stays(5000, 7, exceptions=0.02).to_csv("stays.csv", index=False)
    run = feller.fit("stays.csv", recipe="table-marginals", epsilon=3.0, unsafe_seed=0, report=False)
    drawn = run.sample(1000)
    assert (pd.to_datetime(drawn["stay_begin"]) <= pd.to_datetime(drawn["stay_end"])).all()
    assert (drawn["stay_begin"] == drawn["copied_stay_begin"]).all()
    assert (drawn["sbp"].isna() == drawn["weight"].isna()).all()
    assert 0.25 < drawn["sbp"].isna().mean() < 0.35
    assert (drawn["food"] + drawn["rent"] == drawn["total"]).all()
    ledger = ledger_of(Run(pathlib.Path(run.path)))
    assert ledger is not None
    spent = [event.zcdp_rho for event in ledger.events if event.label.startswith("relations between")]
    assert len(spent) == 1
    assert 0 < spent[0] <= RELATIONS_BUDGET_FRACTION * rho_from_epsilon(3.0, ledger.delta) * (1 + 1e-9)
    assert ledger.epsilon() <= 3.0
