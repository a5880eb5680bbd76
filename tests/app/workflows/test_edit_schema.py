"""Edits of schemas in Python: kinds, rare values, rules, and fits with the edited schema."""

import json

import numpy as np
import pandas as pd
import pytest

import feller
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")


def people(n=300):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": 7 * np.arange(n) + 3,
            "region": rng.integers(1, 5, n),
            "job": [f"rare {i}" if i < 6 else "abc"[i % 3] for i in range(n)],
            "empty": np.full(n, np.nan),
            "age": rng.integers(18, 80, n),
        }
    )


def test_options_edit_the_draft():
    schema = feller.infer_schema(people(), rare=20, drop=["age"], codes="region", public=("region",), clip=True)
    kinds = {name: column["kind"] for name, column in schema["columns"].items()}
    assert kinds == {
        "id": "identifier",
        "region": "categorical",
        "job": "categorical",
        "empty": "skip",
        "age": "skip",
    }
    assert schema["columns"]["job"] == {
        "kind": "categorical",
        "values": ["a", "b", "c"],
        "other": "OTHER",
        "dtype": "str",
    }
    assert schema["columns"]["region"]["values"] == ["1", "2", "3", "4"]
    assert (schema["draft"], schema["outside"], schema["public"]) == (True, "clip", ["region"])


def test_an_edited_schema_is_not_a_draft_again():
    schema = feller.infer_schema(people())
    assert feller.infer_schema(people(), schema)["draft"] is True
    del schema["draft"]
    edited = feller.infer_schema(people(), schema, identifier=["id"], config=None)
    assert "draft" not in edited
    assert edited["columns"]["id"]["kind"] == "identifier"
    with open("schema.json", "w") as file:
        json.dump(edited, file)
    assert feller.infer_schema(people(), "schema.json") == edited
    assert feller.infer_schema(people(), feller.Schema.from_dict(edited)) == edited


def test_runs_lack_skipped_columns():
    schema = feller.infer_schema(people(), drop=["age"], codes=["region"], rare=20)
    run = feller.fit(people(), schema=schema, recipe="table-marginals", report=False, out="r")
    drawn = run.sample(50)
    assert [*drawn.columns] == ["id", "region", "job"]
    assert drawn["region"].isin([1, 2, 3, 4]).all()
    assert drawn["region"].dtype == "int64"
    with refuses(feller.UsageError, argument="age"):
        run.sample(5, given={"age": 30})
    with refuses(feller.InputError, remedy="Remove the column"):
        run.sample(complete=people()[["age", "job"]][:5])


def test_values_in_rules_and_of_public_columns_stay():
    schema = feller.infer_schema(people())
    schema["rules"] = [{"if": {"job": ["rare 1"]}, "then": {"region": ["1", "2", "3", "4"]}}]
    assert feller.infer_schema(people(), schema, rare=20)["columns"]["job"]["values"] == ["a", "b", "c", "rare 1"]
    del schema["rules"]
    kept = feller.infer_schema(people(), schema, rare=20, public=["job"])
    assert kept["columns"]["job"] == schema["columns"]["job"]


def test_references_are_checked():
    schema = feller.infer_schema(people())
    schema["rules"] = [{"if": {"job": ["a"]}, "then": {"region": ["1", "2"]}}]
    with refuses(feller.InputError, argument="text", remedy="Change that part of the schema first"):
        feller.infer_schema(people(), schema, text=["job"])
    with refuses(feller.InputError, argument="codes", remedy="Did you mean 'region'?"):
        feller.infer_schema(people(), codes=["regoin"])
    with refuses(feller.UsageError, argument="rare"):
        feller.infer_schema(people(), rare=0)
    with refuses(feller.InputError, column="empty"):
        feller.infer_schema(people(), codes=["empty"])
    with refuses(feller.InputError, argument="public", remedy="Did you mean 'job'?"):
        feller.Schema.from_dict({"columns": {"job": {"kind": "boolean"}}, "public": ["jobs"]})


def test_too_rare_columns_are_skipped():
    schema = feller.infer_schema(pd.DataFrame({"a": list("abcdefgh") * 4, "b": [1, 2] * 16}), rare=10)
    assert schema["columns"]["a"] == {"kind": "skip"}
