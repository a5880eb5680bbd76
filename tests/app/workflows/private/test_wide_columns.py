"""Private fits of tables with columns of many values, which the noise would hide."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

import feller
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.wide_columns import LABEL, wide_columns
from feller.data.tables.schema import Schema

pytestmark = pytest.mark.usefixtures("here")
CODES = [f"{chapter}{i:02d}.{j}" for chapter in "EJZ" for i in range(10) for j in range(10)]


def visits(n=1500):
    rng = np.random.default_rng(0)
    chapter = rng.choice(["E", "J", "Z"], n, p=[0.6, 0.3, 0.1])
    codes = [f"{c}{rng.integers(10):02d}.{rng.integers(10)}" for c in chapter]
    return pd.DataFrame({"icd": codes, "long": rng.random(n) < np.where(chapter == "E", 0.8, 0.2)})


def schema(**fields):
    column = {"kind": "categorical", "values": CODES}
    return {"columns": {"icd": column, "long": {"kind": "boolean"}}, **fields}


def test_wide_columns_are_grouped_and_charged():
    """At epsilon 0.5, the counts of 300 codes would have an error above 0.3."""
    given = {"epsilon": 0.5, "unsafe_seed": 0, "recipe": "table-marginals", "report": False}
    run = feller.fit(visits(), schema=schema(), out="r", **given)
    events = json.loads((run.path / "ledger.json").read_text())["events"]
    assert events[0]["label"] == LABEL
    column = json.loads(pathlib.Path("r/model.json").read_text())["modality"]["schema"]["columns"][0]
    assert column["is"] == "Grouped"
    drawn = run.sample(1000)
    assert drawn["icd"].isin(CODES).all()
    assert drawn["icd"].nunique() > 100
    share = (drawn["icd"].str[0] == "E").mean()
    assert 0.4 < share < 0.8
    assert set(run.sample(20, given={"icd": "J03.1"})["icd"]) == {"J03.1"}
    two = run.sample(200, given={"icd": ["E03.1", "E04.2"]})["icd"]
    assert set(two) <= {"E03.1", "E04.2"}


def test_narrow_columns_and_columns_with_derived_ones_are_not_grouped():
    private = PrivacyConfig(epsilon=0.5, unsafe_seed=0)
    assert wide_columns(Schema.from_dict(schema()), private, 1500) == ("icd",)
    assert wide_columns(Schema.from_dict(schema()), private, 1_000_000) == ()
    derived = schema()
    derived["columns"]["chapter"] = {"kind": "derived", "source": "icd", "mapping": {code: code[0] for code in CODES}}
    assert wide_columns(Schema.from_dict(derived), private, 1500) == ()


def test_epsilon_of_the_whole_fit_is_kept():
    given = {"epsilon": 1.0, "unsafe_seed": 0, "recipe": "table-marginals", "report": False}
    run = feller.fit(visits(), schema=schema(), out="r", **given)
    assert run.metrics["epsilon"] <= 1.0


def test_public_groups_in_a_schema():
    groups = {f"{letter}*": [code for code in CODES if code[0] == letter] for letter in "EJZ"}
    column = {"kind": "grouped", "groups": groups}
    run = feller.fit(
        visits(),
        schema={"columns": {"icd": column, "long": {"kind": "boolean"}}},
        epsilon=4.0,
        unsafe_seed=0,
        recipe="table-marginals",
        report=False,
        out="r",
    )
    drawn = run.sample(2000)
    assert drawn["icd"].isin(CODES).all()
    means = drawn.groupby(drawn["icd"].str[0])["long"].mean()
    assert means["E"] > 0.6 > 0.4 > means["J"]
