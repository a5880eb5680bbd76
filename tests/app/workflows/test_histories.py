"""Histories from the fit to the samples: conditions, reports, files, schemas, privacy of persons."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.app.cli import main
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import open_run
from feller.core.serialization import from_dict
from feller.data.tables.histories import Histories
from feller.models.spec import load_spec
from feller.privacy.accounting.ledger import Ledger
from tests.data.tables.test_histories import visits
from tests.errors import refuses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("histories")
    visits(240).to_csv(path / "visits.csv", index=False)
    return path


@pytest.fixture(scope="module")
def run(folder: pathlib.Path) -> feller.FittedRun:
    table = pd.read_csv(folder / "visits.csv", parse_dates=["date"])
    return feller.fit(
        table, person="patient", order="date", size="tiny", steps=30, out=str(folder / "run"), report="full"
    )


def test_samples_are_persons_with_rows_in_order(run: feller.FittedRun) -> None:
    samples = run.sample(50, seed=1)
    assert isinstance(samples, pd.DataFrame)
    assert samples.patient.nunique() == 50
    lengths = samples.groupby("patient").size()
    assert lengths.between(1, 5).all()
    assert lengths.nunique() > 1
    assert (samples.groupby("patient").sex.nunique() == 1).all()
    assert samples.groupby("patient").date.diff().dropna().min() >= pd.Timedelta(0)
    assert samples.dtypes.date.kind == "M"
    again = run.sample(20, seed=1)
    assert isinstance(again, pd.DataFrame)
    kept = again.patient.isin(again.patient.unique()[:20])
    columns = ["patient", "sex", "ward", "shift"]
    pd.testing.assert_frame_equal(again[kept][columns], samples.iloc[: kept.sum()][columns])


def test_attributes_are_given(run: feller.FittedRun) -> None:
    samples = run.sample(30, given={"sex": "F", "num_rows": (2, 3)})
    assert isinstance(samples, pd.DataFrame)
    assert (samples.sex == "F").all()
    assert set(samples.groupby("patient").size()) <= {2, 3}
    with refuses(UsageError, argument="given"):
        run.sample(3, given={"ward": "A"})


def test_reports_have_metrics_of_persons(run: feller.FittedRun) -> None:
    metrics = run.report.metrics
    for name in ("num_rows_ks", "transition_tv", "lag1_difference", "tv2_half"):
        assert 0 <= metrics[name] <= 1, name
        assert metrics[f"{name}_floor"] is not None
    assert metrics["num_rows_mean_real"] == pytest.approx(3, abs=0.4)
    assert metrics["nll"] > 0
    assert run.report.verdict


def test_distances_tell_other_persons_from_others(folder: pathlib.Path, run: feller.FittedRun) -> None:
    """Other real persons are near the floor; persons with one row each are not."""
    own = visits(240, seed=5)
    own.to_csv(folder / "others.csv", index=False)
    own.drop_duplicates("patient").to_csv(folder / "single.csv", index=False)
    near, far = (
        feller.evaluate(run, samples=str(folder / name), data=str(folder / "visits.csv"), seed=0).metrics
        for name in ("others.csv", "single.csv")
    )
    assert near["num_rows_ks"] < 0.2  # 0.09 expected for 120 and 120 persons
    assert far["num_rows_ks"] > 0.6


def test_log_probabilities_are_of_persons(run: feller.FittedRun) -> None:
    table = visits(12, seed=3)
    values = run.log_prob(table)
    assert len(values) == 12
    assert (values < 0).all()
    assert np.isfinite(values).all()


def test_command_line(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    fit = ["fit", "visits.csv", "--person", "patient", "--order", "date", "--max-rows", "3", "--size", "tiny"]
    assert main([*fit, "--steps", "3", "--report", "none", "--out", "cut"]) == 0
    assert main(["sample", "cut", "-n", "20", "--given", "sex=M", "--out", "cut.parquet"]) == 0
    samples = pd.read_parquet("cut.parquet")
    assert (samples.sex == "M").all()
    assert samples.groupby("patient").size().max() <= 3
    assert main(["fit", "--resume", "--out", "cut"]) == 0
    assert main(["fit", "visits.csv", "--order", "date", "--out", "no"]) == 2
    assert main(["fit", "visits.csv", "--person", "patint", "--out", "no"]) == 1
    private = ["fit", "visits.csv", "--person", "patient", "--epsilon", "4", "--out", "no"]
    assert main([*private, "--order", "ward"]) == 1
    assert main([*private, "--order", "day"]) == 1
    assert not pathlib.Path("no", "ledger.json").exists()
    assert main(["sample", "cut", "--complete", "visits.csv", "--out", "whole.csv"]) == 1  # more than 3 rows
    assert not pathlib.Path("no", "weights.safetensors").exists()


def test_private_fits_protect_persons(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    draft = ["data", "schema", "visits.csv", "--person", "patient", "--order", "date", "--clip", "--out", "visits.json"]
    assert main(draft) == 0
    schema = json.loads(pathlib.Path("visits.json").read_text())
    assert schema["history"]["attributes"] == ["sex"]
    fit = ["fit", "visits.csv", "--schema", "visits.json", "--epsilon", "8", "--size", "tiny", "--steps", "4"]
    assert main([*fit, "--unsafe-seed", "1", "--report", "quick", "--out", "private"]) == 0
    run = open_run("private")
    ledger = from_dict(Ledger, run.read_record(run.ledger))
    assert ledger.n < 240
    assert ledger.epsilon() <= 8
    modality = load_spec(run).modality.view(Histories)
    assert modality is not None
    assert modality.crosstabs
    assert modality.crosstab_rows == ledger.n
    assert main(["sample", "private", "-n", "20", "--out", "private.csv"]) == 0
    assert (pd.read_csv("private.csv").groupby("patient").sex.nunique() == 1).all()


def test_private_fits_need_no_schema(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    visits(500).to_csv("more.csv", index=False)
    fit = ["fit", "more.csv", "--person", "patient", "--order", "date", "--epsilon", "8", "--size", "tiny"]
    assert main([*fit, "--steps", "2", "--unsafe-seed", "1", "--report", "none", "--out", "found"]) == 0
    run = open_run("found")
    ledger = from_dict(Ledger, run.read_record(run.ledger))
    assert ledger.n < 500
    assert 7 < ledger.epsilon() <= 8
    labels = [getattr(event, "label", "") for event in ledger.events]
    assert {"kinds of the columns", "numbers of rows of persons", "differences from row to row"} <= {*labels}
    modality = load_spec(run).modality.view(Histories)
    assert modality is not None
    assert modality.history.attributes == ("sex",)
    assert 4 <= modality.history.max_rows <= 8
    assert main(["sample", "found", "-n", "30", "--out", "found.csv"]) == 0
    samples = pd.read_csv("found.csv", parse_dates=["date"])
    assert (samples.groupby("patient").sex.nunique() == 1).all()
    assert samples.groupby("patient").date.diff().dropna().min() >= pd.Timedelta(0)
    assert main(["audit", "found", "--report", "none"]) == 0  # reads the same persons again


def test_counts_of_a_person_change_one_window(folder: pathlib.Path) -> None:
    """All rows of one person change one window and one row, so the sensitivity is that of one row of a table."""
    table = visits(30)
    schema = feller.infer_schema(table, person="patient", order="date")
    data = feller.read(table, schema=schema)
    modality = data.modality.view(Histories)
    assert modality is not None
    last = table.patient == table.patient.unique()[-1]
    other = table[~last | ~table.patient.duplicated()].copy()
    other.loc[other.patient == table.patient.unique()[-1], "ward"] = "B"
    changed = feller.read(other, schema=schema)
    u = torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for count in (modality.windows_of, modality.one_row_each):
        differs = (count(data.values, u) != count(changed.values, u)).any(1)
        assert differs.sum() <= 1


def test_one_person_is_refused(folder: pathlib.Path) -> None:
    table = visits(1)
    table = pd.concat([table, table.assign(date=table.date + pd.Timedelta(days=40))])
    with refuses(InputError, argument="data"):
        feller.fit(table, person="patient", order="date", steps=2, report=False)
