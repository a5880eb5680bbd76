"""Large tables are written in parts: the files equal those of all rows at once, and failures leave no file."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch

from feller import open_run
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.workflows.sample import sample
from feller.app.workflows.sampler import make_sampler
from feller.core.errors import InputError, UsageError
from feller.data.tables import raking, table_writer
from feller.models.model import Model
from tests.app import asked
from tests.errors import refuses

PART = 30


def people(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    visits = pd.array(rng.integers(0, 9, n), dtype="Int64")
    visits[rng.random(n) < 0.1] = pd.NA
    return pd.DataFrame(
        {
            "person": [f"C-{i:04d}" for i in range(1, n + 1)],
            "visits": visits,
            "income": rng.lognormal(8, 1, n).round(2),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "smokes": rng.random(n) < 0.3,
            "word": pd.Categorical(rng.choice(["a, b", "c", 'd"e'], n)),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("streamed")
    people().to_parquet(home / "people.parquet")
    asked.run("fit", home / "people.parquet", "--recipe", "table-marginals", "--report", "none", "--out", home / "run")
    return open_run(home / "run")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(raking, "ROWS_PER_PART", PART)


def write(run, out, *, in_parts, **options):
    return sample(run, config_of(SampleConfig, out=str(out), **options), keeps_samples=not in_parts)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_text_files_are_equal(run, tmp_path, ending):
    write(run, tmp_path / f"whole.{ending}", in_parts=False, n=100, seed=3)
    result = write(run, tmp_path / "deep" / f"parts.{ending}", in_parts=True, n=100, seed=3)
    assert (tmp_path / f"whole.{ending}").read_bytes() == result.path.read_bytes()
    assert (result.n, result.data) == (100, None)
    with refuses(UsageError, argument="samples"):
        _ = result.dataset


def test_parquet_files_are_equal(run, tmp_path):
    write(run, tmp_path / "whole.parquet", in_parts=False, n=100, seed=3)
    write(run, tmp_path / "parts.parquet", in_parts=True, n=100, seed=3)
    whole, parts = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)
    assert parts.person.tolist() == [f"C-{i:04d}" for i in range(1, 101)]
    assert str(parts.visits.dtype) == "Int64"
    assert pyarrow.parquet.ParquetFile(tmp_path / "parts.parquet").num_row_groups == 4


def test_a_part_without_missing_cells_has_the_types_of_all_parts(run, tmp_path):
    table = make_sampler(run).model.spec.modality
    j = table.schema.place("visits")
    values = make_sampler(run).draw(2 * PART).values
    values[:, j] = 0
    values[PART:, j] = table.counts[j] - 1  # missing
    cells = [table.cells(part) for part in values.split(PART)]
    with table_writer.table_writer(tmp_path / "a.parquet", table.schema, table.dialect) as append:
        for part in cells:
            append(part)
    read = pd.read_parquet(tmp_path / "a.parquet")
    assert str(read.visits.dtype) == "Int64"
    assert read.visits.isna().tolist() == [False] * PART + [True] * PART


def test_given_cells_and_conditions(run, tmp_path):
    given = {"income": "1234.56", "word": "c"}
    write(run, tmp_path / "whole.csv", in_parts=False, n=80, given=given)
    write(run, tmp_path / "parts.csv", in_parts=True, n=80, given=given)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
    assert set(pd.read_csv(tmp_path / "parts.csv").income) == {1234.56}


def test_imputed_rows(run, tmp_path):
    partial = people(100)
    partial.loc[::2, "income"] = np.nan
    partial.drop(columns=["smokes", "person"]).to_csv(tmp_path / "partial.csv", index=False)
    complete = str(tmp_path / "partial.csv")
    write(run, tmp_path / "whole.csv", in_parts=False, complete=complete)
    write(run, tmp_path / "parts.csv", in_parts=True, complete=complete)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
    rows = pd.read_csv(tmp_path / "parts.csv")
    assert (len(rows), int(rows.income.isna().sum())) == (100, 0)


def test_identifiers_of_imputed_rows_are_distinct(run, tmp_path, monkeypatch):
    monkeypatch.setattr("feller.app.workflows.imputation.ROWS_PER_PART", 40)
    people(100).drop(columns="person").to_csv(tmp_path / "partial.csv", index=False)
    write(run, tmp_path / "out.csv", in_parts=False, complete=str(tmp_path / "partial.csv"))
    assert pd.read_csv(tmp_path / "out.csv").person.tolist() == [f"C-{i:04d}" for i in range(1, 101)]


def test_raking_is_done_in_parts(run):
    plain = make_sampler(run)
    model, table = plain.model, plain.model.spec.modality
    spec = replace(model.spec, modality=table.with_marginals_of(plain.draw(200).values))
    sampler = replace(
        plain, model=Model.from_spec(spec, model.network), sampling=replace(plain.sampling, raking_oversample=3)
    )
    whole = sampler.draw(100).values
    parts = [sampler.draw(n, first=first).values for first, n in ((0, 30), (30, 30), (60, 30), (90, 10))]
    assert torch.equal(whole, torch.cat(parts))


def test_a_failure_leaves_no_file(run, tmp_path, monkeypatch):
    calls = []

    def draw(self, n, **options):
        calls.append(n)
        if len(calls) == 3:
            raise InputError("no memory")
        return original(self, n, **options)

    sampler = type(make_sampler(run))
    original = sampler.draw
    monkeypatch.setattr(sampler, "draw", draw)
    with refuses(InputError):
        write(run, tmp_path / "parts.parquet", in_parts=True, n=100)
    assert [*tmp_path.iterdir()] == []


def test_the_command_writes_in_parts(run, tmp_path):
    found = asked.run("sample", run.path, "-n", 100, "--seed", 3, "--out", tmp_path / "a.csv")
    assert (found["samples"], found["n"]) == (str(tmp_path / "a.csv"), 100)
    assert len(pd.read_csv(tmp_path / "a.csv")) == 100
