"""Fit, sample, impute and evaluate with tables of a database: types, overwriting, and passwords that are not stored."""

import json

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql

import feller
from feller import open_run
from feller.app.config import FitConfig, SampleConfig
from feller.app.options import config_of
from feller.app.workflows.sample import sample
from feller.core.errors import InputError, UsageError
from feller.data.tables import raking
from tests.app import asked
from tests.errors import refuses


def people(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "key": np.arange(n),
            "age": rng.integers(18, 80, n),
            "when": pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 400, n), unit="D"),
            "group name": rng.choice(["a", "b", 'c"'], n),
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("databases")
    engine = sql.create_engine(f"sqlite:///{path}/people.db")
    people().set_index("key").to_sql("people", engine)
    engine.dispose()
    asked.run(
        "fit",
        f"sqlite:///{path}/people.db?password=hush#people",
        "--recipe",
        "table-marginals",
        "--report",
        "none",
        "--out",
        path / "run",
    )
    return path


@pytest.fixture
def run(home):
    return open_run(home / "run")


def rows(home, name):
    engine = sql.create_engine(f"sqlite:///{home}/people.db")
    frame = pd.read_sql_table(name, engine)
    engine.dispose()
    return frame


def write(run, url, **options):
    return sample(run, config_of(SampleConfig, out=url, **options))


def test_no_file_of_a_run_has_the_password(home):
    recipe = json.loads((home / "run" / "recipe.json").read_text())
    assert f"sqlite:///{home}/people.db#people" in json.dumps(recipe)
    contents = [path.read_bytes() for path in (home / "run").rglob("*") if path.is_file()]
    assert not any(b"hush" in content for content in contents)
    assert "hush" not in repr(FitConfig(data=f"sqlite:///{home}/people.db?password=hush#people"))


def test_evaluation_reads_the_table_again(home, run):
    numbers = asked.run("evaluate", run.path, "-n", 200)
    assert numbers["tv1"] < 0.5


def test_rows_of_a_database_equal_those_of_a_file(home, run, monkeypatch):
    monkeypatch.setattr(raking, "ROWS_PER_PART", 40)
    url = f"sqlite:///{home}/people.db#new rows"
    found = asked.run("sample", run.path, "-n", 100, "--seed", 2, "--out", url)
    assert (found["samples"], found["n"]) == (url, 100)
    frame = feller.sample(run, n=100, seed=2, verbose=False)
    pd.testing.assert_frame_equal(rows(home, "new rows"), frame, check_dtype=False)


def test_existing_tables_are_kept_without_overwrite(home, run):
    url = f"sqlite:///{home}/people.db#kept"
    write(run, url, n=5)
    with refuses(UsageError, file=url):
        write(run, url, n=6)
    assert len(rows(home, "kept")) == 5
    write(run, url, n=7, overwrite=True)
    assert len(rows(home, "kept")) == 7


def test_a_failure_leaves_no_table(home, run, monkeypatch):
    monkeypatch.setattr(raking, "ROWS_PER_PART", 40)
    calls = []

    def fail(self, n, **options):
        calls.append(n)
        if len(calls) == 2:
            raise InputError("no memory")
        return original(self, n, **options)

    from feller.app.workflows.sampler import Sampler

    original = Sampler.draw
    monkeypatch.setattr(Sampler, "draw", fail)
    with refuses(InputError):
        write(run, f"sqlite:///{home}/people.db#broken", n=100)
    engine = sql.create_engine(f"sqlite:///{home}/people.db")
    assert "broken" not in sql.inspect(engine).get_table_names()
    engine.dispose()


def test_imputation_from_and_to_a_database(home, run):
    engine = sql.create_engine(f"sqlite:///{home}/people.db")
    partial = people(50).astype({"age": "Int64"})
    partial.loc[::2, "age"] = pd.NA
    partial.drop(columns="key").to_sql("partial", engine, index=False)
    engine.dispose()
    write(run, f"sqlite:///{home}/people.db#complete", complete=f"sqlite:///{home}/people.db#partial")
    frame = rows(home, "complete")
    assert frame.age[1::2].tolist() == partial.age[1::2].tolist()
    assert not frame.age.isna().any()


def test_an_output_without_a_table_is_refused(home, run):
    with refuses(UsageError, argument="out"):
        write(run, f"sqlite:///{home}/people.db", n=5)
    with refuses(UsageError, argument="out"):
        write(run, f"sqlite:///{home}/people.db#select 1", n=5)
    with refuses(UsageError, argument="shard_size"):
        write(run, f"sqlite:///{home}/people.db#shards", n=5, shard_size=2)


def test_a_private_fit_and_a_schema(home, tmp_path):
    url = f"sqlite:///{home}/people.db#people"
    asked.run("data", "schema", url, "--drop", "key", "--out", tmp_path / "schema.json")
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert schema["columns"]["age"]["kind"] == "numerical"
    words = ("--epsilon", 20, "--recipe", "table-marginals", "--report", "none")
    asked.run("fit", url, *words, "--out", tmp_path / "run")
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert ledger
