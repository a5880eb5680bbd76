"""Relations between columns in samples of runs: each recipe, with and without privacy, conditions and completion."""

import numpy as np
import pandas as pd
import pytest

import feller
from tests.data.tables.test_relations import visits

pytestmark = pytest.mark.usefixtures("here")

PLAIN = {"size": "tiny", "steps": 20, "report": False}
RECIPES = [
    {"recipe": "table-marginals", "report": False},
    {"recipe": "table-marginals", "epsilon": 3.0, "unsafe_seed": 0, "report": False},
    {"recipe": "table", **PLAIN},
    {"recipe": "table-flow", **PLAIN},
]


def check(drawn: pd.DataFrame) -> None:
    """Check all relations of the table of visits in the samples of a run."""
    missing = drawn["in"].isna()
    assert (missing == drawn["out"].isna()).all()
    assert (drawn["in"][~missing] <= drawn["out"][~missing]).all()
    assert drawn["again"].equals(drawn["in"].rename("again"))
    assert (drawn["all"] == drawn["a"] + drawn["b"]).all()
    assert (drawn["code"] == drawn["city"].map({"Lyon": 10, "Paris": 20, "Rome": 30, "Bonn": 40})).all()
    assert (drawn["land"] == drawn["city"].map({"Lyon": "F", "Paris": "F", "Rome": "I", "Bonn": "D"})).all()
    groups = np.where(drawn["age"] < 30, "young", np.where(drawn["age"] < 65, "middle", "old"))
    assert (groups == drawn["group"]).all()


@pytest.mark.parametrize("options", RECIPES, ids=lambda options: "-".join(map(str, options.values())))
def test_relations_hold_in_samples(options: dict) -> None:
    schema = feller.infer_schema(visits())
    del schema["draft"]
    run = feller.fit(visits(), schema=schema, **options)
    check(run.sample(400))


def test_reports_conditions_and_completion_keep_relations() -> None:
    run = feller.fit(visits(), recipe="table-marginals")
    drawn = run.sample(300)
    check(drawn)
    assert feller.evaluate(run, samples=drawn).metrics["valid"] == 1
    given = {"in": "2021-01-01", "out": "2021-01-15", "all": "40", "a": "13"}
    some = run.sample(50, given=given)
    check(some)
    assert set(some["b"]) == {27}
    assert set(some["again"]) == {"2021-01-01"}
    assert set(some["out"]) == {"2021-01-15"}
    partial = drawn.astype(object).mask(np.random.default_rng(0).random(drawn.shape) < 0.3)
    partial["all"], partial["code"] = drawn["all"], None
    full = run.sample(complete=partial)
    check(full)
    for name in drawn:
        known = partial[name].notna()
        assert (full[name][known] == drawn[name][known]).all()
